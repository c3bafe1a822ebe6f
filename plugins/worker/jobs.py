"""Jobs of all hosts, in one queue: a machine paints one picture at a time."""

from __future__ import annotations

import contextlib
import gc
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from nstrt.plugins.worker.messages import RequestError, one_sentence
from nstrt.plugins.worker.outbox import Outbox
from nstrt.plugins.worker.requests import Stylize, Work
from nstrt.runtime.errors import NstrtError
from nstrt.runtime.system.interrupt import Interrupted

__all__ = ["Job", "Queue", "Stage", "error_event"]

MOST_WAITING = 16
"""Jobs that may wait besides the one that runs."""

OFTEN = 0.1
"""Seconds between progress events, at least."""

SELDOM = 0.8
"""Seconds after which a job says where it is, also if that has not changed."""

LETTING_GO = 0.5
"""Seconds that a cancelled job may go on before its host is told that it has ended."""

LOG = logging.getLogger("nstrt.worker")


class Stage(Enum):
    """How far a job is."""

    WAITING = "Waiting for another picture"
    GETTING_READY = "Getting ready"
    PAINTING = "Painting"
    OVER = "Over"


class Job:
    """One request that waits, runs, and ends with exactly one event.

    Any thread may tell it to end; the painter's thread carries it out.
    """

    def __init__(
        self, request: Work, payload: bytearray | None, outbox: Outbox, *, log: str, asked: float
    ) -> None:
        self.request = request
        self._payload = payload
        self.asked = asked
        """When it was asked for, by ``time.perf_counter()``."""
        self._outbox = outbox
        self._log = log
        self._lock = threading.RLock()
        self._stage = Stage.WAITING
        self._cancelled = False
        self._cancelled_at = 0.0
        self._run: Any = None
        self._at: tuple[float, float | None, str] = 0.0, None, Stage.WAITING.value
        self._at_time = asked
        self._told = 0.0

    @property
    def over(self) -> bool:
        """Whether its last event was given out."""
        return self._stage is Stage.OVER

    @property
    def seconds(self) -> float:
        """Since it was asked for."""
        return time.perf_counter() - self.asked

    # What hosts do.

    def cancel(self, acknowledge: Callable[[bool], None] = lambda running: None) -> None:
        """Drop it; ``acknowledge`` is called before its last event can be."""
        with self._lock:
            acknowledge(not self.over)
            self._cancelled = True
            self._cancelled_at = time.perf_counter()
            if self._run is not None:
                self._run.cancel()
            if self._stage is not Stage.PAINTING:
                # What is being loaded for it is loaded all the same: the next job needs it.
                self._end("cancelled")

    def stop(self, acknowledge: Callable[[bool], None]) -> None:
        """End it with the picture so far, or drop it if there is none."""
        with self._lock:
            if self._stage is Stage.PAINTING and not self._cancelled:
                acknowledge(True)
                self._run.stop()
            else:
                self.cancel(acknowledge)

    # What the painter does.

    def get_ready(self) -> None:
        """Its turn has come. Raises :class:`Interrupted` if nobody wants it any more."""
        with self._lock:
            self._check()
            self._stage = Stage.GETTING_READY
            self.tell_progress(0.0, None, Stage.GETTING_READY.value)

    def take_pixels(self) -> memoryview:
        """The pixels that came with the request, of which it keeps none.

        Raises :class:`Interrupted` if nobody wants it any more.
        """
        with self._lock:
            self._check()
            pixels = memoryview(self._payload or b"")
            self._payload = None
            return pixels

    def runs(self, run: Any) -> None:
        """This is what ends it from now on."""
        with self._lock:
            self._check()
            self._run = run

    def paints(self) -> None:
        """It is ready: from now on it ends between two layers of the network."""
        with self._lock:
            # If it was cancelled the run knows, and ends itself in good order.
            if not self.over:
                self._stage = Stage.PAINTING

    def notice(self, line: str) -> None:
        """Something on the way takes time."""
        with self._lock:
            if self._stage is Stage.GETTING_READY:
                self.tell_progress(0.0, None, one_sentence(line))

    def tell_progress(self, fraction: float, left: float | None, message: str) -> None:
        """Where it is, as often as hosts want to know."""
        with self._lock:
            self._at, self._at_time = (fraction, left, message), time.perf_counter()
            if self._at_time - self._told >= OFTEN or self._told == 0:
                self._tell_where()

    def tell_again(self) -> None:
        """Where it is, if that was not told for long: steps can be slow."""
        with self._lock:
            if self._cancelled and time.perf_counter() - self._cancelled_at > LETTING_GO:
                # It is not in the network: a large result is being finished, which nobody wants.
                self._end("cancelled")
            elif time.perf_counter() - self._told >= SELDOM:
                self._tell_where()

    def tell_preview(self, header: Mapping[str, Any], pixels: memoryview) -> None:
        """Show the picture as it is."""
        with self._lock:
            if not (self.over or self._cancelled):
                event = {"event": "preview", "id": self.request.id, **header}
                self._outbox.put(
                    {**event, "nbytes": pixels.nbytes},
                    pixels,
                    replacing=("preview", self.request.id),
                )

    def finish(
        self, event: str, header: Mapping[str, Any], pixels: memoryview | None = None
    ) -> None:
        """End it well, unless it was cancelled meanwhile."""
        with self._lock:
            if self._cancelled:
                self._end("cancelled")
            else:
                self._end(event, header, pixels)

    def drop(self) -> None:
        """End it without a result."""
        with self._lock:
            self._end("cancelled")

    def fail(self, code: str, message: object) -> None:
        """End it with an error, unless it was cancelled meanwhile."""
        with self._lock:
            if self._cancelled:
                self._end("cancelled")
            elif not self.over:
                self._over()
                self._outbox.put(error_event(self.request.id, code, message, self._log))

    def _check(self) -> None:
        if self._cancelled or self.over:
            raise Interrupted

    def _tell_where(self) -> None:
        if self.over or not isinstance(self.request, Stylize):
            return
        self._told = time.perf_counter()
        fraction, left, message = self._at
        if left is not None:
            left = round(max(0.0, left - (self._told - self._at_time)), 2)
        event = {
            "event": "progress",
            "id": self.request.id,
            "fraction": round(min(1.0, fraction), 5),
            "seconds": round(self.seconds, 2),
            "seconds_left": left,
            "message": message,
        }
        self._outbox.put(event, replacing=("progress", self.request.id))

    def _end(
        self, event: str, header: Mapping[str, Any] | None = None, pixels: memoryview | None = None
    ) -> None:
        if self.over:
            return
        self._over()
        told = {"event": event, "id": self.request.id, **(header or {})}
        if pixels is not None:
            told["nbytes"] = pixels.nbytes
        self._outbox.put(told, pixels)

    def _over(self) -> None:
        self._stage = Stage.OVER
        # Whoever keeps the job keeps no pictures.
        self._payload = self._run = None


