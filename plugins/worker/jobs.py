"""One job: a request that waits, runs, and ends with exactly one event."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from nstrt.plugins.worker.messages import RequestError, single_line
from nstrt.plugins.worker.outbox import Outbox
from nstrt.plugins.worker.pixel_memory import PixelShare
from nstrt.plugins.worker.requests import JobRequest, Stylize
from nstrt.plugins.worker.words import LabelSpelling
from nstrt.runtime.system.cancellation import Interrupt, Interrupted
from nstrt.runtime.system.words import Spelling

__all__ = ["MAX_PROGRESS_INTERVAL", "Job", "JobState", "error_event"]

_PLAIN = LabelSpelling()
"""Words for a host that sent no labels."""

MIN_PROGRESS_INTERVAL = 0.1
"""Seconds between two progress events, at least."""

MAX_PROGRESS_INTERVAL = 0.8
"""Seconds after which a progress event is repeated."""

CANCEL_SECONDS = 0.5
"""Seconds that a cancelled job may go on before its host gets ``cancelled``."""


class JobState(Enum):
    """State of a job; the value is the message of its progress events."""

    WAITING = "Waiting for another picture"
    PREPARING = "Getting ready"
    RUNNING = "Painting"
    ENDED = "Over"


class Job:
    """One request in the queue.

    Connections call ``cancel`` and ``stop`` from any thread; the rest belongs to the executor.
    """

    def __init__(
        self,
        request: JobRequest,
        payload: bytearray | None,
        outbox: Outbox,
        *,
        log: str,
        requested: float,
        spelling: Spelling = _PLAIN,
        share: PixelShare | None = None,
    ) -> None:
        """``share`` counts the payload's bytes until the job has ended."""
        self.request = request
        self.spelling = spelling
        """The host's words for options."""
        self._payload = payload
        self._share = share
        self.requested = requested
        """Time of the request, by ``time.perf_counter()``."""
        self._outbox = outbox
        self._log = log
        self._lock = threading.RLock()
        self._state = JobState.WAITING
        self._cancelled = False
        self._cancelled_at = 0.0
        self.loading = Interrupt()
        """Ends the loading of pictures and network when the job is cancelled."""
        self._run: Any = None
        self._progress: tuple[float, float | None, str] = 0.0, None, JobState.WAITING.value
        self._progress_time = requested
        self._progress_sent = 0.0

    @property
    def ended(self) -> bool:
        """True once its last event is in the outbox."""
        return self._state is JobState.ENDED

    @property
    def seconds(self) -> float:
        """Seconds since the request."""
        return time.perf_counter() - self.requested

    # Called by connections.

    def cancel(self, acknowledge: Callable[[bool], None] = lambda running: None) -> None:
        """Drop the job; ``acknowledge(running)`` is called before its last event is sent."""
        with self._lock:
            acknowledge(not self.ended)
            self._cancelled = True
            self._cancelled_at = time.perf_counter()
            if self._run is not None:
                self._run.cancel()
            self.loading.request()
            if self._state is not JobState.RUNNING:
                # The loading ends by itself, at its next check of the interrupt.
                self._end("cancelled")

    def stop(self, acknowledge: Callable[[bool], None]) -> None:
        """End the job with the best picture so far, or cancel it if there is none."""
        with self._lock:
            if self._state is JobState.RUNNING and not self._cancelled:
                acknowledge(True)
                self._run.stop()
            else:
                self.cancel(acknowledge)

    # Called by the executor.

    def start(self) -> None:
        """Leave the queue.

        Raises :class:`Interrupted` if the job was cancelled, and :class:`RequestError` if its host
        has not read the results of the jobs before it.
        """
        with self._lock:
            self._check()
            if self._outbox.full:
                raise RequestError("busy", "Read the earlier results first.")
            self._state = JobState.PREPARING
            self.report_progress(0.0, None, JobState.PREPARING.value)

    def take_pixels(self) -> memoryview:
        """Hand over the request's pixels; the job keeps none.

        Raises :class:`Interrupted` if the job was cancelled.
        """
        with self._lock:
            self._check()
            pixels = memoryview(self._payload or b"")
            self._payload = None
            return pixels

    def attach(self, run: Any) -> None:
        """Set the run that ``cancel`` and ``stop`` end."""
        with self._lock:
            self._check()
            self._run = run

    def mark_running(self) -> None:
        """Leave it to the run to end: it does so between two layers of the network."""
        with self._lock:
            # If the job was cancelled, so was the run, which ends by itself.
            if not self.ended:
                self._state = JobState.RUNNING

    def report_preparation(self, line: str) -> None:
        """Report a slow step of the preparation."""
        with self._lock:
            if self._state is JobState.PREPARING:
                self.report_progress(0.0, None, single_line(line))

    def report_progress(self, fraction: float, left: float | None, message: str) -> None:
        """Set the job's progress, and send it unless one was sent just before."""
        with self._lock:
            self._progress, self._progress_time = (fraction, left, message), time.perf_counter()
            if (
                self._progress_time - self._progress_sent >= MIN_PROGRESS_INTERVAL
                or self._progress_sent == 0
            ):
                self._send_progress()

    def repeat_progress(self) -> None:
        """Send the progress again if the last event is long ago: steps can be slow."""
        with self._lock:
            if self._cancelled and time.perf_counter() - self._cancelled_at > CANCEL_SECONDS:
                # The run is past the network: it finishes a large result, which nobody wants.
                self._end("cancelled")
            elif time.perf_counter() - self._progress_sent >= MAX_PROGRESS_INTERVAL:
                self._send_progress()

    def send_preview(self, header: Mapping[str, Any], pixels: memoryview) -> None:
        """Send a preview; it replaces an unsent one."""
        with self._lock:
            if not (self.ended or self._cancelled):
                event = {"event": "preview", "id": self.request.id, **header}
                self._outbox.put(
                    {**event, "nbytes": pixels.nbytes},
                    pixels,
                    replacing=("preview", self.request.id),
                )

    def finish(
        self, event: str, header: Mapping[str, Any], pixels: memoryview | None = None
    ) -> None:
        """End the job with its result, unless it was cancelled."""
        with self._lock:
            if self._cancelled:
                self._end("cancelled")
            else:
                self._end(event, header, pixels)

    def end_cancelled(self) -> None:
        """End the job without a result."""
        with self._lock:
            self._end("cancelled")

    def fail(self, code: str, message: object) -> None:
        """End the job with an error, unless it was cancelled."""
        with self._lock:
            if self._cancelled:
                self._end("cancelled")
            elif not self.ended:
                self._mark_ended()
                self._outbox.put(error_event(self.request.id, code, message, self._log))

    def _check(self) -> None:
        if self._cancelled or self.ended:
            raise Interrupted

    def _send_progress(self) -> None:
        if self.ended or not isinstance(self.request, Stylize):
            return
        self._progress_sent = time.perf_counter()
        fraction, left, message = self._progress
        if left is not None:
            left = round(max(0.0, left - (self._progress_sent - self._progress_time)), 2)
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
        if self.ended:
            return
        self._mark_ended()
        last = {"event": event, "id": self.request.id, **(header or {})}
        if pixels is not None:
            last["nbytes"] = pixels.nbytes
        self._outbox.put(last, pixels)

    def _mark_ended(self) -> None:
        self._state = JobState.ENDED
        # Connections may keep the job; its pictures are freed.
        self._payload = self._run = None
        if self._share is not None:
            self._share.release()


def error_event(id: object, code: str, message: object, log: str) -> dict[str, Any]:
    """The header of an error event."""
    return {
        "event": "error",
        "id": id,
        "code": code,
        "message": single_line(message),
        "log": log,
    }
