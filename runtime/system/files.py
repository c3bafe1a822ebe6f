"""Files are written whole or not at all: a temporary file beside the target, then a rename."""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["cache_folder", "remove_leftovers", "sha256_of", "write_whole", "written_whole"]

_MARK = ".nstrt-"


def cache_folder() -> Path:
    """Where models and measurements are kept: ``NSTRT_CACHE``, or the user's cache folder."""
    chosen = os.environ.get("NSTRT_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("nstrt", appauthor=False))


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Give a temporary path beside ``target`` that becomes ``target`` if the block succeeds.

    A block that raises leaves no file and an earlier ``target`` as it was. A process killed
    inside the block leaves at most the temporary file, never a broken ``target``;
    :func:`remove_leftovers` clears those of processes that are gone.

    The temporary name keeps the target's suffix, because writers choose the format by it.
    """
    target = Path(target)
    handle, name = tempfile.mkstemp(
        dir=target.parent,
        prefix=f".{target.stem}{_MARK}{_host()}-{os.getpid()}-",
        suffix=target.suffix,
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _sync(temporary)
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_whole(target: Path, content: bytes) -> None:
    """Write ``content`` to ``target``, whole or not at all."""
    with written_whole(target) as temporary:
        temporary.write_bytes(content)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that killed processes left in ``folder``."""
    for path in folder.glob(f".*{_MARK}*"):
        host, _, rest = path.name.rpartition(_MARK)[2].partition("-")
        owner = rest.partition("-")[0]
        # Another machine or container that shares the folder has process numbers of its own.
        if host == _host() and owner.isdigit() and not _alive(int(owner)):
            path.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _sync(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _alive(process: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(process))
