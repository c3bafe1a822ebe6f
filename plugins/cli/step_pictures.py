"""Pictures of single steps, saved beside the result (``--save-every``)."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from pathlib import Path

from nstrt.runtime.errors import OutputExistsError, PictureWriteError
from nstrt.runtime.run.events import Event, Preview
from nstrt.runtime.system.files import real_path

__all__ = ["StepPictures", "check_step_pictures"]


class StepPictures:
    """Saves each preview of a run beside its result: ``out-step00010.png`` for ``out.png``.

    ``notify`` gets a sentence for each picture that cannot be saved; the run goes on.
    """

    def __init__(self, output: Path, notify: Callable[[str], None]) -> None:
        self._output = output
        self._notify = notify

    def update(self, event: Event) -> None:
        """Save the picture of a :class:`Preview`; ignore other events."""
        from nstrt.runtime.pictures import Picture, save
        from nstrt.runtime.run.recipe import recipe_of_kind

        if not isinstance(event, Preview):
            return
        path = self._output.with_name(_name(self._output, f"{event.step:05}"))
        try:
            save(Picture(rgb=event.rgb), path, recipe=recipe_of_kind("preview"), overwrite=True)
        except PictureWriteError as error:
            self._notify(f"A picture on the way was not saved: {error}")


def check_step_pictures(output: Path, *, inputs: Sequence[Path], overwrite: bool) -> None:
    """Check that pictures of steps replace nothing else.

    Raises :class:`OutputExistsError` if files have their names, unless ``overwrite``, and
    :class:`PictureWriteError` if one of them is an input of the run.
    """
    read = {real_path(path) for path in inputs}
    for path in output.parent.glob(_name(Path(glob.escape(output.name)), "*")):
        if real_path(path) in read:
            raise PictureWriteError(
                f"A picture on the way would be written over '{path}'; choose another name for "
                "the result."
            )
        if not overwrite:
            raise OutputExistsError(
                f"'{path}' exists from an earlier run; add --force to replace such pictures."
            )


def _name(output: Path, step: str) -> str:
    return f"{output.stem}-step{step}{output.suffix}"
