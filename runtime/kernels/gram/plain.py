"""The products by the library of the arrays."""

from __future__ import annotations

from nstrt.runtime.arrays import Array, arrays_of

__all__ = ["GramSum", "add_pull"]


class GramSum:
    """See :class:`GramSum`."""

    def __init__(self, channels: int, like: Array) -> None:
        self._sum = arrays_of(like).zeros((channels, channels), like)

    def add(self, values: Array) -> None:
        """More positions."""
        arrays_of(values).add_gram(self._sum, values.reshape(len(values), -1))

    def matrix(self) -> Array:
        """F F'."""
        return self._sum


def add_pull(gradient: Array, pull: Array, values: Array) -> None:
    """See :class:`GramProducts`."""
    arrays_of(gradient).add_matmul(gradient, pull, values.reshape(len(values), -1))
