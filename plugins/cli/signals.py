"""Ctrl-C, SIGTERM and SIGHUP: the first stops in good order, the second ends the program."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["end_on_signals", "exit_code", "stop_on_signals"]

_INTERRUPTED = 130
"""Exit code of a command that was stopped, after the number of SIGINT."""

_LATER = 0.02
"""Seconds between two tries to handle a deferred signal."""

_deferred: list[int] = []
"""Numbers of signals that came where an exception would be lost; a second one does not wait."""

_received: list[int] = []
"""Numbers of the signals that asked this process to end."""


def end_on_signals() -> None:
    """Raise :class:`KeyboardInterrupt` on signals that end a program, as Python does on Ctrl-C.

    Blocks then leave nothing behind. A signal that is ignored, as by nohup, stays ignored.
    """
    for number in _signals():
        signal.signal(number, _end)


@contextmanager
def stop_on_signals(stop: Callable[[], None], *, exit_now: Callable[[], bool]) -> Iterator[None]:
    """Call ``stop`` on Ctrl-C, SIGTERM and SIGHUP while the block runs.

    Raises :class:`KeyboardInterrupt` instead where ``exit_now`` returns true, as after a first
    signal.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if exit_now():
            _end(number, frame)
        else:
            _received.append(number)
            stop()

    previous = {number: signal.signal(number, handle) for number in _signals()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def exit_code(code: int) -> int:
    """The exit code of this process for that of a command: 128 and the first signal's number.

    Further signals end the process without a word, or not at all if they repeat a SIGHUP.
    """
    for number in _signals():
        repeated = number in _received and number == getattr(signal, "SIGHUP", None)
        signal.signal(number, signal.SIG_IGN if repeated else signal.SIG_DFL)
    return 128 + _received[0] if code == _INTERRUPTED and _received else code


def _end(number: int, frame: FrameType | None) -> None:
    """Raise :class:`KeyboardInterrupt`, unless the signal only repeats what was asked before.

    A terminal that closes sends SIGHUP twice, and a logout SIGTERM and SIGHUP.
    """
    hangup = getattr(signal, "SIGHUP", None)
    waits = hasattr(signal, "setitimer") and (not _deferred or number == hangup)
    if waits and _loses_exceptions(frame):
        _deferred.append(number)
        signal.signal(signal.SIGALRM, _handle_deferred)
        signal.setitimer(signal.ITIMER_REAL, _LATER, _LATER)
        return
    first = not _received
    again = number in _received and number != hangup
    _received.append(number)
    if first or again or number == signal.SIGINT:
        raise KeyboardInterrupt


def _loses_exceptions(frame: FrameType | None) -> bool:
    """True in imports, where compiled modules abort or raise others, and in libvips' callbacks."""
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith("<frozen importlib") or "pyvips" in name:
            return True
        frame = frame.f_back
    return False


def _handle_deferred(_: int, frame: FrameType | None) -> None:
    """Handle the deferred signal once an exception can reach the command."""
    if not _loses_exceptions(frame):
        signal.setitimer(signal.ITIMER_REAL, 0)
        handler = signal.getsignal(_deferred[0])
        if callable(handler):
            handler(_deferred[0], frame)


def _signals() -> list[int]:
    """Signals of this system that end a program and are not ignored."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
