"""The log of a run or a batch: one JSON object a line, one line a step."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

from nstrt.runtime.errors import PictureWriteError
from nstrt.runtime.run.events import Event, Step
from nstrt.runtime.run.progress import Progress
from nstrt.runtime.system.regular_file import open_regular

__all__ = ["StepLog"]

_LONGEST_LINE = 1 << 16
"""Bytes of a line that is read."""


class StepLog:
    """Writes a line for each step of a run to ``path``, or adds it with ``append``.

    The first step creates the file, so that a run that cannot start leaves none. ``notify`` gets a
    sentence when a line cannot be written (a full disk); the log then ends, and the run goes on.

    An earlier log is replaced in any case, another file only with ``overwrite``. Raises
    :class:`PictureWriteError` otherwise, or if ``path`` is a folder or is in none.
    """

    def __init__(
        self,
        path: Path,
        notify: Callable[[str], None],
        *,
        append: bool = False,
        overwrite: bool = False,
    ) -> None:
        if path.is_dir() or not path.parent.is_dir():
            raise PictureWriteError(
                f"The log '{path}' cannot be written; choose a file in a folder that exists."
            )
        if path.is_file() and not (overwrite or _is_log(path)):
            raise PictureWriteError(
                f"'{path}' exists and is no log of nstrt; choose another file for the log."
            )
        self._path = path
        self._notify = notify
        self._mode = "a" if append else "w"
        self._file: IO[str] | None = None
        self._failed = False

    def update(self, event: Event) -> None:
        """Write the line of a :class:`Step`; ignore other events."""
        if isinstance(event, Step):
            self.add(event)

    def add(self, progress: Progress, **facts: str | int) -> None:
        """Write the line of a step, with ``facts`` before its values."""
        if self._failed:
            return
        try:
            if self._file is None:
                # One line at a time reaches the file: a killed run keeps its log.
                self._file = open(  # noqa: SIM115
                    self._path, self._mode, encoding="utf-8", buffering=1, opener=_open_at_once
                )
            self._file.write(json.dumps({**facts, **_line(progress)}) + "\n")
        except OSError as error:
            self._notify(f"The log '{self._path}' ends here: {error.strerror}.")
            self._failed = True

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                self._notify(f"The log's last lines are lost: {error.strerror}.")


def _is_log(path: Path) -> bool:
    """True for an empty file, and for one whose first line is that of a step."""
    try:
        with open_regular(path) as file:
            first = file.readline(_LONGEST_LINE)
        step = json.loads(first) if first else {"loss": None, "step": None}
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(step, dict) and {"loss", "step"} <= step.keys()


def _open_at_once(path: str, flags: int) -> int:
    """Open a file for writing; a pipe that nobody reads raises OSError instead of waiting."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
    if hasattr(os, "set_blocking"):
        os.set_blocking(descriptor, True)
    return descriptor


def _line(progress: Progress) -> dict[str, float | int]:
    assert progress.terms is not None
    return {
        "scale": progress.scale,
        "width": progress.width,
        "height": progress.height,
        "iteration": progress.iteration,
        "step": progress.step,
        "loss": progress.terms.loss,
        "content": progress.terms.content,
        "style": progress.terms.style,
        "tv": progress.terms.tv,
        "seconds": round(progress.seconds, 3),
    }
