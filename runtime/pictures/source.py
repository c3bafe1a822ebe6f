"""A picture file's bytes: read once, of regular files only, never more than fits."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from nstrt.runtime.errors import PictureReadError, TooLargeError

__all__ = ["MAX_BYTES", "read_content", "shown"]

MAX_BYTES = 3 * 1024**3
"""The largest file that is read: 16-bit pictures of the largest size, uncompressed, fit."""


def read_content(path: str | Path) -> bytes:
    """Read a file whole, and refuse in one sentence what is no readable regular file."""
    name = shown(path)
    try:
        # Looked at before it is opened: opening a device can already do something.
        _check(os.stat(path), name)
        # A pipe that took the file's place meanwhile must not block.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
        with open(handle, "rb") as file:
            _check(os.fstat(file.fileno()), name)
            content = file.read()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise PictureReadError(
            f"There is no picture '{name}'; check the name and the folder."
        ) from error
    except PermissionError as error:
        raise PictureReadError(
            f"The picture '{name}' may not be read; allow reading it, or copy it to your own "
            "folder."
        ) from error
    except OSError as error:
        reason = error.strerror or "unknown error"
        raise PictureReadError(
            f"The picture '{name}' cannot be read ({reason}); copy it to another folder and "
            "try again."
        ) from error
    if not content:
        raise PictureReadError(f"The picture '{name}' is an empty file; copy or save it again.")
    return content


def shown(path: str | Path) -> str:
    """Give a path as text that can be printed and stored, whatever bytes its name has."""
    return os.fspath(path).encode("utf-8", "replace").decode("utf-8")


_BINARY = getattr(os, "O_BINARY", 0)


def _check(status: os.stat_result, name: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise PictureReadError(f"'{name}' is a folder; name a picture inside it.")
    if not stat.S_ISREG(status.st_mode):
        raise PictureReadError(f"'{name}' is not an ordinary file; name a picture file.")
    if status.st_size > MAX_BYTES:
        raise TooLargeError(
            f"The picture '{name}' is a file of {status.st_size / 1024**3:.1f} GB, and at most "
            f"{MAX_BYTES / 1024**3:.0f} GB can be read; save it smaller."
        )
