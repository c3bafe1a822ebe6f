"""Waits for the end of the host program's process."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable

from nstrt.runtime.errors import OptionError

__all__ = ["process_waiter"]

POLL_SECONDS = 0.4
"""Seconds between polls where the system has no process descriptors."""


def process_waiter(pid: int) -> Callable[[], None]:
    """Return a function that waits until the process ``pid`` has ended.

    Raises :class:`OptionError` if there is no such process.
    """
    return _descriptor_waiter(pid) or _polling_waiter(pid)


def _descriptor_waiter(pid: int) -> Callable[[], None] | None:
    """Wait on a process descriptor, which a later process with the same number does not have."""
    pidfd_open = getattr(os, "pidfd_open", None)
    if pidfd_open is None:
        return None
    try:
        descriptor = pidfd_open(pid)
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


def _polling_waiter(pid: int) -> Callable[[], None]:
    import psutil

    try:
        process = psutil.Process(pid)
    except (psutil.Error, ValueError, OverflowError) as error:
        raise _no_process(pid) from error

    def wait() -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            # ``is_running`` compares start times: process numbers are reused.
            while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                time.sleep(POLL_SECONDS)

    return wait


def _no_process(pid: int) -> OptionError:
    return OptionError(f"There is no process {pid} to work for; --host-pid names a running one.")
