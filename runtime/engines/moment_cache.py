"""Cache of paintings' moments for the next run with the same style and size."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.loss.moments import Moments

__all__ = ["MAX_BYTES", "MomentCache", "MomentKey"]

MAX_BYTES = 64_000_000
"""Bytes of the cache. Moments of relu1_1 to relu5_1 take 2.4 MB a scale: room for five runs."""


@dataclass(frozen=True, kw_only=True)
class MomentKey:
    """Everything that a painting's moments depend on, besides the engine."""

    painting: str
    """Digest of the painting's values at its size; see :meth:`digest`."""

    layers: tuple[str, ...]
    """Layers of the style loss."""

    loss: str
    """Style loss, which decides which moments there are."""

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


class MomentCache:
    """Least recently used cache of moments by layer, within ``max_bytes``.

    Callers share the arrays and must not write into them. Not thread-safe.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[MomentKey, Mapping[str, Moments]] = OrderedDict()

    def obtain(
        self, key: MomentKey, compute: Callable[[], Mapping[str, Moments]]
    ) -> Mapping[str, Moments]:
        """The moments of ``key``, from ``compute`` if they are not in the cache.

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
        return sum(moments.nbytes for entry in self._entries.values() for moments in entry.values())

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        """Remove all entries."""
        self._entries.clear()
