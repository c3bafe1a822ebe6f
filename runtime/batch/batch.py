"""Many pictures, one after the other: what they share is made once, and one that fails costs only
itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from nstrt.runtime.batch.jobs import BatchEvent, Job, JobEvent
from nstrt.runtime.errors import OptionError
from nstrt.runtime.model import ModelStore

__all__ = ["Batch"]

Notify = Callable[[str], None]


class Batch:
    """Paints ``jobs``; iterate it for what becomes of them.

    Networks, sessions and decoded paintings are shared. A result that is there already is skipped
    if its recipe names the same photo, painting and options, and fails with what differs if not;
    with ``force`` it is painted again. ``processes`` above 1 paint side by side, with the
    processor's cores and the memory split among them: see docs/batch.md for when that helps.

    With ``frames`` the photos are frames of a film, in their order: each starts from the last
    result, moved along, and after the first is painted as :func:`frame_options`
    says. Behind one that is painted anew, no result counts as there already.

    Raises :class:`OptionError` at once where two jobs would write one file,
    or one would write over a picture that another reads.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        force: bool = False,
        processes: int = 1,
        frames: bool = False,
        store: ModelStore | None = None,
        notify: Notify | None = None,
    ) -> None:
        if processes < 1:
            raise OptionError("A batch needs at least one process; --jobs must be 1 or more.")
        if frames and processes > 1:
            raise OptionError("Frames are painted one after the other; leave out --jobs.")
        _check_apart(jobs)
        self.jobs = tuple(jobs)
        self._frames = frames
        self._force = force
        self._processes = min(processes, len(jobs))
        self._store = store
        self._notify: Notify = notify or (lambda line: None)
        self._stopped = False
        self._stop: Callable[[], None] = lambda: None

    def stop(self) -> None:
        """Leave the pictures under way and begin no other; what is saved stays. From any thread."""
        self._stopped = True
        self._stop()

    @property
    def stopped(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._stopped

    def __iter__(self) -> Iterator[BatchEvent]:
        for index, event in self._side_by_side() if self._processes > 1 else self._in_turn():
            yield BatchEvent(
                number=index + 1, total=len(self.jobs), job=self.jobs[index], event=event
            )

    def _in_turn(self) -> Iterator[tuple[int, JobEvent]]:
        from nstrt.runtime.batch.job_runner import JobRunner
        from nstrt.runtime.system.interrupt import Interrupted

        painter = JobRunner(
            force=self._force, frames=self._frames, store=self._store, notify=self._notify
        )
        self._stop = painter.stop
        try:
            for index, job in enumerate(self.jobs):
                if self._stopped:
                    return
                for event in painter.paint(job):
                    yield index, event
        except Interrupted:
            return

    def _side_by_side(self) -> Iterator[tuple[int, JobEvent]]:
        from nstrt.runtime.batch.process_pool import ProcessPool

        with ProcessPool(
            self._processes,
            force=self._force,
            store=None if self._store is None else self._store.folder,
            notify=self._notify,
        ) as crew:
            self._stop = crew.stop
            if not self._stopped:
                yield from crew.paint(self.jobs)


def _check_apart(jobs: Sequence[Job]) -> None:
    if not jobs:
        raise OptionError("There is nothing to paint; name photos, or folders that hold some.")
    writers: dict[Path, Job] = {}
    for job in jobs:
        target = job.output.resolve()
        if (other := writers.get(target)) is not None:
            raise OptionError(
                f"'{other.content}' and '{job.content}' would both be painted into "
                f"'{job.output}'; give one of them another name, or paint it in another batch."
            )
        writers[target] = job
    for job in jobs:
        # What init and weights name may be no file; no result has such a name either.
        named = (Path(job.options.init), Path(job.options.weights))
        for source in (job.content, job.style, *named):
            if source.resolve() in writers:
                raise OptionError(
                    f"A result would be written over '{source}'; choose another folder for the "
                    "results."
                )
