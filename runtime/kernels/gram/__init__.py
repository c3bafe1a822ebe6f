"""The two matrix products of the style losses: Gram matrices, and the gradient at features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from nstrt.runtime.arrays import Array
from nstrt.runtime.kernels.compiled import load_compiled
from nstrt.runtime.kernels.gram import plain

__all__ = ["GramProducts", "GramSum", "products_for"]


class GramSum(Protocol):
    """Gram matrix F F', channels x channels, summed over regions of a feature map."""

    def add(self, values: Array) -> None:
        """Add the features of a region, channels x rows x columns."""

    def matrix(self) -> Array:
        """Return F F' over all regions."""


class GramProducts(Protocol):
    """Implementation of both products, a module."""

    @property
    def GramSum(self) -> Callable[[int, Array], GramSum]:  # noqa: N802 - a class
        """Class of :class:`GramSum`, built from the channels and an array like the features."""

    def add_gram_gradient(
        self, gradient: Array, factor: Array, values: Array, shift: Array | None = None
    ) -> None:
        """Add factor · F + shift to ``gradient``, for a factor of channels x channels and a shift
        of one number for each channel, or none.

        ``gradient`` and the features F, ``values``, are channels x rows x columns.
        """


def products_for(values: Array, *, large: bool) -> GramProducts:
    """Choose compiled loops for float32 features of a large image in main memory, if they work.

    Otherwise the arrays' own library.
    """
    single = getattr(values, "is_cpu", False) is True and values.element_size() == 4
    if large and single:
        return load_compiled("gram.compiled") or plain
    return plain