def error_event(id: object, code: str, message: object, log: str) -> dict[str, Any]:
    """What a host is told of an error."""
    return {
        "event": "error",
        "id": id,
        "code": code,
        "message": one_sentence(message),
        "log": log,
    }


class Queue:
    """Takes jobs from all threads and has one thread do them, one after the other."""

    def __init__(self, do: Callable[[Job], None], *, log: str) -> None:
        self._do = do
        self._log = log
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._doing: Job | None = None
        self._last = time.monotonic()
        for target, name in ((self._work, "painter"), (self._tell, "teller")):
            threading.Thread(target=target, name=name, daemon=True).start()

    def check_room(self) -> None:
        """Refuse what would wait behind too many."""
        with self._changed:
            if sum(not job.over for job in self._waiting) >= MOST_WAITING:
                raise RequestError(
                    "busy", f"{MOST_WAITING} jobs wait already; ask again when one has ended."
                )

    def add(self, job: Job) -> None:
        """Have a job done when its turn comes. Raises :class:`RequestError` if too many wait."""
        with self._changed:
            self.check_room()
            self._waiting = deque(waiting for waiting in self._waiting if not waiting.over)
            before = [*self._waiting, *([self._doing] if self._doing else [])]
            if all(other.over for other in before):
                job.tell_progress(0.0, None, Stage.GETTING_READY.value)
            else:
                job.tell_progress(0.0, None, Stage.WAITING.value)
            self._waiting.append(job)
            self._changed.notify_all()

    def notice(self, line: str) -> None:
        """Something on the way takes time, for the job that is under way."""
        LOG.info("%s", line)
        job = self._doing
        if job is not None:
            job.notice(line)

    @property
    def idle_since(self) -> float | None:
        """When the last job ended, by ``time.monotonic()``; None while there is one."""
        with self._changed:
            return None if self._doing or self._waiting else self._last

    def end(self, seconds: float) -> None:
        """Cancel everything and wait for that, so long at most."""
        with self._changed:
            for job in (*self._waiting, self._doing):
                if job is not None:
                    job.cancel()
            self._waiting.clear()
            self._changed.wait_for(lambda: self._doing is None, seconds)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                self._doing = self._waiting.popleft()
            self._carry_out(self._doing)
            with self._changed:
                self._doing = None
                self._last = time.monotonic()
                self._changed.notify_all()

    def _carry_out(self, job: Job) -> None:
        """Do a job; whatever it does, the next one has its turn."""
        try:
            self._do(job)
        except Interrupted:
            job.drop()
        except NstrtError as error:
            job.fail(error.code, error)
        except MemoryError:
            job.fail("too-large", "This machine's memory did not suffice; use a smaller size.")
        except BaseException:
            LOG.exception("a job failed")
            job.fail(
                "internal",
                f"Something went wrong in nstrt; please send its makers the log {self._log}",
            )
        with contextlib.suppress(Exception):
            _give_memory_back()

    def _tell(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._doing or self._waiting)
                jobs = [*self._waiting, *([self._doing] if self._doing else [])]
            for job in jobs:
                job.tell_again()
            del jobs[:]
            time.sleep(SELDOM / 4)


def _give_memory_back() -> None:
    """Return what a job took to the system; the C library alone would keep it for the next."""
    gc.collect()
    trim = _trim()
    if trim is not None:
        trim(0)


def _trim() -> Callable[[int], object] | None:
    import ctypes

    with contextlib.suppress(OSError, AttributeError, TypeError):
        return ctypes.CDLL(None).malloc_trim
    return None
