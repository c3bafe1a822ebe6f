"""Write files atomically: a temporary file beside the target, then a rename."""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "atomic_write",
    "cache_folder",
    "remove_stale_temporaries",
    "sha256_of",
    "write_atomically",
]

_MARK = ".nstrt-"


def cache_folder() -> Path:
    """Return the folder of models and measurements: ``NSTRT_CACHE`` or the user's cache folder."""
    folder = os.environ.get("NSTRT_CACHE")
    if folder:
        return Path(folder).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("nstrt", appauthor=False))


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target`` and rename it to ``target`` if the block succeeds.

    A block that raises leaves no temporary file and does not change ``target``. A killed process
    leaves at most the temporary file; :func:`remove_stale_temporaries` deletes it later.

    The temporary name keeps the target's suffix, because writers choose their format by it.
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


def write_atomically(target: Path, content: bytes) -> None:
    """Write ``content`` to ``target`` with :func:`atomic_write`."""
    with atomic_write(target) as temporary:
        temporary.write_bytes(content)


def remove_stale_temporaries(folder: Path) -> None:
    """Delete temporary files of killed processes in ``folder``."""
    for path in folder.glob(f".*{_MARK}*"):
        host, _, rest = path.name.rpartition(_MARK)[2].partition("-")
        process = rest.partition("-")[0]
        # Process numbers of another machine or container that shares the folder mean nothing here.
        if host == _host() and process.isdigit() and not _alive(int(process)):
            path.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
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
