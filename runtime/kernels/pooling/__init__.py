"""2x2 pooling of rectified features and its gradient, with a one-byte code for each window.

The code says which pixels of the window receive the gradient. For a maximum it is the pixel's
number, row by row, plus :data:`NO_GRADIENT` if the maximum is not above zero. For an average it has
a bit for each pixel above zero. An odd last row or column is dropped.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from nstrt.runtime.kernels.compiled import load_compiled
from nstrt.runtime.kernels.pooling import plain
from nstrt.runtime.kernels.pooling.plain import NO_GRADIENT

__all__ = ["NO_GRADIENT", "Pooling", "pooling_for"]


class Pooling(Protocol):
    """Pooling of bands of rows, channels x rows x columns; a module."""

    def pool(
        self, values: Tensor, pooled: Tensor | None, codes: Tensor | None, *, average: bool
    ) -> None:
        """Apply a ReLU to ``values``, and write their maxima or averages and the codes."""

    def unpool(
        self, gradient: Tensor, codes: Tensor, out: Tensor, low: int, *, average: bool
    ) -> None:
        """Write the gradient of the pooling's input, rows from ``low`` on, to ``out``.

        ``gradient`` is that of the whole pooled output.
        """


def pooling_for(values: Tensor, *, large: bool) -> Pooling:
    """Choose compiled loops for float32 features of a large image in main memory, if they work.

    Otherwise torch's operations.
    """
    if large and values.device.type == "cpu" and values.element_size() == 4:
        return load_compiled("pooling.compiled") or plain
    return plain
