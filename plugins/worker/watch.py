"""Whether the program that the worker works for still runs."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable

from nstrt.runtime.errors import OptionError

__all__ = ["end_of_process"]

EVERY = 0.4
"""Seconds between looks where the system cannot tell of itself."""


def end_of_process(pid: int) -> Callable[[], None]:
    """What waits until the process ``pid`` has ended.

    Raises :class:`OptionError` if there is no such process.
    """
    return _by_descriptor(pid) or _by_looking(pid)


def _by_descriptor(pid: int) -> Callable[[], None] | None:
    """Wait by a descriptor of the process, which another one with its number cannot mimic."""
    opening = getattr(os, "pidfd_open", None)
    if opening is None:
        return None
    try:
        descriptor = opening(pid)
    except ProcessLookupError as error:
        raise _no_process(pid) from error
    except (OSError, OverflowError):
        # An old kernel, or a sandbox that does not allow it.
        return None

    def wait() -> None:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while not poll.poll():
            pass

    return wait


def _by_looking(pid: int) -> Callable[[], None]:
    import psutil

    try:
        process = psutil.Process(pid)
    except (psutil.Error, ValueError, OverflowError) as error:
        raise _no_process(pid) from error

    def wait() -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            # ``is_running`` compares the time of the start: numbers are used again.
            while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                time.sleep(EVERY)

    return wait


def _no_process(pid: int) -> OptionError:
    return OptionError(f"There is no process {pid} to work for; --host-pid names a running one.")
