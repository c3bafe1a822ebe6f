"""Ctrl-C: the first one stops the work in good order, the second one ends the program."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["stop_on_sigint"]


@contextmanager
def stop_on_sigint(stop: Callable[[], None], *, exit_now: Callable[[], bool]) -> Iterator[None]:
    """Call ``stop`` on Ctrl-C while the block runs.

    Raises :class:`KeyboardInterrupt` instead where ``exit_now`` returns true, as after a first
    Ctrl-C.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if exit_now():
            raise KeyboardInterrupt
        stop()

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
