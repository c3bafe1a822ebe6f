"""The worker's log: a rotating file that standard output and error go to as well."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import sys
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

from nstrt.runtime.system.trust import make_folder

__all__ = ["log_file", "open_log"]

MAX_BYTES = 1_000_000
"""Size at which the log is rotated; one older file is kept."""


def log_file() -> Path:
    """Path of the log: ``logs/`` in ``NSTRT_CACHE``, or the user's folder for logs."""
    chosen = os.environ.get("NSTRT_CACHE")
    if chosen:
        folder = Path(os.path.expanduser(chosen)).absolute() / "logs"
    else:
        import platformdirs

        folder = Path(platformdirs.user_log_dir("nstrt", appauthor=False))
    return folder / "worker.log"


def open_log(path: Path) -> None:
    """Send the log, standard output and standard error to ``path``.

    A host may never read the pipes it gave for the latter two; writing to a full one would block.
    """
    logger = logging.getLogger("nstrt.worker")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logging.raiseExceptions = False
    try:
        make_folder(path.parent)
        handler: logging.Handler = _RedirectingHandler(path)
    except OSError:
        # Without a writable folder the worker paints all the same.
        handler = logging.NullHandler()
        _redirect_output(os.open(os.devnull, os.O_WRONLY))
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    logger.addHandler(handler)


class _RedirectingHandler(RotatingFileHandler):
    """A rotating log that takes standard output and error along."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            path, maxBytes=MAX_BYTES, backupCount=1, encoding="utf-8", errors="backslashreplace"
        )

    def _open(self) -> TextIOWrapper:
        stream = super()._open()
        with contextlib.suppress(OSError):
            os.chmod(self.baseFilename, 0o600)
        _redirect_output(os.dup(stream.fileno()))
        return stream


def _redirect_output(descriptor: int) -> None:
    """Redirect standard output and error to a descriptor, and close the descriptor."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)
    # A crash in a library leaves its trace in the log.
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        faulthandler.enable(file=2)
