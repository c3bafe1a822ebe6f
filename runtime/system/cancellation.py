"""Interrupt a computation from another thread, between two layers of the network."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Interrupt", "Interrupted"]


class Interrupted(Exception):  # noqa: N818 - requested, not an error
    """A computation ended because its interrupt was requested."""


class Interrupt:
    """Flag that any thread may set and that a computation checks between layers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requested = False
        self._callback: Callable[[], None] | None = None

    def request(self) -> None:
        """End the running computation and every later one with this interrupt."""
        with self._lock:
            self._requested = True
            if self._callback is not None:
                self._callback()

    def check(self) -> None:
        """Raise :class:`Interrupted` if :meth:`request` was called."""
        if self._requested:
            raise Interrupted

    @contextmanager
    def on_request(self, callback: Callable[[], None]) -> Iterator[None]:
        """Call ``callback``, in the requesting thread, on a request while the block runs.

        This serves computations with their own flag, such as ONNX Runtime. An exception of the
        block becomes :class:`Interrupted` after a request.
        """
        with self._lock:
            self._callback = callback
        try:
            self.check()
            yield
        except Exception:
            self.check()
            raise
        finally:
            with self._lock:
                self._callback = None
