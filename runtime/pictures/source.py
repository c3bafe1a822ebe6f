"""Read the bytes of a picture file, from regular files of limited size only."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from nstrt.runtime.errors import PictureReadError, TooLargeError
from nstrt.runtime.system.cancellation import check_interrupt
from nstrt.runtime.system.regular_file import NotRegularError, read_regular

__all__ = ["MAX_BYTES", "display_name", "missing_sentence", "read_file"]

MAX_BYTES = 3 * 1024**3
"""Largest file in bytes; it holds the largest 16-bit picture uncompressed."""


def read_file(path: str | Path) -> bytes:
    """Read a whole file.

    Raises :class:`PictureReadError` for a path that is no readable regular file and
    :class:`TooLargeError` for more than ``MAX_BYTES``.
    """
    name = display_name(path)
    check_interrupt()
    try:
        content = read_regular(path, limit=MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise PictureReadError(missing_sentence(path)) from error
    except PermissionError as error:
        raise PictureReadError(
            f"The picture '{name}' may not be read; allow reading it, or copy it to your own "
            "folder."
        ) from error
    except NotRegularError as error:
        raise PictureReadError(
            f"'{name}' is a folder; name a picture inside it."
            if error.is_folder
            else f"'{name}' is not an ordinary file; name a picture file."
        ) from error
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise TooLargeError(
                f"The picture '{name}' cannot be read: {error.strerror}, and at most "
                f"{MAX_BYTES / 1024**3:.0f} GB can be read; save it smaller."
            ) from error
        reason = error.strerror or "unknown error"
        raise PictureReadError(
            f"The picture '{name}' cannot be read ({reason}); copy it to another folder and "
            "try again."
        ) from error
    if not content:
        raise PictureReadError(f"The picture '{name}' is an empty file; copy or save it again.")
    return content


def missing_sentence(path: str | Path) -> str:
    """A sentence on a file that is not there: an address, a missing folder, a missing file."""
    name = display_name(path)
    address = _ADDRESS.search(name)
    if address:
        # A Path has one slash of the two.
        scheme, rest = address.groups()
        return f"'{scheme}://{rest}' is an address; save the picture first, and name its file."
    try:
        for folder in reversed(Path(path).parents):
            if folder.exists() and not folder.is_dir():
                return f"'{display_name(folder)}' is a file and no folder; check '{name}'."
            if not folder.exists():
                return f"There is no folder '{display_name(folder)}' for '{name}'; check its name."
    except (OSError, ValueError):
        pass
    kind = "picture" if Path(name).suffix else "picture or folder"
    return f"There is no {kind} '{name}'; check the name."


def display_name(path: str | Path) -> str:
    """Return a path as printable text; bytes that are not valid text become question marks."""
    return os.fspath(path).encode("utf-8", "replace").decode("utf-8")


_ADDRESS = re.compile(r"(?:^|[/\\])([A-Za-z][A-Za-z0-9+.-]+):[/\\]{1,2}(.*)")
"""The scheme of an address has two letters at least; a drive of Windows has one."""
