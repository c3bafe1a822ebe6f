"""One host's connection: reads its requests, checks them, answers or queues them."""

from __future__ import annotations

import hmac
import logging
import os
import time
from collections.abc import Mapping
from typing import Any, Protocol

from nstrt.plugins.worker.job_queue import JobQueue
from nstrt.plugins.worker.jobs import Job, error_event
from nstrt.plugins.worker.messages import PROTOCOL, EndOfStream, MessageReader, RequestError
from nstrt.plugins.worker.outbox import Outbox
from nstrt.plugins.worker.pixel_memory import PixelMemory, PixelShare
from nstrt.plugins.worker.request_parser import parse_id, parse_op, parse_request
from nstrt.plugins.worker.requests import (
    Cancel,
    Estimate,
    Hello,
    Id,
    JobRequest,
    Prepare,
    Quit,
    Request,
    Stop,
    Stylize,
)
from nstrt.plugins.worker.streams import Stream
from nstrt.plugins.worker.words import LabelSpelling
from nstrt.runtime.errors import NstrtError, TooLargeError
from nstrt.runtime.system.memory import tightest_limit
from nstrt.runtime.system.words import use_spelling

__all__ = ["Connection", "WorkerContext"]

LOG = logging.getLogger("nstrt.worker")

CLOSE_SECONDS = 0.4
"""Seconds to send what waits when a host has closed its side."""

DENIED_SECONDS = 1.0
"""Seconds to send the error to a host without the token."""

PIXEL_SECONDS = 30.0
"""Seconds without a byte after which the connection of a host that owes pixels is closed."""

_BYTES_PER_PIXEL = 32
"""Memory that decoding takes for each pixel, besides the payload."""


class WorkerContext(Protocol):
    """State that all connections of a worker share."""

    queue: JobQueue
    pixels: PixelMemory
    log: str
    version: str

    def admit(self, connection: Connection) -> None:
        """Give a connection whose host said hello a place; raises :class:`RequestError` if none
        is free."""

    def quit(self) -> None:
        """End the worker."""


