"""One host: its requests are read, checked, answered or handed to the queue."""

from __future__ import annotations

import hmac
import logging
import os
import time
from collections.abc import Mapping
from typing import Any, Protocol

from nstrt.plugins.worker.jobs import Job, Queue, error_event
from nstrt.plugins.worker.messages import (
    EndOfStream,
    MessageReader,
    RequestError,
)
from nstrt.plugins.worker.outbox import Outbox
from nstrt.plugins.worker.requests import (
    Cancel,
    Estimate,
    Hello,
    Id,
    Prepare,
    Quit,
    Request,
    Stop,
    Stylize,
    id_of,
    op_of,
    request_of,
)
from nstrt.plugins.worker.streams import Stream
from nstrt.runtime.errors import NstrtError, TooLargeError

__all__ = ["PROTOCOL", "Connection", "House"]

PROTOCOL = 1
"""The protocol that is spoken here."""

LOG = logging.getLogger("nstrt.worker")

LAST_WORDS = 0.4
"""Seconds for a host that has said all to read what it was told."""

_BYTES_PER_PIXEL = 32
"""What a picture takes besides its bytes while it is made of them."""


class House(Protocol):
    """What all connections of a worker share."""

    queue: Queue
    log: str
    version: str

    def quit(self) -> None:
        """End the worker."""


class Connection:
    """A conversation with one host."""

    def __init__(self, stream: Stream, house: House, *, token: str | None = None) -> None:
        self._stream = stream
        self._house = house
        self._token = token
        self._reader = MessageReader(stream.receive)
        self._outbox = Outbox(stream.send)
        self._jobs: dict[Id, Job] = {}
        self.greeted = False
        """Whether the host said hello, and may ask for things."""

    def serve(self) -> None:
        """Answer the host until it goes, and take its jobs with it."""
        try:
            while self._answer_one() and self._outbox.wait_for_room():
                pass
        except (EndOfStream, OSError):
            pass
        except Exception:
            LOG.exception("a connection failed")
        finally:
            for job in list(self._jobs.values()):
                job.cancel()
            self.close(LAST_WORDS)

    def close(self, drain: float = 0.0) -> None:
        """End the conversation; what waits to be sent has so many seconds."""
        self._outbox.drain(drain)
        self._outbox.close()
        self._stream.close()

    def drain(self, seconds: float) -> None:
        """Wait until the host has what it was told, so long at most."""
        self._outbox.drain(seconds)

    def _answer_one(self) -> bool:
        """Answer one request; whether there may be another."""
        header: dict[str, Any] = {}
        try:
            header = self._reader.header()
            if self._token is not None and not self.greeted:
                self._check_token(header)
            id_of(header)
            if not self.greeted and op_of(header) != "hello":
                raise RequestError("hello-first", "The first request must be 'hello'.")
            self._act(request_of(header), time.perf_counter())
        except RequestError as error:
            if self._token is not None and not self.greeted:
                self._refuse(header, "denied", "Only who has the worker's token may talk to it.")
                self._outbox.drain(1.0)
                return False
            self._refuse(header, error.code, error)
        except NstrtError as error:
            self._refuse(header, error.code, error)
        except MemoryError:
            self._refuse(header, "too-large", "This machine's memory does not suffice.")
        except (EndOfStream, OSError):
            raise
        except Exception:
            LOG.exception("a request failed")
            message = "Something went wrong in nstrt; please send its makers the log"
            self._refuse(header, "internal", f"{message} {self._house.log}")
        return True

    def _check_token(self, header: Mapping[str, Any]) -> None:
        token = header.get("token")
        assert self._token is not None
        if not isinstance(token, str) or not hmac.compare_digest(
            token.encode("utf-8", "replace"), self._token.encode()
        ):
            raise RequestError("denied", "The token is missing or wrong.")
        if header.get("op") != "hello":
            raise RequestError("denied", "The first request must be 'hello'.")

    def _refuse(self, header: Mapping[str, Any], code: str, message: object) -> None:
        try:
            id: Id | None = id_of(header)
        except RequestError:
            id = None
        if id in self._jobs and not self._jobs[id].over:
            # Under its id this would be read as the end of the job that has it.
            id = None
        self._outbox.put(error_event(id, code, message, self._house.log))

    def _act(self, request: Request, asked: float) -> None:
        match request:
            case Hello():
                self._hello(request)
            case Cancel() | Stop():
                self._end_job(request)
            case Quit():
                self._outbox.put({"event": "ok", "id": request.id})
                self._house.quit()
            case Prepare() | Estimate() | Stylize():
                self._take(request, asked)

    def _hello(self, request: Hello) -> None:
        if request.protocol != PROTOCOL:
            raise RequestError(
                "protocol",
                f"This nstrt ({self._house.version}) speaks protocol {PROTOCOL}, and the program "
                "that asked another one; update the older of the two.",
            )
        self.greeted = True
        self._outbox.put(
            {
                "event": "hello",
                "id": request.id,
                "protocol": PROTOCOL,
                "nstrt": self._house.version,
                "pid": os.getpid(),
                "log": self._house.log,
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

    def _take(self, request: Prepare | Estimate | Stylize, asked: float) -> None:
        """Hand a job to the queue, with its pixels if there is room for them."""
        self._jobs = {id: job for id, job in self._jobs.items() if not job.over}
        if request.id in self._jobs:
            raise RequestError("malformed", "A job with this id has not ended yet.")
        if self._outbox.full:
            raise RequestError("busy", "Read the earlier results first.")
        self._house.queue.check_room()
        payload = None
        if isinstance(request, Stylize) and request.nbytes:
            _check_memory(request)
            payload = self._reader.payload()
        job = Job(request, payload, self._outbox, log=self._house.log, asked=asked)
        self._house.queue.add(job)
        self._jobs[request.id] = job


def _check_memory(request: Stylize) -> None:
    """Refuse pixels that would not fit, before memory is taken for them."""
    import psutil

    from nstrt.runtime.system.host import available_memory

    # What the process has already is taken.
    free = max(0, available_memory() - int(psutil.Process().memory_info().rss))
    pixels = sum(picture.width * picture.height for picture in request.pixels)
    needed = request.nbytes + pixels * _BYTES_PER_PIXEL
    if needed > free:
        fits = int(pixels * free / needed / 1e6)
        raise TooLargeError(
            f"Pictures of {pixels / 1e6:.0f} megapixels would take {needed / 1e9:.1f} GB of memory "
            f"and {free / 1e9:.1f} GB are free; {fits} megapixels would fit."
        )
