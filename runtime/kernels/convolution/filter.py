"""A layer's weights, and the interface of the algorithms that convolve with them."""

from __future__ import annotations

import weakref
from typing import Protocol, TypeGuard

import torch
from torch import Tensor

from nstrt.runtime.kernels.convolution.winograd_4x4 import transform_weight

__all__ = ["Filter", "Kernel", "Windowed", "is_windowed"]


class Kernel(Protocol):
    """One way to compute a convolution."""

    @property
    def multiple(self) -> int:
        """Bands have a multiple of this many rows and columns, besides the pixel around."""

    @property
    def rounded(self) -> torch.dtype | None:
        """What bands are rounded to, then with the channels last in memory; None for neither."""

    @property
    def windowed(self) -> bool:
        """Whether it is a :class:`Windowed` one."""

    def apply(self, band: Tensor, out: Tensor, bias: Tensor | None) -> None:
        """Write the convolution of ``band`` into ``out``, channels x rows x columns, and add the
        bias, channels x 1 x 1, if there is one."""


class Windowed(Kernel, Protocol):
    """A kernel that needs no bands: it sees zeros around what there is."""

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
        """As ``apply``, with the band from row ``top`` and column ``left`` of a plane on; perhaps
        with a ReLU after it."""


def is_windowed(kernel: Kernel) -> TypeGuard[Windowed]:
    """Whether it needs no bands."""
    return kernel.windowed


class Filter:
    """The weights of a convolution, out x in x 3 x 3, in the form that each algorithm wants."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight = weight
        self.bias = bias.view(-1, 1, 1)
        self._made: weakref.ref[Tensor] | None = None

    @property
    def channels(self) -> tuple[int, int]:
        """Of its input and of its output."""
        return self.weight.shape[1], self.weight.shape[0]

    def one_way(self, *, transposed: bool) -> Tensor:
        """The weights of the convolution, or those of its transpose, which is one too."""
        if not transposed:
            return self.weight
        return self.weight.flip(2, 3).transpose(0, 1).contiguous()

    def transformed(self) -> Tensor:
        """Weights in the Winograd domain, shared by both directions while either is alive."""
        found = self._made() if self._made else None
        if found is None:
            found = transform_weight(self.weight)
            self._made = weakref.ref(found)
        return found
