"""Ending a computation from another thread, between two layers of the network."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Interrupt", "Interrupted"]


class Interrupted(Exception):  # noqa: N818 - asked for, not an error
    """A computation was left because somebody asked for it."""


class Interrupt:
    """Asked from any thread; heeded where the computation looks, between layers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = False
        self._end: Callable[[], None] | None = None

    def ask(self) -> None:
        """End what is under way, and whatever would begin after it."""
        with self._lock:
            self._asked = True
            if self._end is not None:
                self._end()

    @property
    def asked(self) -> bool:
        """Whether :meth:`ask` was called."""
        return self._asked

    def check(self) -> None:
        """Raise :class:`Interrupted` if :meth:`ask` was called."""
        if self._asked:
            raise Interrupted

    @contextmanager
    def ending(self, end: Callable[[], None]) -> Iterator[None]:
        """Have ``end`` called, in the asking thread, if somebody asks while the block runs.

        For computations that look for a flag of their own, as ONNX Runtime's do. What the block
        raises because it was ended leaves it as :class:`Interrupted`.
        """
        with self._lock:
            self._end = end
        try:
            self.check()
            yield
        except Exception:
            self.check()
            raise
        finally:
            with self._lock:
                self._end = None
