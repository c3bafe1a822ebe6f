"""NNPACK's Winograd kernels, which some builds of torch contain, through a private operator."""

from __future__ import annotations

import contextlib
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nstrt.runtime.kernels.convolution.winograd_4x4 import write_output

__all__ = ["Nnpack", "nnpack_works"]


class Nnpack:
    """A 3x3 convolution by NNPACK."""

    tile_size = 1
    band_dtype = None
    windowed = False

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight

    def apply(self, band: Tensor, out: Tensor, bias: Tensor | None) -> None:
        write_output(_convolve(band[None], self._weight)[0], out, bias)


@lru_cache(maxsize=1)
def nnpack_works() -> bool:
    """Return True if torch contains NNPACK and it agrees with the public convolution."""
    source = torch.Generator().manual_seed(0)
    x = torch.rand((1, 16, 19, 22), generator=source)
    weight = torch.rand((16, 16, 3, 3), generator=source) - 0.5
    expected = functional.conv2d(x, weight)
    # The operator is private and optional, so every error disables it.
    with contextlib.suppress(Exception):
        backend: Any = torch.backends.nnpack
        # The call initialises the library; without it the operator fails.
        if backend.is_available():
            return bool(torch.allclose(_convolve(x, weight), expected, rtol=1e-3, atol=1e-4))
    return False


def _convolve(x: Tensor, weight: Tensor) -> Tensor:
    out: Tensor = torch._nnpack_spatial_convolution(x, weight, None, padding=0)
    return out
