"""Memory of pixels that hosts sent or have not read yet, with one bound for all connections."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from nstrt.plugins.worker.messages import RequestError
from nstrt.runtime.system.memory import tightest_limit

__all__ = ["PixelMemory", "PixelShare"]

SHARE = 0.5
"""Largest share of the free memory that all pixels take together."""

_MEASURED_SECONDS = 0.25
"""Seconds for which a measurement of the free memory holds."""


class PixelMemory:
    """Counts the bytes of all connections. Thread-safe."""

    def __init__(self, free_memory: Callable[[], int] | None = None) -> None:
        """``free_memory`` returns the bytes that this process can still take."""
        self._free_memory = free_memory or (lambda: tightest_limit().left)
        self._lock = threading.Lock()
        self._held = 0
        self._limit = 0
        self._measured = float("-inf")

    def share(self) -> PixelShare:
        """A count for one job or connection."""
        return PixelShare(self)

    def check_room(self, nbytes: int = 0) -> None:
        """Raise :class:`RequestError` if ``nbytes`` more do not fit."""
        with self._lock:
            self._check(nbytes)

    def add(self, nbytes: int, *, checked: bool = True) -> None:
        """Count bytes; raises :class:`RequestError` if they do not fit, unless not ``checked``."""
        with self._lock:
            if checked:
                self._check(nbytes)
            self._held += nbytes

    def remove(self, nbytes: int) -> None:
        """Count bytes no longer."""
        with self._lock:
            self._held -= nbytes

    def _check(self, nbytes: int) -> None:
        now = time.monotonic()
        if now - self._measured > _MEASURED_SECONDS:
            self._limit, self._measured = int(SHARE * (self._free_memory() + self._held)), now
        if self._held + nbytes > self._limit:
            raise RequestError(
                "busy",
                f"The pictures of all jobs may take {self._limit / 1e9:.1f} GB of memory together; "
                "ask again when one has ended.",
            )


class PixelShare:
    """The bytes of one job or connection."""

    def __init__(self, memory: PixelMemory) -> None:
        self._memory = memory
        self._nbytes = 0
        self._lock = threading.Lock()

    def grow(self, nbytes: int) -> None:
        """Count bytes that arrive; raises :class:`RequestError` if they do not fit."""
        self._memory.add(nbytes)
        with self._lock:
            self._nbytes += nbytes

    def release(self) -> None:
        """Count nothing any more."""
        with self._lock:
            nbytes, self._nbytes = self._nbytes, 0
        self._memory.remove(nbytes)
