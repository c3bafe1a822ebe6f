"""Interrupt a computation from another thread, between two layers of the network."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["Interrupt", "Interrupted", "check_interrupt"]


class Interrupted(Exception):  # noqa: N818 - requested, not an error
    """A computation ended because its interrupt was requested."""

    def __str__(self) -> str:
        return "The run was ended before it had a result."


class Interrupt:
    """Flag that any thread may set and that a computation checks between layers."""

    def __init__(self) -> None:
        # A signal's handler may request while this thread holds the lock.
        self._lock = threading.RLock()
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

    @contextmanager
    def governing(self) -> Iterator[None]:
        """Let :func:`check_interrupt` check this interrupt while the block runs."""
        token = _governing.set(self)
        try:
            self.check()
            yield
            self.check()
        finally:
            _governing.reset(token)


_governing: ContextVar[Interrupt | None] = ContextVar("_governing", default=None)


def check_interrupt() -> None:
    """Raise :class:`Interrupted` if the loading that this code is part of was interrupted.

    Slow parts of loading call it: exports, measurements.
    """
    interrupt = _governing.get()
    if interrupt is not None:
        interrupt.check()
