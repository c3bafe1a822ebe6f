"""Cache of paintings' Gram matrices for the next run with the same style and size."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_BYTES", "GramCache", "GramKey"]

MAX_BYTES = 64_000_000
"""Bytes of the cache. Matrices of relu1_1 to relu5_1 take 2.4 MB a scale: room for five runs."""


class _Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


Array = TypeVar("Array", bound=_Sized)


@dataclass(frozen=True, kw_only=True)
class GramKey:
    """Everything that a painting's Gram matrices depend on, besides the engine."""

    painting: str
    """Digest of the painting's values at its size; see :meth:`digest`."""

    layers: tuple[str, ...]
    """Layers of the style loss."""

    mean: bool
    """Gram matrices are divided by the number of positions."""

    tile: int | None
    """Side of the tiles, which change the rounding of sums; None for the whole."""

    @staticmethod
    def digest(values: NDArray[np.float32]) -> str:
        """SHA-256 of a painting's values in any memory layout; 2 ms for 512 pixels.

        Not of the file: a painting that was cropped or matched to a photo is another painting.
        """
        digest = hashlib.sha256(str(values.shape).encode())
        digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()


class GramCache(Generic[Array]):
    """Least recently used cache of Gram matrices by layer, within ``max_bytes``.

    Callers share the arrays and must not write into them. Not thread-safe.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[GramKey, Mapping[str, Array]] = OrderedDict()

    def obtain(
        self, key: GramKey, compute: Callable[[], Mapping[str, Array]]
    ) -> Mapping[str, Array]:
        """The matrices of ``key``, from ``compute`` if they are not in the cache.

        If ``compute`` raises, nothing is stored.
        """
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = compute()
        self._entries.move_to_end(key)
        while self.nbytes > self._max_bytes:
            self._entries.popitem(last=False)
        return entry

    @property
    def nbytes(self) -> int:
        """Bytes in use."""
        return sum(array.nbytes for entry in self._entries.values() for array in entry.values())

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        """Remove all entries."""
        self._entries.clear()
