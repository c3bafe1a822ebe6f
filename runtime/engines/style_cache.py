"""Cache of paintings' statistics for the next run with the same style and size."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.loss.style_statistics import StyleStatistics

__all__ = ["MAX_BYTES", "StyleCache", "StyleKey"]

MAX_BYTES = 64_000_000
"""Bytes of the cache. Statistics of relu1_1 to relu5_1 take 2.4 MB a scale: room for five runs."""


@dataclass(frozen=True, kw_only=True)
class StyleKey:
    """Everything that a painting's statistics depend on, besides the engine."""

    painting: str
    """Digest of the painting's values and mask at its size; see :meth:`digest`."""

    content_layers: tuple[str, ...]
    """Layers of the content loss."""

    style_layers: tuple[str, ...]
    """Layers of the style loss."""

    loss: str
    """Style loss, which decides which moments there are."""

    mean: bool
    """Gram matrices are divided by the number of positions."""

    tile: int | None
    """Side of the tiles, which change the rounding of sums; None for the whole."""

    @staticmethod
    def digest(*arrays: NDArray[np.float32] | None) -> str:
        """SHA-256 of values in any memory layout; 2 ms for 512 pixels.

        Not of the file: a painting that was cropped or matched to a photo is another painting.
        """
        digest = hashlib.sha256()
        for values in arrays:
            digest.update(str(None if values is None else values.shape).encode())
            digest.update(b"" if values is None else np.ascontiguousarray(values).data)
        return digest.hexdigest()


class StyleCache:
    """Least recently used cache of statistics, within ``max_bytes``.

    Callers share the arrays and must not write into them. Not thread-safe.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[StyleKey, StyleStatistics] = OrderedDict()

    def obtain(self, key: StyleKey, compute: Callable[[], StyleStatistics]) -> StyleStatistics:
        """The statistics of ``key``, from ``compute`` if they are not in the cache.

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
        return sum(entry.nbytes for entry in self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        """Remove all entries."""
        self._entries.clear()
