"""Open regular files only, so that reading a pipe, a device or a socket never waits."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

__all__ = ["NotRegularError", "open_regular", "read_regular"]


class NotRegularError(OSError):
    """A path leads to a folder, a pipe, a device or a socket."""

    def __init__(self, path: str | Path, mode: int) -> None:
        self.is_folder = stat.S_ISDIR(mode)
        reason = "it is a folder" if self.is_folder else "it is not an ordinary file"
        super().__init__(errno.EISDIR if self.is_folder else errno.EINVAL, reason, os.fspath(path))


def open_regular(path: str | Path, *, limit: int | None = None) -> BinaryIO:
    """Open a file for reading.

    Raises :class:`NotRegularError` for anything but a regular file, and :class:`OSError` with
    ``EFBIG`` for one of more than ``limit`` bytes.
    """
    # The check comes before opening, because opening a device can have side effects.
    _check(path, os.stat(path), limit)
    # O_NONBLOCK: a pipe may have replaced the file since the check, and must not block.
    handle = os.open(path, os.O_RDONLY | _NONBLOCK | _BINARY)
    try:
        _check(path, os.fstat(handle), limit)
        return open(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_regular(path: str | Path, *, limit: int) -> bytes:
    """Read a whole regular file; raises the errors of :func:`open_regular`.

    Files of ``/proc`` count as empty: their size is 0, and some of them have no end.
    """
    with open_regular(path, limit=limit) as file:
        return file.read(os.fstat(file.fileno()).st_size) or b""


_NONBLOCK = getattr(os, "O_NONBLOCK", 0)

_BINARY = getattr(os, "O_BINARY", 0)


def _check(path: str | Path, status: os.stat_result, limit: int | None) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise NotRegularError(path, status.st_mode)
    if limit is not None and status.st_size > limit:
        raise OSError(errno.EFBIG, f"it has {status.st_size / 1024**3:.1f} GB", os.fspath(path))
