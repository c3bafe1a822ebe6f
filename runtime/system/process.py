"""This process: who owns its settings, and if the threads of the libraries are in it."""

from __future__ import annotations

import os

from nstrt.runtime.errors import ForkedProcessError

__all__ = ["enter_process", "own_process", "owns_process"]

_owned: list[bool] = []

_process: list[int] = []
"""Number of the process in which the libraries have started their threads."""


def own_process() -> None:
    """Declare that nstrt is this process's program, and not a library in another one."""
    _owned[:] = [True]


def owns_process() -> bool:
    """True after :func:`own_process`."""
    return bool(_owned)


def enter_process() -> None:
    """Note that the libraries work in this process.

    Raises :class:`ForkedProcessError` in a fork of it, in which they would wait forever for the
    threads that they had.
    """
    if not _process:
        _process.append(os.getpid())
    if _process[0] != os.getpid():
        raise ForkedProcessError(
            "This process was forked after nstrt had worked in it, and lacks its threads; start "
            "processes with multiprocessing's 'spawn' or 'forkserver'."
        )
