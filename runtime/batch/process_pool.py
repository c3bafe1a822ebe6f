"""A batch in several processes side by side, each with its share of the cores and the memory."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, TYPE_CHECKING

from nstrt.runtime.batch.jobs import Job, JobEvent, JobFailed
from nstrt.runtime.model import ModelStore
from nstrt.runtime.planning.memory import SAFE_SHARE
from nstrt.runtime.system.host import available_memory, default_threads

if TYPE_CHECKING:
    from typing import Self

__all__ = ["ProcessPool", "serve"]

_START = (
    "import sys; sys.path[:] = {path!r}; "
    "from nstrt.runtime.batch.process_pool import serve; serve()"
)


class ProcessPool:
    """Processes that paint jobs: each takes the next one when it is done with its last."""

    def __init__(
        self, size: int, *, force: bool, store: Path | None, notify: Callable[[str], None]
    ) -> None:
        self._size = size
        self._setting = force, store
        self._notify = notify
        self._threads = max(1, default_threads() // size)
        self._memory = SAFE_SHARE * available_memory() / size / 1e9
        self._told: queue.Queue[tuple[int, JobEvent | str] | None] = queue.Queue()
        self._stopped = False
        self._lock = threading.RLock()
        self._running: set[subprocess.Popen[bytes]] = set()

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
            for process in self._running:
                process.kill()

    def stop(self) -> None:
        """Ask all processes to end, with the states of their pictures in checkpoints."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()

    def paint(self, jobs: Sequence[Job]) -> Iterator[tuple[int, JobEvent]]:
        """Paint ``jobs``; gives each event with its job's index."""
        waiting: queue.SimpleQueue[tuple[int, Job]] = queue.SimpleQueue()
        for index, job in enumerate(jobs):
            waiting.put((index, self._shared(job)))
        threads = [
            threading.Thread(target=self._lead, args=(waiting,), daemon=True)
            for _ in range(self._size)
        ]
        for thread in threads:
            thread.start()
        left = len(threads)
        while left:
            told = self._told.get()
            if told is None:
                left -= 1
                continue
            index, event = told
            if isinstance(event, str):
                self._notify(event)
            else:
                yield index, event

    def _shared(self, job: Job) -> Job:
        """The job with this process's share of the machine, unless more was asked for."""
        options = job.options
        return replace(
            job,
            options=replace(
                options,
                threads=options.threads or self._threads,
                max_memory=options.max_memory or self._memory,
            ),
        )

    def _lead(self, waiting: queue.SimpleQueue[tuple[int, Job]]) -> None:
        """Hand jobs to a process until there are none; to a new one where it died."""
        process: subprocess.Popen[bytes] | None = None
        try:
            while not self._stopped:
                try:
                    index, job = waiting.get_nowait()
                except queue.Empty:
                    break
                try:
                    process = process or self._process()
                except OSError as error:
                    reason = f"No process could be started for it: {error.strerror}."
                    self._told.put((index, JobFailed(reason=reason, code="internal")))
                    continue
                if process is None:
                    break
                try:
                    self._hand(process, index, job)
                except (OSError, EOFError, pickle.UnpicklingError):
                    code = self._end(process)
                    if not self._stopped:
                        self._told.put((index, _died(code)))
                    process = None
        finally:
            if process is not None:
                self._end(process)
            self._told.put(None)

    def _process(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self._stopped:
                return None
            process = subprocess.Popen(
                [sys.executable, "-c", _START.format(path=sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            self._running.add(process)
            return process

    def _hand(self, process: subprocess.Popen[bytes], index: int, job: Job) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        pickle.dump((self._setting, job), process.stdin)
        process.stdin.flush()
        while (event := pickle.load(process.stdout)) is not None:
            self._told.put((index, event))

    def _end(self, process: subprocess.Popen[bytes]) -> int:
        """Have the process end, and wait for it; gives its exit code."""
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.stdout.close()
        code = process.wait()
        with self._lock:
            self._running.discard(process)
        return code


def _died(code: int) -> JobFailed:
    if code < 0:
        how = f"by signal {-code}" if -code != signal.SIGKILL else "from outside"
        reason = f"Its process was ended {how}, most likely for want of memory; use fewer --jobs."
    else:
        reason = f"Its process ended with code {code}; try it alone, with nstrt stylize."
    return JobFailed(reason=reason, code="internal")


def serve() -> None:
    """Paint the jobs that come on standard input, and tell of them on standard output."""
    from nstrt.runtime.batch.job_runner import JobRunner
    from nstrt.runtime.system.interrupt import Interrupted

    painter: JobRunner | None = None
    painting = False

    def asked_to_end(number: int, frame: FrameType | None) -> None:
        if painter is None or not painting:
            os._exit(0)
        painter.stop()

    # Ctrl-C reaches all processes of a terminal; who started this one decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, asked_to_end)
    told = os.fdopen(os.dup(1), "wb")
    # What libraries print must not come between.
    os.dup2(2, 1)
    while True:
        try:
            (force, folder), job = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        if painter is None:
            store = None if folder is None else ModelStore(folder)
            painter = JobRunner(force=force, store=store, notify=lambda line: _tell(told, line))
        painting = True
        try:
            for event in painter.paint(job):
                _tell(told, event)
        except Interrupted:
            return
        painting = False
        _tell(told, None)


def _tell(told: IO[bytes], what: JobEvent | str | None) -> None:
    try:
        pickle.dump(what, told)
        told.flush()
    except OSError:
        # Whoever started this process is gone.
        os._exit(1)
