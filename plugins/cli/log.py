"""The log of a run or a batch: one JSON object a line, one line a step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import IO

from nstrt.runtime.errors import PictureWriteError
from nstrt.runtime.run.events import Event, Step
from nstrt.runtime.run.progress import Progress

__all__ = ["StepLog"]


class StepLog:
    """Writes a line for each step of a run to ``path``, or adds it with ``append``.

    The first step creates the file, so that a run that cannot start leaves none. ``notify`` gets a
    sentence when a line cannot be written (a full disk); the log then ends, and the run goes on.
    Raises :class:`PictureWriteError` if ``path`` is a folder or is in none.
    """

    def __init__(self, path: Path, notify: Callable[[str], None], *, append: bool = False) -> None:
        if path.is_dir() or not path.parent.is_dir():
            raise PictureWriteError(
                f"The log '{path}' cannot be written; choose a file in a folder that exists."
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
                self._file = self._path.open(self._mode, encoding="utf-8", buffering=1)
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
