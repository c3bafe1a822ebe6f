"""One job of a batch after the other, in this process."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstrt.runtime.batch.jobs import (
    Job,
    JobDone,
    JobEvent,
    JobFailed,
    JobProgress,
    JobSkipped,
    JobStarted,
)
from nstrt.runtime.errors import CheckpointError, NstrtError, OutputExistsError, PictureReadError
from nstrt.runtime.model import ModelStore
from nstrt.runtime.options.options import INITS, StylizeOptions
from nstrt.runtime.pictures import check_writable, read_picture, read_recipe
from nstrt.runtime.run.checkpointing import checkpoint_path
from nstrt.runtime.run.events import Finished, Started, Step
from nstrt.runtime.run.recipe import differences
from nstrt.runtime.system.files import sha256_of
from nstrt.runtime.system.interrupt import Interrupted

if TYPE_CHECKING:
    from nstrt.runtime.run.events import Event
    from nstrt.runtime.run.run import Run
    from nstrt.runtime.style_transfer import StyleTransfer

__all__ = ["JobRunner"]

STYLES = 2
"""Decoded paintings that are kept: 12 bytes a pixel each."""


class JobRunner:
    """Paints jobs with what they can share: see :class:`Batch`."""

    def __init__(
        self,
        *,
        force: bool,
        frames: bool = False,
        store: ModelStore | None,
        notify: Callable[[str], None],
    ) -> None:
        self._force = force
        self._film = _Film() if frames else None
        self._store = store
        self._notify = notify
        self._transfers: dict[StylizeOptions, StyleTransfer] = {}
        self._style = lru_cache(maxsize=STYLES)(read_picture)
        self._run: Run | None = None
        self._stopped = False

    def stop(self) -> None:
        """End the picture under way; its state is kept in its checkpoint. From any thread."""
        self._stopped = True
        if self._run is not None:
            self._run.stop()
            self._run.cancel()

    def paint(self, job: Job) -> Iterator[JobEvent]:
        """Paint one job and save its result.

        What goes wrong is an event. Raises :class:`Interrupted` after
        :meth:`stop`.
        """
        try:
            yield from self._painted(job)
        except Interrupted:
            raise
        except NstrtError as error:
            yield JobFailed(reason=str(error), code=error.code)
        except Exception as error:
            # A fault of nstrt's own with one picture must not cost the night's other ones.
            yield JobFailed(
                reason=f"nstrt failed with {type(error).__name__}: {error}",
                code="internal",
                trace=traceback.format_exc(),
            )

    def _painted(self, job: Job) -> Iterator[JobEvent]:
        began = time.perf_counter()
        film = self._film
        if film is not None:
            job = film.as_frame(job)
        if not self._force and _is_done(job, film):
            if film is not None:
                film.follow(job, anew=False)
            yield JobSkipped()
            return
        check_writable(job.output, overwrite=self._force)
        style = self._style(job.style)
        content = read_picture(job.content)
        start, moved = (None, None) if film is None else film.follower.carry(content)

        def begun(*, resume: bool) -> Run:
            self._run = self._transfer(job.options).run(
                content,
                style,
                started=began,
                start=start,
                moved=moved,
                checkpoint=checkpoint_path(job.output),
                resume=resume,
            )
            if self._stopped:
                raise Interrupted
            return self._run

        for event in self._gone_on(begun):
            if isinstance(event, Started):
                finest = event.plan.scales[-1]
                yield JobStarted(width=finest.width, height=finest.height, steps=event.plan.steps)
            elif isinstance(event, Step):
                yield JobProgress(
                    fraction=event.fraction,
                    painted=event.painted,
                    seconds_left=event.seconds_left,
                )
            elif isinstance(event, Finished):
                assert self._run is not None
                result = event.result
                if not self._force and _is_done(job, film):
                    # Another batch with the same jobs was quicker.
                    self._run.remove_checkpoint()
                    yield JobSkipped()
                    return
                notes = result.save_or_rescue(job.output, overwrite=self._force)
                self._run.remove_checkpoint()
                if film is not None:
                    film.follow(job, anew=True)
                yield JobDone(
                    seconds=time.perf_counter() - began,
                    steps=result.steps,
                    painted=result.painted,
                    loss=result.terms.loss,
                    notes=tuple(notes),
                )

    def _gone_on(self, begun: Callable[..., Run]) -> Iterator[Event]:
        """The events of a run that goes on where an earlier batch was broken off, if it can."""
        try:
            yield from begun(resume=not self._force)
        except CheckpointError as error:
            # Raised before there is any step.
            reason = str(error).partition(";")[0]
            self._notify(f"{reason}: the picture is painted from the beginning.")
            yield from begun(resume=False)

    def _transfer(self, options: StylizeOptions) -> StyleTransfer:
        """The one for these options, which shares its networks with all others."""
        # Finding that all is done already takes no torch, whose import alone takes seconds.
        from nstrt.runtime.style_transfer import StyleTransfer

        if options not in self._transfers:
            first = next(iter(self._transfers.values()), None)
            self._transfers[options] = (
                StyleTransfer(options, store=self._store, notify=self._notify)
                if first is None
                else first.with_options(options)
            )
        return self._transfers[options]


class _Film:
    """What a frame takes over from the ones before it."""

    def __init__(self) -> None:
        from nstrt.runtime.video.frames import Follower

        self.follower = Follower()
        self.begun = False
        """Whether there is a frame before the next one."""
        self.anew = False
        """Whether a frame before the next one was painted in this batch."""

    def as_frame(self, job: Job) -> Job:
        """The job with the options that it has as one of several frames."""
        from nstrt.runtime.video.frames import frame_options

        return replace(job, options=frame_options(job.options)) if self.begun else job

    def follow(self, job: Job, *, anew: bool) -> None:
        """A frame has its painting, ``anew`` or from before. The next one goes on from its file,
        so that it is the same whether or not the batch was broken off between the two."""
        self.begun = True
        self.anew = self.anew or anew
        self.follower.follow(job.content, job.output)


def _is_done(job: Job, film: _Film | None) -> bool:
    """Whether the result is there already. Raises :class:`OutputExistsError` where something else
    has its name."""
    if not job.output.is_file():
        return False
    try:
        recipe = read_recipe(job.output)
    except PictureReadError:
        recipe = None
    if recipe is None or recipe.get("preview"):
        raise OutputExistsError(
            f"'{job.output}' exists and does not say how it was made; add --force to paint it "
            "again, or choose another folder."
        )
    other = differences(
        recipe,
        job.options,
        content=_checksum(job.content),
        style=_checksum(job.style),
        start=_start_of(job, film, recipe),
    )
    if film is not None and film.anew:
        other.append("the frame before it is painted anew")
    if other:
        raise OutputExistsError(
            f"'{job.output}' exists and was made otherwise ({'; '.join(other)}); add --force to "
            "paint it again, or choose another folder."
        )
    return True


def _start_of(job: Job, film: _Film | None, recipe: Mapping[str, Any]) -> str | None:
    """The checksum of what the job starts from, if that is a picture of its own."""
    if film is not None and film.begun and isinstance(recipe.get("init"), dict):
        # It came from the frames before, whose own recipes were looked at.
        own: str | None = recipe["init"].get("sha256")
        return own
    return None if job.options.init in INITS else _checksum(Path(job.options.init))


def _checksum(path: Path) -> str:
    """Of a picture file, as :class:`Picture` has it."""
    try:
        return sha256_of(path)
    except OSError:
        # Says in a sentence what is wrong with the file.
        return read_picture(path).sha256
