"""The log of a run: one JSON object a line, one line a step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

from nstrt.runtime.errors import PictureWriteError

if TYPE_CHECKING:
    from nstrt.runtime.run.events import Event

__all__ = ["StepLog"]


class StepLog:
    """Writes a line for each step to ``path``, or nothing without one.

    The file is begun at the first step, so that a run that cannot start leaves none. A log that
    cannot be continued (a full disk) ends with a complaint, and the picture goes on. With
    ``further`` lines are added to those that the file has.
    """

    def __init__(
        self, path: Path | None, print_err: Callable[[str], None], *, further: bool = False
    ) -> None:
        self._path = path
        self._complain = print_err
        self._mode = "a" if further else "w"
        self._file: IO[str] | None = None
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise PictureWriteError(
                f"The log '{path}' cannot be written; choose a file in a folder that exists."
            )

    def write(self, event: Event) -> None:
        """Add the line of one step."""
        if self._path is None:
            return
        try:
            if self._file is None:
                # One line at a time reaches the file: a killed run keeps its log.
                self._file = self._path.open(self._mode, encoding="utf-8", buffering=1)
            self._file.write(json.dumps(_line(event)) + "\n")
        except OSError as error:
            self._complain(f"The log '{self._path}' ends here: {error.strerror}.")
            self._path = None

    def close(self) -> None:
        """Finish the file."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                self._complain(f"The log's last lines are lost: {error.strerror}.")


def _line(event: Event) -> dict[str, float | int]:
    assert event.terms is not None
    return {
        "scale": event.scale,
        "width": event.width,
        "height": event.height,
        "iteration": event.iteration,
        "step": event.step,
        "loss": event.terms.loss,
        "content": event.terms.content,
        "style": event.terms.style,
        "tv": event.terms.tv,
        "seconds": round(event.seconds, 3),
    }
