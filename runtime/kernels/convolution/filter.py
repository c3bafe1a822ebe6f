"""The weights of a convolution layer, and the interface of convolution kernels."""

from __future__ import annotations

import weakref
from typing import Protocol, TypeGuard

import torch
from torch import Tensor

from nstrt.runtime.kernels.convolution.winograd_4x4 import transform_weight

__all__ = ["Filter", "Kernel", "Windowed", "is_windowed"]


class Kernel(Protocol):
    """An algorithm for the 3x3 convolution of a band, with its weights."""

    @property
    def tile_size(self) -> int:
        """Rows and columns of a band are a multiple of this, plus the border of one pixel."""

    @property
    def band_dtype(self) -> torch.dtype | None:
        """Type of a band in channels-last layout; None for a contiguous band of any type."""

    @property
    def windowed(self) -> bool:
        """True for a :class:`Windowed` kernel."""

    def apply(self, band: Tensor, out: Tensor, bias: Tensor | None) -> None:
        """Write the convolution of ``band``, plus the bias, to ``out``.

        ``out`` is channels x rows x columns, ``bias`` channels x 1 x 1.
        """


class Windowed(Kernel, Protocol):
    """A kernel that reads a window of a plane, with implicit zero padding, and needs no band."""

    def window(
        self,
        source: Tensor,
        top: int,
        left: int,
        out: Tensor,
        bias: Tensor | None,
        *,
        rectified: bool = False,
    ) -> None:
        """Write the convolution of the window at row ``top`` and column ``left`` to ``out``.

        Adds the bias, then applies a ReLU if ``rectified``.
        """


def is_windowed(kernel: Kernel) -> TypeGuard[Windowed]:
    """Return True if the kernel reads windows instead of bands."""
    return kernel.windowed


class Filter:
    """Weights, out x in x 3 x 3, and bias of a convolution layer."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight = weight
        self.bias = bias.view(-1, 1, 1)
        self._winograd_weight: weakref.ref[Tensor] | None = None

    @property
    def channels(self) -> tuple[int, int]:
        """Numbers of input and output channels."""
        return self.weight.shape[1], self.weight.shape[0]

    def directed_weight(self, *, transposed: bool) -> Tensor:
        """Weights of the convolution, or of its transpose written as a convolution."""
        if not transposed:
            return self.weight
        return self.weight.flip(2, 3).transpose(0, 1).contiguous()

    def winograd_weight(self) -> Tensor:
        """Weights transformed for F(4x4, 3x3), shared by both directions while either is alive."""
        weight = self._winograd_weight() if self._winograd_weight else None
        if weight is None:
            weight = transform_weight(self.weight)
            self._winograd_weight = weakref.ref(weight)
        return weight
