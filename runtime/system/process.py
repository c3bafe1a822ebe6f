"""Ownership of this process: a command and a worker may change what belongs to a host."""

from __future__ import annotations

__all__ = ["own_process", "owns_process"]

_owned: list[bool] = []


def own_process() -> None:
    """Declare that nstrt is this process's program, and not a library in another one."""
    _owned[:] = [True]


def owns_process() -> bool:
    """True after :func:`own_process`."""
    return bool(_owned)
