"""The style loss's two matrix products: a Gram matrix, and what its gradient pulls features by."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import Protocol

from nstrt.runtime.arrays import Array
from nstrt.runtime.products import plain

__all__ = ["GramSum", "Products", "compiled_loops", "products_for"]


class GramSum(Protocol):
    """A Gram matrix F F', channels x channels, from features F, channels x rows x columns, of one
    place of a picture after another."""

    def add(self, values: Array) -> None:
        """More positions."""

    def matrix(self) -> Array:
        """F F'."""


class Products(Protocol):
    """How they are computed."""

    @property
    def GramSum(self) -> Callable[[int, Array], GramSum]:  # noqa: N802 - a class
        """From the number of channels, and an array like the features."""

    def add_pull(self, gradient: Array, pull: Array, values: Array) -> None:
        """gradient += D F for D, channels x channels; the gradient is like the features."""


def products_for(values: Array, *, large: bool) -> Products:
    """Compiled loops where they work and the picture is large enough to pay for loading them; else
    those of the arrays' own library."""
    return compiled_loops() or plain if large and _serves(values) else plain


def _serves(values: Array) -> bool:
    """Whether they are torch's, in main memory and single precision."""
    return getattr(values, "is_cpu", False) is True and values.element_size() == 4


@lru_cache(maxsize=1)
def compiled_loops() -> Products | None:
    """Those of Numba, if it is installed and what it compiles agrees with torch's products."""
    if find_spec("numba"):
        # Numba may not fit the other packages, or have no folder for what it compiles.
        with contextlib.suppress(Exception):
            from nstrt.runtime.products import compiled

            if compiled.works():
                return compiled
    return None
