"""2x2 pooling of rectified features and the way back through it, with a byte for each window.

The byte says which of a window's positions the gradient goes to. For a maximum it is the
position's number, row by row, or :data:`NOWHERE` and more where the maximum is not above zero; for
a mean it has one bit for each position that is above zero. An odd last row or column is left out.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from nstrt.runtime.kernels.compiled import working_loops
from nstrt.runtime.kernels.pooling import plain
from nstrt.runtime.kernels.pooling.plain import NOWHERE

__all__ = ["NOWHERE", "Pooling", "pooling_for"]


class Pooling(Protocol):
    """Two functions on bands of rows, channels x rows x columns."""

    def pool(
        self, values: Tensor, pooled: Tensor | None, codes: Tensor | None, *, average: bool
    ) -> None:
        """Write the rectified means or maxima of ``values``, which may be below zero still, and
        the codes."""

    def unpool(
        self, gradient: Tensor, codes: Tensor, out: Tensor, low: int, *, average: bool
    ) -> None:
        """Write to ``out``, rows from ``low`` on of the pooling's input, the gradient that they
        have from ``gradient``, that of its whole output."""


def pooling_for(values: Tensor, *, large: bool) -> Pooling:
    """Compiled loops where they work and the picture is large enough to pay for loading them; else
    torch's operations."""
    if large and values.device.type == "cpu" and values.element_size() == 4:
        return working_loops("pooling.compiled") or plain
    return plain
