"""Runs the jobs of a batch in this process, one after the other."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from nstrt.runtime.batch.finished_jobs import differences_of_result
from nstrt.runtime.batch.job import (
    Job,
    JobDiffers,
    JobDone,
    JobEvent,
    JobFailed,
    JobPlanned,
    JobProgress,
    JobSkipped,
    JobStarted,
)
from nstrt.runtime.errors import CheckpointError, NstrtError
from nstrt.runtime.model import ModelStore
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.pictures import check_writable, read_picture
from nstrt.runtime.run.checkpoint_schedule import checkpoint_path
from nstrt.runtime.run.events import Finished, Started, Step
from nstrt.runtime.run.progress import Progress
from nstrt.runtime.system.cancellation import Interrupted

if TYPE_CHECKING:
    from nstrt.runtime.run.events import Event
    from nstrt.runtime.run.run import Run
    from nstrt.runtime.style_transfer import StyleTransfer

__all__ = ["JobRunner"]

_CACHED_STYLES = 2
"""Decoded paintings in the cache, of 12 bytes a pixel each."""


class JobRunner:
    """Runs jobs that share networks, sessions and decoded paintings; see :class:`Batch`."""

    def __init__(
        self,
        *,
        force: bool,
        frames: bool = False,
        store: ModelStore | None,
        notify: Callable[[str], None],
    ) -> None:
        self._force = force
        self._frames = _FrameSequence() if frames else None
        self._store = store
        self._notify = notify
        self._transfers: dict[StylizeOptions, StyleTransfer] = {}
        self._read_style = lru_cache(maxsize=_CACHED_STYLES)(read_picture)
        self._run: Run | None = None
        self._stopped = False

    def stop(self) -> None:
        """Stop the running job; its checkpoint keeps its state. Callable from any thread."""
        self._stopped = True
        if self._run is not None:
            self._run.stop()
            self._run.cancel()

    def run(self, job: Job) -> Iterator[JobEvent]:
        """Paint the picture of one job and save the result.

        Errors become :class:`JobFailed` events. Raises :class:`Interrupted` after :meth:`stop`.
        """
        yield from _with_failures(self._run_job(job))

    def plan(self, job: Job) -> Iterator[JobEvent]:
        """The outcome of one job without painting: :class:`JobPlanned` if it would run."""
        yield from _with_failures(self._plan_job(job))

    def _plan_job(self, job: Job) -> Iterator[JobEvent]:
        if self._stopped:
            raise Interrupted
        frames = self._frames
        if frames is not None:
            job = frames.with_frame_options(job)
        outcome: JobEvent = self._existing(job) or self._planned(job)
        if frames is not None and not isinstance(outcome, JobDiffers):
            frames.has_previous = True
            frames.repainted |= isinstance(outcome, JobPlanned)
        yield outcome

    def _planned(self, job: Job) -> JobPlanned:
        if job.output.parent.is_dir():
            check_writable(job.output, overwrite=self._force)
        photo, painting = read_picture(job.content), self._read_style(job.style)
        if job.style_mask is not None:
            read_picture(job.style_mask)
        estimate = self._transfer(job.options).estimate(
            photo.size,
            painting.size,
            part_of_paintings=job.style_mask is not None or painting.alpha is not None,
        )
        finest = estimate.plan.scales[-1]
        return JobPlanned(
            width=finest.width,
            height=finest.height,
            steps=estimate.plan.steps,
            seconds=estimate.seconds,
            memory=estimate.plan.memory,
        )

    def _existing(self, job: Job) -> JobSkipped | JobDiffers | None:
        """The outcome of a job if the file at its output stays; None if the job is to run."""
        frames = self._frames
        if self._force:
            return None
        changes = (
            differences_of_result(job)
            if frames is None
            else differences_of_result(job, follows=frames.has_previous, repainted=frames.repainted)
        )
        if changes is None:
            return None
        return JobDiffers(reason="; ".join(changes)) if changes else JobSkipped()

    def _run_job(self, job: Job) -> Iterator[JobEvent]:
        started = time.perf_counter()
        frames = self._frames
        if frames is not None:
            job = frames.with_frame_options(job)
        existing = self._existing(job)
        if existing is not None:
            if frames is not None and isinstance(existing, JobSkipped):
                frames.advance(job, repainted=False)
            yield existing
            return
        check_writable(job.output, overwrite=self._force)
        style = self._read_style(job.style)
        content = read_picture(job.content)
        start, previous = (None, None) if frames is None else frames.warper.warp_to(content)

        def start_run(*, resume: bool) -> Run:
            self._run = self._transfer(job.options).run(
                content,
                style,
                style_mask=job.style_mask,
                started=started,
                start=start,
                previous=previous,
                checkpoint=checkpoint_path(job.output),
                resume=resume,
            )
            if self._stopped:
                raise Interrupted
            return self._run

        for event in self._resume_or_restart(start_run):
            if isinstance(event, Started):
                finest = event.plan.scales[-1]
                yield JobStarted(width=finest.width, height=finest.height, steps=event.plan.steps)
            elif isinstance(event, Step):
                # Leaves out the picture: a function cannot be sent to another process.
                values = {field.name: getattr(event, field.name) for field in fields(Progress)}
                yield JobProgress(**values)
            elif isinstance(event, Finished):
                assert self._run is not None
                result = event.result
                if isinstance(self._existing(job), JobSkipped):
                    # Another batch saved this job's result in the meantime.
                    self._run.remove_checkpoint()
                    yield JobSkipped()
                    return
                notes = result.save_or_rescue(
                    job.output, overwrite=self._force, strip_metadata=job.strip_metadata
                )
                self._run.remove_checkpoint()
                if frames is not None:
                    frames.advance(job, repainted=True)
                yield JobDone(
                    seconds=time.perf_counter() - started,
                    steps=result.steps,
                    painted=result.painted,
                    loss=result.terms.loss,
                    notes=(*result.notes, *notes),
                )

    def _resume_or_restart(self, start_run: Callable[..., Run]) -> Iterator[Event]:
        """The events of a run that resumes from its checkpoint, or else starts anew."""
        try:
            yield from start_run(resume=not self._force)
        except CheckpointError as error:
            # Raised before the first event.
            reason = str(error).partition(";")[0]
            self._notify(f"{reason}: the picture is painted from the beginning.")
            yield from start_run(resume=False)

    def _transfer(self, options: StylizeOptions) -> StyleTransfer:
        """The cached transfer for ``options``; all transfers share their networks."""
        # Imported late: a batch of skipped jobs needs no torch, whose import takes seconds.
        from nstrt.runtime.style_transfer import StyleTransfer

        if options not in self._transfers:
            first = next(iter(self._transfers.values()), None)
            self._transfers[options] = (
                StyleTransfer(options, store=self._store, notify=self._notify)
                if first is None
                else first.with_options(options)
            )
        return self._transfers[options]


def _with_failures(events: Iterator[JobEvent]) -> Iterator[JobEvent]:
    """Yield ``events``; an error of theirs becomes a :class:`JobFailed` at their end."""
    try:
        yield from events
    except Interrupted:
        raise
    except NstrtError as error:
        yield JobFailed(reason=str(error), code=error.code)
    except Exception as error:
        # A fault in nstrt must not stop the jobs that follow.
        yield JobFailed(
            reason=f"nstrt failed with {type(error).__name__}: {error}",
            code="internal",
            trace=traceback.format_exc(),
        )


class _FrameSequence:
    """State that a film's frame takes over from the previous ones."""

    def __init__(self) -> None:
        from nstrt.runtime.video.frames import FrameWarper

        self.warper = FrameWarper()
        self.has_previous = False
        """True after the first frame."""
        self.repainted = False
        """True after a frame that was painted in this batch."""

    def with_frame_options(self, job: Job) -> Job:
        """The job with :func:`frame_options`, unless it is the first frame."""
        from nstrt.runtime.video.frames import frame_options

        return replace(job, options=frame_options(job.options)) if self.has_previous else job

    def advance(self, job: Job, *, repainted: bool) -> None:
        """Make the frame of ``job`` the previous one; ``repainted`` if this batch painted it."""
        self.has_previous = True
        self.repainted = self.repainted or repainted
        # The next frame starts from the file, so that an interrupted batch gives equal pixels.
        self.warper.set_previous(job.content, job.output)
