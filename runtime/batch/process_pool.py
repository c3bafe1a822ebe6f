"""A pool of worker processes for a batch, with equal shares of cores and memory."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, TYPE_CHECKING

from nstrt.runtime.batch.job import Job, JobEvent, JobFailed
from nstrt.runtime.model import ModelStore
from nstrt.runtime.planning.memory import SAFE_SHARE
from nstrt.runtime.system.host import default_threads
from nstrt.runtime.system.memory import available_memory
from nstrt.runtime.system.process import own_process
from nstrt.runtime.system.words import current_spelling, use_spelling

if TYPE_CHECKING:
    from typing import Self

__all__ = ["ProcessPool", "run_worker"]

_WORKER_CODE = (
    "import sys; sys.path[:] = {path!r}; "
    "from nstrt.runtime.batch.process_pool import run_worker; run_worker()"
)


_SIGNAL_SECONDS = 0.5
"""Seconds in which a signal to all processes reaches this one too."""


class ProcessPool:
    """Worker processes that run jobs; each takes the next job when its last one is done."""

    def __init__(
        self, size: int, *, force: bool, store: Path | None, notify: Callable[[str], None]
    ) -> None:
        self._size = size
        self._settings = force, store, current_spelling()
        self._notify = notify
        self._threads = max(1, default_threads() // size)
        self._memory = SAFE_SHARE * available_memory() / size / 1e9
        self._events: queue.Queue[tuple[int, JobEvent | str] | None] = queue.Queue()
        self._stopped = False
        self._lock = threading.RLock()
        self._workers: set[subprocess.Popen[bytes]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._stopped = True
            for worker in self._workers:
                worker.kill()

    def stop(self) -> None:
        """Terminate all workers; checkpoints keep the state of their jobs."""
        with self._lock:
            self._stopped = True
            for worker in self._workers:
                worker.terminate()

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[int, JobEvent]]:
        """Run ``jobs``; yields each event with the index of its job."""
        queued: queue.SimpleQueue[tuple[int, Job]] = queue.SimpleQueue()
        for index, job in enumerate(jobs):
            queued.put((index, self._with_resource_share(job)))
        threads = [
            threading.Thread(target=self._dispatch, args=(queued,), daemon=True)
            for _ in range(self._size)
        ]
        for thread in threads:
            thread.start()
        active = len(threads)
        while active:
            item = self._events.get()
            if item is None:
                active -= 1
                continue
            index, event = item
            if isinstance(event, str):
                self._notify(event)
            else:
                yield index, event

    def _with_resource_share(self, job: Job) -> Job:
        """The job with one worker's threads and memory, unless its options set them."""
        options = job.options
        return replace(
            job,
            options=replace(
                options,
                threads=options.threads or self._threads,
                max_memory=options.max_memory or self._memory,
            ),
        )

    def _dispatch(self, queued: queue.SimpleQueue[tuple[int, Job]]) -> None:
        """Send queued jobs to one worker, and start another worker when it dies."""
        worker: subprocess.Popen[bytes] | None = None
        try:
            while not self._stopped:
                try:
                    index, job = queued.get_nowait()
                except queue.Empty:
                    break
                try:
                    worker = worker or self._start_worker()
                except OSError as error:
                    reason = f"No process could be started for it: {error.strerror}."
                    self._events.put((index, JobFailed(reason=reason, code="internal")))
                    continue
                if worker is None:
                    break
                try:
                    self._run_job(worker, index, job)
                except (OSError, EOFError, pickle.UnpicklingError):
                    code = self._join(worker)
                    # A system that ends a service sends SIGTERM to all its processes.
                    time.sleep(_SIGNAL_SECONDS)
                    if not self._stopped:
                        self._events.put((index, _worker_died(code, self._size)))
                    worker = None
        finally:
            if worker is not None:
                self._join(worker)
            self._events.put(None)

    def _start_worker(self) -> subprocess.Popen[bytes] | None:
        """Start a worker, or return None after :meth:`stop`."""
        with self._lock:
            if self._stopped:
                return None
            worker = subprocess.Popen(
                [sys.executable, "-c", _WORKER_CODE.format(path=sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            self._workers.add(worker)
            return worker

    def _run_job(self, worker: subprocess.Popen[bytes], index: int, job: Job) -> None:
        """Send a job to a worker and queue its events.

        Raises :class:`OSError`, :class:`EOFError` or :class:`pickle.UnpicklingError` if the worker
        dies.
        """
        assert worker.stdin is not None
        assert worker.stdout is not None
        pickle.dump((self._settings, job), worker.stdin)
        worker.stdin.flush()
        while (event := pickle.load(worker.stdout)) is not None:
            self._events.put((index, event))

    def _join(self, worker: subprocess.Popen[bytes]) -> int:
        """Close the pipes of a worker, wait until it ends, and return its exit code."""
        assert worker.stdin is not None
        assert worker.stdout is not None
        with contextlib.suppress(OSError):
            worker.stdin.close()
        worker.stdout.close()
        code = worker.wait()
        with self._lock:
            self._workers.discard(worker)
        return code


def _worker_died(code: int, size: int) -> JobFailed:
    """The event for a job whose worker, one of ``size``, ended with exit code ``code``."""
    if code < 0:
        how = f"by signal {-code}" if -code != signal.SIGKILL else "from outside"
        advice = f"paint at most {size - 1} at a time" if size > 1 else "close other programs"
        reason = f"Its process was ended {how}, most likely for want of memory; {advice}."
    else:
        reason = f"Its process ended with code {code}; try it alone, with nstrt stylize."
    return JobFailed(reason=reason, code="internal")


def run_worker() -> None:
    """Main loop of a worker: read jobs from standard input, write events to standard output."""
    from nstrt.runtime.batch.job_runner import JobRunner
    from nstrt.runtime.system.cancellation import Interrupted

    own_process()
    runner: JobRunner | None = None
    running = False

    def terminate(number: int, frame: FrameType | None) -> None:
        if runner is None or not running:
            os._exit(0)
        runner.stop()

    # Ctrl-C and a closed terminal reach every process of it; the parent decides when workers end.
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, terminate)
    output = os.fdopen(os.dup(1), "wb")
    # Output of libraries goes to standard error, so that it cannot mix with the events.
    os.dup2(2, 1)
    while True:
        try:
            (force, folder, spelling), job = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        if runner is None:
            store = None if folder is None else ModelStore(folder)
            runner = JobRunner(force=force, store=store, notify=lambda line: _send(output, line))
        running = True
        try:
            with use_spelling(spelling):
                for event in runner.run(job):
                    _send(output, event)
        except Interrupted:
            return
        running = False
        _send(output, None)


def _send(output: IO[bytes], message: JobEvent | str | None) -> None:
    """Write an event, a line for ``notify``, or None at the end of a job."""
    try:
        pickle.dump(message, output)
        output.flush()
    except OSError:
        # The parent process is gone.
        os._exit(1)
