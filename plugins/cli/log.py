"""The log of a run: one JSON object a line, one line a step."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nstrt.runtime.model.errors import PictureWriteError

if TYPE_CHECKING:
    from nstrt.runtime.events import Event

__all__ = ["step_log"]


@contextmanager
def step_log(
    path: Path | None, complain: Callable[[str], None]
) -> Iterator[Callable[[Event], None]]:
    """Give a function that writes a step's line, or does nothing without a ``path``.

    A log that cannot be begun is an error; one that cannot be continued (a full disk) ends with
    a complaint, and the picture goes on.
    """
    if path is None:
        yield lambda event: None
        return
    try:
        # One line at a time reaches the file: a killed run keeps its log.
        file = path.open("w", encoding="utf-8", buffering=1)
    except OSError as error:
        raise PictureWriteError(
            f"The log '{path}' cannot be written ({error.strerror}); choose another file."
        ) from error
    broken = False

    def write(event: Event) -> None:
        nonlocal broken
        if broken:
            return
        try:
            file.write(json.dumps(_line(event)) + "\n")
        except OSError as error:
            broken = True
            complain(f"The log '{path}' ends here: {error.strerror}.")

    try:
        yield write
    finally:
        try:
            file.close()
        except OSError:
            broken = True


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
