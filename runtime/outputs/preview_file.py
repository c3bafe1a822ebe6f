"""A file that shows the picture as it is, rewritten while it is painted."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from nstrt.runtime.errors import OptionError, PictureReadError, PictureWriteError
from nstrt.runtime.pictures import Picture, check_writable, read_recipe, resize, save
from nstrt.runtime.run.events import Event, Finished, Started, Step

__all__ = ["SECONDS", "PreviewFile"]

SECONDS = 2.0
"""Between one picture and the next."""

_SEEN = 3
"""Steps after which there is something to see: the first two are nearly the photo."""


class PreviewFile:
    """Keeps ``path`` showing the run whose events it is shown.

    The file is replaced as a whole, so that a viewer which reloads it never finds half a picture;
    it has the size of the finest scale from the first picture on, and ends as the result. An
    earlier preview is replaced without asking, any other file only with ``overwrite``. A picture
    that cannot be written is told to ``notify``, once, and stops no run.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        seconds: float = SECONDS,
        overwrite: bool = False,
        notify: Callable[[str], None] = lambda line: None,
    ) -> None:
        if not seconds > 0:
            raise OptionError("The seconds between previews must be above 0.")
        self.path = Path(path)
        check_writable(self.path, overwrite=overwrite or _is_preview(self.path))
        self._seconds = seconds
        self._notify = notify
        self._shown: float | None = None
        self._size = (0, 0)
        self._fails = False

    def update(self, event: Event) -> None:
        """Take in an event of the run."""
        if isinstance(event, Started):
            finest = event.plan.scales[-1]
            self._size = finest.width, finest.height
        elif isinstance(event, Step) and self._due(event):
            self._write(Picture(rgb=resize(event.picture(), *self._size)))
            # Counted from here: writing a large picture must not be all that is done.
            self._shown = time.perf_counter()
        elif isinstance(event, Finished):
            self._write(event.result.picture)

    def _due(self, event: Step) -> bool:
        if self._shown is None:
            return event.step >= _SEEN
        return time.perf_counter() - self._shown >= self._seconds

    def _write(self, picture: Picture) -> None:
        if self._fails:
            return
        try:
            recipe = {"nstrt": version("nstrt"), "preview": True}
            save(picture, self.path, recipe=recipe, overwrite=True)
        except PictureWriteError as error:
            self._fails = True
            self._notify(f"There are no more previews: {error}")


def _is_preview(path: Path) -> bool:
    try:
        recipe = read_recipe(path) if path.is_file() else None
    except (PictureReadError, OSError):
        return False
    return recipe is not None and recipe.get("preview") is True
