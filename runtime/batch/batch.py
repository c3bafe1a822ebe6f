"""A batch of jobs: shared networks and paintings, and failures that stop no other job."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from nstrt.runtime.batch.job import BatchEvent, Job, JobEvent
from nstrt.runtime.batch.time_left import BatchEstimator
from nstrt.runtime.errors import OptionError
from nstrt.runtime.model import ModelStore
from nstrt.runtime.system.files import real_path
from nstrt.runtime.system.words import spelled

__all__ = ["Batch"]

Notify = Callable[[str], None]


class Batch:
    """Runs ``jobs``; iterate it for their events.

    Jobs share networks, sessions and decoded paintings. A job is skipped if its result exists and
    the recipe in it names an equal photo, painting and options. A result that differs stays, with
    :class:`JobDiffers` as outcome. With ``force`` every job runs. With ``dry_run`` nothing is
    painted or written, and :class:`JobPlanned` stands for each job that would run.

    ``processes`` above 1 run jobs in parallel; cores and memory are divided among the processes.
    See docs/batch.md for when that helps.

    With ``frames`` the photos are the frames of a film, in order. Each later frame starts from the
    previous result, warped by optical flow, with the options of :func:`frame_options`. After a
    frame is repainted, existing results of later frames count as different.

    Raises :class:`OptionError` at once if two jobs have one output, or if an output is an input of
    another job.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        force: bool = False,
        processes: int = 1,
        frames: bool = False,
        dry_run: bool = False,
        store: ModelStore | None = None,
        notify: Notify | None = None,
    ) -> None:
        if processes < 1:
            raise OptionError(
                f"A batch needs at least one process; {spelled('processes')} must be 1 or more."
            )
        if frames and processes > 1:
            raise OptionError(
                f"Frames are painted one after the other; leave out {spelled('processes')}."
            )
        _check_outputs(jobs)
        self.jobs = tuple(jobs)
        self._frames = frames
        self._force = force
        self._dry_run = dry_run
        self._processes = 1 if dry_run else min(processes, len(jobs))
        self._store = store
        self._notify: Notify = notify or (lambda line: None)
        self._stopped = False
        self._stop_jobs: Callable[[], None] = lambda: None

    def stop(self) -> None:
        """Stop the running jobs and start no others. Callable from any thread.

        Saved results stay; the state of a running job is in its checkpoint.
        """
        self._stopped = True
        self._stop_jobs()

    @property
    def stopped(self) -> bool:
        """True after :meth:`stop`."""
        return self._stopped

    def __iter__(self) -> Iterator[BatchEvent]:
        events = self._run_in_pool() if self._processes > 1 else self._run_here()
        estimator = BatchEstimator(len(self.jobs), self._processes)
        for index, event in events:
            yield BatchEvent(
                number=index + 1,
                total=len(self.jobs),
                seconds_left=estimator.after(index, event),
                job=self.jobs[index],
                event=event,
            )

    def _run_here(self) -> Iterator[tuple[int, JobEvent]]:
        """Run the jobs in this process, one after the other."""
        from nstrt.runtime.batch.job_runner import JobRunner
        from nstrt.runtime.system.cancellation import Interrupted

        runner = JobRunner(
            force=self._force, frames=self._frames, store=self._store, notify=self._notify
        )
        self._stop_jobs = runner.stop
        try:
            for index, job in enumerate(self.jobs):
                if self._stopped:
                    return
                for event in runner.plan(job) if self._dry_run else runner.run(job):
                    yield index, event
        except Interrupted:
            return

    def _run_in_pool(self) -> Iterator[tuple[int, JobEvent]]:
        """Run the jobs in several processes."""
        from nstrt.runtime.batch.process_pool import ProcessPool

        with ProcessPool(
            self._processes,
            force=self._force,
            store=None if self._store is None else self._store.folder,
            notify=self._notify,
        ) as pool:
            self._stop_jobs = pool.stop
            if not self._stopped:
                yield from pool.run(self.jobs)


def _check_outputs(jobs: Sequence[Job]) -> None:
    """Raise :class:`OptionError` if there are no jobs, or if an output is written twice or read."""
    if not jobs:
        raise OptionError("There is nothing to paint; name photos, or folders that hold some.")
    writers: dict[Path, Job] = {}
    for job in jobs:
        target = real_path(job.output)
        if (other := writers.get(target)) is not None:
            raise OptionError(
                f"'{other.content}' and '{job.content}' would both be painted into "
                f"'{job.output}'; give one of them another name, or paint it in another batch."
            )
        writers[target] = job
    for job in jobs:
        # init and weights may be words such as "noise"; no output has such a path.
        option_files = (Path(job.options.init), Path(job.options.weights))
        masks = () if job.style_mask is None else (job.style_mask,)
        for source in (job.content, job.style, *masks, *option_files):
            if real_path(source) in writers:
                raise OptionError(
                    f"A result would be written over '{source}'; choose another folder for the "
                    "results."
                )
