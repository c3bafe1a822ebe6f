"""One queue for the jobs of all hosts: a machine paints one picture at a time."""

from __future__ import annotations

import contextlib
import gc
import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from nstrt.plugins.worker.jobs import MAX_PROGRESS_INTERVAL, Job, JobState
from nstrt.plugins.worker.messages import RequestError
from nstrt.runtime.errors import NstrtError
from nstrt.runtime.system.cancellation import Interrupted
from nstrt.runtime.system.memory import is_out_of_memory
from nstrt.runtime.system.words import use_spelling

__all__ = ["MAX_WAITING", "JobQueue"]

MAX_WAITING = 16
"""Jobs that may wait besides the one that runs."""

LOG = logging.getLogger("nstrt.worker")


class JobQueue:
    """Takes jobs from all threads; one thread executes them, one after the other."""

    def __init__(self, execute: Callable[[Job], None], *, log: str) -> None:
        self._execute = execute
        self._log = log
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._current: Job | None = None
        self._last_ended = time.monotonic()
        for target, name in ((self._run_jobs, "executor"), (self._repeat_progress, "progress")):
            threading.Thread(target=target, name=name, daemon=True).start()

    def check_room(self) -> None:
        """Raise :class:`RequestError` if :data:`MAX_WAITING` jobs wait."""
        with self._changed:
            if sum(not job.ended for job in self._waiting) >= MAX_WAITING:
                raise RequestError(
                    "busy", f"{MAX_WAITING} jobs wait already; ask again when one has ended."
                )

    def add(self, job: Job) -> None:
        """Add a job. Raises :class:`RequestError` if :data:`MAX_WAITING` jobs wait."""
        with self._changed:
            self.check_room()
            self._waiting = deque(waiting for waiting in self._waiting if not waiting.ended)
            if all(other.ended for other in self._unfinished()):
                job.report_progress(0.0, None, JobState.PREPARING.value)
            else:
                job.report_progress(0.0, None, JobState.WAITING.value)
            self._waiting.append(job)
            self._changed.notify_all()

    def report_preparation(self, line: str) -> None:
        """Log a slow step, and report it to the host whose job is prepared."""
        LOG.info("%s", line)
        job = self._current
        if job is not None:
            job.report_preparation(line)

    @property
    def idle_since(self) -> float | None:
        """When the last job ended, by ``time.monotonic()``; None while there is one."""
        with self._changed:
            return None if self._current or self._waiting else self._last_ended

    def cancel_all(self, seconds: float) -> None:
        """Cancel all jobs, and wait up to ``seconds`` for the running one."""
        with self._changed:
            for job in self._unfinished():
                job.cancel()
            self._waiting.clear()
            self._changed.wait_for(lambda: self._current is None, seconds)

    def _unfinished(self) -> list[Job]:
        """The waiting jobs, then the running one."""
        return [*self._waiting, *([self._current] if self._current else [])]

    def _run_jobs(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                self._current = self._waiting.popleft()
            self._run_job(self._current)
            with self._changed:
                self._current = None
                self._last_ended = time.monotonic()
                self._changed.notify_all()

    def _run_job(self, job: Job) -> None:
        """Execute a job; no exception of it reaches the next one."""
        try:
            with use_spelling(job.spelling):
                self._execute(job)
        except Interrupted:
            job.end_cancelled()
        except (NstrtError, RequestError) as error:
            job.fail(error.code, error)
        except BaseException as error:
            if is_out_of_memory(error):
                sentence = "This machine's memory did not suffice; paint at half the size."
                job.fail("too-large", sentence)
            else:
                LOG.exception("a job failed")
                job.fail(
                    "internal",
                    f"Something went wrong in nstrt; please send its makers the log {self._log}",
                )
        with contextlib.suppress(Exception):
            _free_memory()

    def _repeat_progress(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._current or self._waiting)
                jobs = self._unfinished()
            for job in jobs:
                job.repeat_progress()
            # No reference to a job stays while this thread sleeps.
            del jobs[:], job
            time.sleep(MAX_PROGRESS_INTERVAL / 4)


def _free_memory() -> None:
    """Return a job's memory to the system; the C library would keep it for the next job."""
    gc.collect()
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


def _malloc_trim() -> Callable[[int], object] | None:
    import ctypes

    with contextlib.suppress(OSError, AttributeError, TypeError):
        return ctypes.CDLL(None).malloc_trim
    return None
