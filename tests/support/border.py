"""A picture with its mirror image around it, for autograd."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def mirrored(image: Tensor, width: int) -> Tensor:
    """1 x channels x (height + 2 width) x (columns + 2 width), by np.pad of the pixels' numbers."""
    height, columns = image.shape[2:]
    numbers = np.pad(np.arange(height * columns).reshape(height, columns), width, "symmetric")
    return image.flatten(2)[..., torch.tensor(numbers)]
