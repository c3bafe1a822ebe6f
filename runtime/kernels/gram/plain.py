"""Gram matrices and their gradient by NumPy or torch."""

from __future__ import annotations

from nstrt.runtime.arrays import Array, arrays_of

__all__ = ["GramSum", "add_gram_gradient"]


class GramSum:
    """See :class:`nstrt.runtime.kernels.gram.GramSum`."""

    def __init__(self, channels: int, like: Array) -> None:
        self._sum = arrays_of(like).zeros((channels, channels), like)

    def add(self, values: Array) -> None:
        arrays_of(values).add_gram(self._sum, values.reshape(len(values), -1))

    def matrix(self) -> Array:
        return self._sum


def add_gram_gradient(
    gradient: Array, factor: Array, values: Array, shift: Array | None = None
) -> None:
    """See :class:`GramProducts`."""
    arrays_of(gradient).add_matmul(gradient, factor, values.reshape(len(values), -1))
    if shift is not None:
        gradient += shift[:, None, None]