class Connection:
    """The worker's end of a connection to one host."""

    def __init__(self, stream: Stream, worker: WorkerContext, *, token: str | None = None) -> None:
        self._stream = stream
        self._worker = worker
        self._token = token
        self._reader = MessageReader(stream.receive)
        self._outbox = Outbox(stream.send, worker.pixels)
        self._jobs: dict[Id, Job] = {}
        self._spelling = LabelSpelling()
        self._knows_token = token is None
        self.accepted = False
        """True once the host's hello was accepted."""

    def serve(self) -> None:
        """Answer requests until the host closes the connection, then cancel its jobs."""
        try:
            while self._handle_request() and self._outbox.wait_for_room():
                pass
        except (EndOfStream, OSError):
            pass
        except Exception:
            LOG.exception("a connection failed")
        finally:
            for job in list(self._jobs.values()):
                job.cancel()
            self.close(CLOSE_SECONDS)

    def close(self, drain: float = 0.0) -> None:
        """Close the connection after up to ``drain`` seconds for what waits to be sent."""
        self._outbox.drain(drain)
        self._outbox.close()
        self._stream.close()

    def drain(self, seconds: float) -> None:
        """Wait up to ``seconds`` until everything is sent."""
        self._outbox.drain(seconds)

    def _handle_request(self) -> bool:
        """Read and handle one request; returns False if the connection must be closed."""
        header: dict[str, Any] = {}
        try:
            header = self._reader.header()
            if self._token is not None and not self.accepted:
                self._check_token(header)
            parse_id(header)
            if not self.accepted and parse_op(header) != "hello":
                raise RequestError("hello-first", "The first request must be 'hello'.")
            with use_spelling(self._spelling):
                request = parse_request(header)
            self._dispatch(request, time.perf_counter())
        except RequestError as error:
            if not self._knows_token:
                message = "Only who has the worker's token may talk to it."
                self._send_error(header, "denied", message)
            else:
                self._send_error(header, error.code, error)
            if not self._knows_token or (error.code == "busy" and not self.accepted):
                self._outbox.drain(DENIED_SECONDS)
                return False
        except NstrtError as error:
            self._send_error(header, error.code, error)
        except MemoryError:
            self._send_error(header, "too-large", "This machine's memory does not suffice.")
        except (EndOfStream, OSError):
            raise
        except Exception:
            LOG.exception("a request failed")
            message = "Something went wrong in nstrt; please send its makers the log"
            self._send_error(header, "internal", f"{message} {self._worker.log}")
        return True

    def _check_token(self, header: Mapping[str, Any]) -> None:
        token = header.get("token")
        self._knows_token = False
        assert self._token is not None
        if not isinstance(token, str) or not hmac.compare_digest(
            token.encode("utf-8", "replace"), self._token.encode()
        ):
            raise RequestError("denied", "The token is missing or wrong.")
        if header.get("op") != "hello":
            raise RequestError("denied", "The first request must be 'hello'.")
        self._knows_token = True

    def _send_error(self, header: Mapping[str, Any], code: str, message: object) -> None:
        try:
            id: Id | None = parse_id(header)
        except RequestError:
            id = None
        if id in self._jobs and not self._jobs[id].ended:
            # Under this id the host would read it as the end of the job that has it.
            id = None
        self._outbox.put(error_event(id, code, message, self._worker.log))

    def _dispatch(self, request: Request, requested: float) -> None:
        match request:
            case Hello():
                self._accept(request)
            case Cancel() | Stop():
                self._end_job(request)
            case Quit():
                self._outbox.put({"event": "ok", "id": request.id})
                self._worker.quit()
            case Prepare() | Estimate() | Stylize():
                self._queue_job(request, requested)

    def _accept(self, request: Hello) -> None:
        if request.protocol != PROTOCOL:
            raise RequestError(
                "protocol",
                f"This nstrt ({self._worker.version}) speaks protocol {PROTOCOL}, and the program "
                "that asked another one; update the older of the two.",
            )
        if not self.accepted:
            self._worker.admit(self)
        self._spelling = LabelSpelling(request.labels)
        self._outbox.put(
            {
                "event": "hello",
                "id": request.id,
                "protocol": PROTOCOL,
                "nstrt": self._worker.version,
                "pid": os.getpid(),
                "log": self._worker.log,
            }
        )

    def _end_job(self, request: Cancel | Stop) -> None:
        def acknowledge(running: bool) -> None:
            self._outbox.put(
                {"event": "ok", "id": request.id, "job": request.job, "running": running}
            )

        job = self._jobs.get(request.job)
        if job is None:
            acknowledge(False)
        elif isinstance(request, Cancel):
            job.cancel(acknowledge)
        else:
            job.stop(acknowledge)

    def _queue_job(self, request: JobRequest, requested: float) -> None:
        """Queue a job; reads its pixels only if queue and memory have room."""
        self._jobs = {id: job for id, job in self._jobs.items() if not job.ended}
        if request.id in self._jobs:
            raise RequestError("malformed", "A job with this id has not ended yet.")
        if self._outbox.full:
            raise RequestError("busy", "Read the earlier results first.")
        self._worker.queue.check_room()
        self._worker.pixels.check_room()
        share = self._worker.pixels.share()
        try:
            payload = None
            if isinstance(request, Stylize) and request.nbytes:
                _check_memory(request)
                payload = self._payload(share)
            job = Job(
                request,
                payload,
                self._outbox,
                log=self._worker.log,
                requested=requested,
                spelling=self._spelling,
                share=share,
            )
            self._worker.queue.add(job)
        except BaseException:
            share.release()
            raise
        self._jobs[request.id] = job

    def _payload(self, share: PixelShare) -> bytearray:
        """Read a request's pixels; memory is taken as they arrive.

        Raises TimeoutError if the host sends nothing for :data:`PIXEL_SECONDS`.
        """
        self._stream.patience = PIXEL_SECONDS
        try:
            return self._reader.payload(share.grow)
        finally:
            self._stream.patience = None


def _check_memory(request: Stylize) -> None:
    """Raise :class:`TooLargeError` if the request's pictures do not fit into free memory."""
    free = tightest_limit().left
    pixels = sum(picture.width * picture.height for picture in request.pixels)
    needed = request.nbytes + pixels * _BYTES_PER_PIXEL
    if needed > free:
        fits = int(pixels * free / needed / 1e6)
        raise TooLargeError(
            f"Pictures of {pixels / 1e6:.0f} megapixels would take {needed / 1e9:.1f} GB of memory "
            f"and {free / 1e9:.1f} GB are free; {fits} megapixels would fit."
        )
