"""The worker's log: a rotating file, to which everything goes that anybody prints."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import sys
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

__all__ = ["log_file", "open_log"]

MOST_BYTES = 1_000_000
"""Size at which the log is begun anew; one older one is kept."""


def log_file() -> Path:
    """Where the log is: ``logs/`` in ``NSTRT_CACHE``, or the user's folder for logs."""
    chosen = os.environ.get("NSTRT_CACHE")
    if chosen:
        folder = Path(chosen).expanduser().absolute() / "logs"
    else:
        import platformdirs

        folder = Path(platformdirs.user_log_dir("nstrt", appauthor=False))
    return folder / "worker.log"


def open_log(path: Path) -> None:
    """Write the log to ``path``, and standard output and error with it.

    A host may have given pipes for those that it never reads; writing to a full one would block.
    """
    logger = logging.getLogger("nstrt.worker")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logging.raiseExceptions = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler: logging.Handler = _Everything(path)
    except OSError:
        # A folder that cannot be written costs the log, not the pictures.
        handler = logging.NullHandler()
        _point_at(os.open(os.devnull, os.O_WRONLY))
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    logger.addHandler(handler)


class _Everything(RotatingFileHandler):
    """A rotating log that standard output and error follow."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            path, maxBytes=MOST_BYTES, backupCount=1, encoding="utf-8", errors="backslashreplace"
        )

    def _open(self) -> TextIOWrapper:
        stream = super()._open()
        with contextlib.suppress(OSError):
            os.chmod(self.baseFilename, 0o600)
        _point_at(os.dup(stream.fileno()))
        return stream


def _point_at(descriptor: int) -> None:
    """Send standard output and error to a descriptor, which is closed."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)
    # A crash in a library leaves a trace there as well.
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        faulthandler.enable(file=2)
