"""The style loss's two matrix products: a Gram matrix, and what its gradient pulls features by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from nstrt.runtime.arrays import Array
from nstrt.runtime.kernels.compiled import working_loops
from nstrt.runtime.kernels.gram import plain

__all__ = ["GramProducts", "GramSum", "products_for"]


class GramSum(Protocol):
    """A Gram matrix F F', channels x channels, from features F, channels x rows x columns, of one
    place of a picture after another."""

    def add(self, values: Array) -> None:
        """More positions."""

    def matrix(self) -> Array:
        """F F'."""


class GramProducts(Protocol):
    """How they are computed."""

    @property
    def GramSum(self) -> Callable[[int, Array], GramSum]:  # noqa: N802 - a class
        """From the number of channels, and an array like the features."""

    def add_pull(self, gradient: Array, pull: Array, values: Array) -> None:
        """gradient += D F for D, channels x channels; the gradient is like the features."""


def products_for(values: Array, *, large: bool) -> GramProducts:
    """Compiled loops where they work and the picture is large enough to pay for loading them; else
    those of the arrays' own library."""
    single = getattr(values, "is_cpu", False) is True and values.element_size() == 4
    if large and single:
        return working_loops("gram.compiled") or plain
    return plain
