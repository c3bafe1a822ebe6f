"""Write files atomically: a temporary file beside the target, then a rename; stale temporaries."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nstrt.runtime.system.cancellation import check_interrupt
from nstrt.runtime.system.regular_file import open_regular

__all__ = [
    "atomic_write",
    "cache_folder",
    "real_path",
    "remove_stale_temporaries",
    "rescue_folder",
    "sha256_of",
    "temporary_folder",
    "write_atomically",
]

_CHUNK = 1 << 22
"""Bytes that are hashed between two checks of an interrupt."""

_MARK = ".nstrt-"

_FOLDER_MARK = "nstrt-temporary-"
"""Start of the names of temporary folders."""

_RESCUE_MARK = "nstrt-rescued-"
"""Start of the names of folders for results that could not be saved."""


def cache_folder() -> Path:
    """Return the folder of models and measurements: ``NSTRT_CACHE`` or the user's cache folder."""
    folder = os.environ.get("NSTRT_CACHE")
    if folder:
        return Path(os.path.expanduser(folder))
    import platformdirs

    return Path(platformdirs.user_cache_dir("nstrt", appauthor=False))


def real_path(path: Path) -> Path:
    """An absolute path without links; links that lead in a circle stay as they are."""
    # Path.resolve raises an error for a circle up to Python 3.12.
    return Path(os.path.realpath(path))


@contextmanager
def atomic_write(target: Path, *, mode: int = 0o666) -> Iterator[Path]:
    """Yield a temporary path beside ``target`` and rename it to ``target`` if the block succeeds.

    A block that raises leaves no temporary file and does not change ``target``. A killed process
    leaves at most the temporary file; :func:`remove_stale_temporaries` deletes it later.

    The temporary name keeps the target's suffix, because writers choose their format by it.
    ``mode`` holds the file's permissions, before the process's mask of them.
    """
    target = Path(target)
    # A long name, cut, leaves room for the rest within a file system's limit.
    name = f".{target.stem[:40]}{_MARK}{_owner()}-{secrets.token_hex(4)}{target.suffix}"
    temporary = target.parent / name
    # The system applies the mask of permissions; reading the mask would change it for a moment.
    os.close(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode))
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(target: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write ``content`` to ``target`` with :func:`atomic_write`."""
    with atomic_write(target, mode=mode) as temporary:
        temporary.write_bytes(content)


def remove_stale_temporaries(folder: Path) -> None:
    """Delete temporary files of killed processes in ``folder``, and their temporary folders.

    Files of other users and of running processes stay, and those that cannot be deleted.
    """
    for path in _stale_paths(folder, f".*{_MARK}*", _MARK, stat.S_ISREG):
        with suppress(OSError):
            path.unlink(missing_ok=True)
    _remove_stale_folders()


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a new folder in the folder for temporary files, and delete it afterwards.

    A killed process leaves it; :func:`remove_stale_temporaries` deletes it later.
    """
    _remove_stale_folders()
    prefix = f"{_FOLDER_MARK}{_owner()}-"
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextmanager
def rescue_folder() -> Iterator[Path]:
    """Yield a new folder in the folder for temporary files, which stays if it holds a file."""
    folder = Path(tempfile.mkdtemp(prefix=f"{_RESCUE_MARK}{_owner()}-"))
    try:
        yield folder
    finally:
        with suppress(OSError):
            folder.rmdir()


def _remove_stale_folders() -> None:
    try:
        base = Path(tempfile.gettempdir())
    except OSError:
        return
    for path in _stale_paths(base, f"{_FOLDER_MARK}*", _FOLDER_MARK, stat.S_ISDIR):
        shutil.rmtree(path, ignore_errors=True)
    for path in _stale_paths(base, f"{_RESCUE_MARK}*", _RESCUE_MARK, stat.S_ISDIR):
        for part in _stale_paths(path, f".*{_MARK}*", _MARK, stat.S_ISREG):
            with suppress(OSError):
                part.unlink(missing_ok=True)
        with suppress(OSError):
            # A finished picture keeps the folder.
            path.rmdir()


def _stale_paths(
    folder: Path, pattern: str, mark: str, is_kind: Callable[[int], bool]
) -> list[Path]:
    """Paths of one kind in ``folder`` that this user's killed processes left; no links."""
    found: list[Path] = []
    with suppress(OSError):
        for path in folder.glob(pattern):
            with suppress(OSError):
                status = path.lstat()
                own = not hasattr(os, "getuid") or status.st_uid == os.geteuid()
                if own and is_kind(status.st_mode) and _is_stale(path.name.rpartition(mark)[2]):
                    found.append(path)
    return found


def sha256_of(path: Path, *, limit: int | None = None) -> str:
    """Return the SHA-256 of a regular file in hexadecimal digits.

    Raises the errors of :func:`~nstrt.runtime.system.regular_file.open_regular`, and
    :class:`~nstrt.runtime.system.cancellation.Interrupted` where the loading is interrupted.
    """
    digest = hashlib.sha256()
    with open_regular(path, limit=limit) as file:
        # A file of /proc has the size 0 and may have no end.
        left = os.fstat(file.fileno()).st_size
        while left > 0 and (chunk := file.read(min(left, _CHUNK))):
            check_interrupt()
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()


def _owner() -> str:
    """Host and process, as they are part of temporary names."""
    return f"{_host()}-{os.getpid()}"


def _is_stale(mark: str) -> bool:
    """True if ``mark``, which begins as :func:`_owner`, is of a process that has ended."""
    host, _, rest = mark.partition("-")
    process = rest.partition("-")[0]
    # Process numbers of another machine or container that shares the folder mean nothing here.
    if host != _host() or not re.fullmatch("[0-9]{1,9}", process):
        return False
    return not _alive(int(process))


def _host() -> str:
    """Digits of the machine or container whose process numbers these are."""
    name = platform.node()
    with suppress(OSError):
        # Containers that share the machine's name still count their own processes.
        name += os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def _sync(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _alive(process: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(process))
