"""Load a picture from a file, an array, a tensor or a Pillow image."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.errors import OptionError

if TYPE_CHECKING:
    pass

from nstrt.runtime.pictures.picture import Picture, PictureSource
from nstrt.runtime.pictures.read import read_picture

__all__ = ["as_picture"]


def as_picture(source: PictureSource) -> Picture:
    """Make a picture of a path, a Pillow picture, an array, a torch tensor or a picture.

    Tensors are (3, height, width) or (1, 3, height, width) between 0 and 1.
    """
    if isinstance(source, Picture):
        return source
    if isinstance(source, str | Path):
        return read_picture(source)
    if isinstance(source, np.ndarray):
        return Picture.from_array(source)
    # An object of these kinds can exist only if its package is loaded already.
    torch: Any = sys.modules.get("torch")
    if torch is not None and isinstance(source, torch.Tensor):
        return Picture.from_array(_tensor_values(source))
    if "PIL.Image" in sys.modules:
        from PIL import Image

        if isinstance(source, Image.Image):
            return Picture.from_pillow(source)
    raise OptionError(
        "A picture must be a file path, a Pillow image, a NumPy array, a torch tensor or a "
        f"Picture, not {type(source).__name__}."
    )


def _tensor_values(tensor: Any) -> NDArray[Any]:
    values = tensor.detach().cpu()
    if values.dim() == 4 and values.shape[0] == 1:
        values = values[0]
    if values.dim() != 3 or values.shape[0] != 3:
        raise OptionError(
            "A picture tensor must be (3, height, width) or (1, 3, height, width), "
            f"not {tuple(tensor.shape)}."
        )
    if values.is_floating_point():
        values = values.float()
    channels_last: NDArray[Any] = values.permute(1, 2, 0).numpy()
    return channels_last
