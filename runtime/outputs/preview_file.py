"""Preview file: the current picture of a run, rewritten at intervals."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from nstrt.runtime.errors import OptionError, PictureReadError, PictureWriteError
from nstrt.runtime.pictures import Picture, check_writable, read_recipe, resize, save
from nstrt.runtime.run.events import Event, Finished, Started, Step
from nstrt.runtime.run.recipe import recipe_of_kind

__all__ = ["SECONDS", "PreviewFile"]

SECONDS = 2.0
"""Default seconds between two previews."""

_FIRST_STEP = 3
"""Step of the first preview: earlier images are nearly the photo."""


class PreviewFile:
    """Writes the current picture of a run to ``path``, and in the end the result.

    Pass each event of the run to :meth:`update`. Every preview has the size of the finest scale.
    Files are replaced atomically, so that a viewer never reads half a picture.

    An earlier preview is replaced in any case, another file only with ``overwrite``. If a preview
    cannot be written, ``notify`` receives one line, previews end, and the run goes on.

    Raises :class:`PictureWriteError` at once if ``path`` cannot be written.
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
        self._last_write: float | None = None
        self._size = (0, 0)
        self._failed = False

    def update(self, event: Event) -> None:
        """Process an event of the run."""
        if isinstance(event, Started):
            finest = event.plan.scales[-1]
            self._size = finest.width, finest.height
        elif isinstance(event, Step) and self._due(event):
            self._write(Picture(rgb=resize(event.picture(), *self._size)))
            # The interval starts after the write, so that a slow write cannot fill all the time.
            self._last_write = time.perf_counter()
        elif isinstance(event, Finished):
            self._write(event.result.picture)

    def _due(self, event: Step) -> bool:
        if self._last_write is None:
            return event.step >= _FIRST_STEP
        return time.perf_counter() - self._last_write >= self._seconds

    def _write(self, picture: Picture) -> None:
        if self._failed:
            return
        try:
            recipe = recipe_of_kind("preview")
            save(picture, self.path, recipe=recipe, overwrite=True, strip_metadata=True)
        except PictureWriteError as error:
            self._failed = True
            self._notify(f"There are no more previews: {error}")


def _is_preview(path: Path) -> bool:
    try:
        recipe = read_recipe(path) if path.is_file() else None
    except (PictureReadError, OSError):
        return False
    return recipe is not None and recipe.get("preview") is True
