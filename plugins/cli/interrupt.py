"""Ctrl-C: the first one is a wish, the second one an order."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["stop_on_sigint"]


@contextmanager
def stop_on_sigint(stop: Callable[[], None], *, at_once: Callable[[], bool]) -> Iterator[None]:
    """While the block runs, Ctrl-C calls ``stop``, which lets it end in good order; where
    ``at_once`` says so, as after a first one, it ends the program."""

    def stopping(number: int, frame: FrameType | None) -> None:
        if at_once():
            raise KeyboardInterrupt
        stop()

    earlier = signal.signal(signal.SIGINT, stopping)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, earlier)
