"""Gram matrices of paintings, kept for the next picture in the same style and size."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_BYTES", "GramCache", "GramKey"]

MOST_BYTES = 64_000_000
"""Memory for targets: those of relu1_1 to relu5_1 take 2.4 MB a scale, so some five pictures."""


class _Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


Array = TypeVar("Array", bound=_Sized)


@dataclass(frozen=True, kw_only=True)
class GramKey:
    """All that the Gram matrices of a painting depend on, besides the engine that has them."""

    painting: str
    """Of the painting's values at the size it is looked at: see :meth:`digest`."""

    layers: tuple[str, ...]
    """The layers of the style loss; their weights do not shape targets."""

    mean: bool
    """Whether Gram matrices are divided by the number of positions."""

    tile: int | None
    """The tiles that it was looked at in, which change the rounding of sums."""

    @staticmethod
    def digest(values: NDArray[np.float32]) -> str:
        """A checksum of a painting as the network sees it, of any layout; 2 ms for 512 pixels.

        The values and not the file's name: a painting that was matched to a photo's lightness
        or cropped is another painting.
        """
        found = hashlib.sha256(str(values.shape).encode())
        found.update(np.ascontiguousarray(values).data)
        return found.hexdigest()


class GramCache(Generic[Array]):
    """Keeps targets, by layer, within ``most`` bytes; those not asked for longest go first.

    Targets are shared, so whoever gets them must not write into them. Not for several threads at
    once.
    """

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most = most
        self._kept: OrderedDict[GramKey, Mapping[str, Array]] = OrderedDict()

    def obtain(
        self, key: GramKey, compute: Callable[[], Mapping[str, Array]]
    ) -> Mapping[str, Array]:
        """The targets of ``key``, from ``compute`` where they are not known yet.

        What ``compute`` raises is raised, and nothing is kept.
        """
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = compute()
        self._kept.move_to_end(key)
        while self.nbytes > self._most:
            self._kept.popitem(last=False)
        return found

    @property
    def nbytes(self) -> int:
        """Memory that is taken."""
        return sum(array.nbytes for kept in self._kept.values() for array in kept.values())

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
