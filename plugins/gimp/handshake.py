"""Starts a worker as the plug-in does, and checks that it answers."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from nstrt.plugins.worker.client import Client, Event
from nstrt.plugins.worker.messages import EndOfStream, RequestError
from nstrt.plugins.worker.streams import PipeStream

__all__ = ["Handshake", "handshake"]

DROPPED_VARIABLES = (
    "GI_TYPELIB_PATH",
    "LD_LIBRARY_PATH",
    "GEGL_PATH",
    "BABL_PATH",
    "NSTRT_CACHE",
)
"""Variables that the worker does not inherit; the plug-in has an equal list."""

SECONDS = 20.0
"""Seconds that a worker has to answer."""

END_SECONDS = 5.0
"""Seconds that a worker has to end."""


@dataclass(frozen=True, kw_only=True)
class Handshake:
    """Outcome of a handshake."""

    version: str = ""
    """The version of nstrt that answered."""

    fault: str = ""
    """Why it failed, as a clause; empty if it succeeded."""


def handshake(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    protocol: int,
    seconds: float = SECONDS,
) -> Handshake:
    """Start a worker with ``command``, say hello, and end it.

    The worker's environment is as clean as that of a GIMP started from a menu.
    """
    if not Path(command[0]).exists():
        return Handshake(fault=f"its Python is not there any more ({command[0]})")
    with tempfile.TemporaryFile() as stderr:
        try:
            worker = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                bufsize=0,
                env=_clean(environment),
                # On Windows a console window would appear.
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            return Handshake(fault=f"it cannot be started ({error.strerror})")
        try:
            answer = _say_hello(worker, protocol, seconds)
        finally:
            code = _end(worker)
        stderr.seek(0)
        lines = stderr.read().decode(errors="replace").strip().splitlines()
    if answer is None:
        return Handshake(fault=f"it did not answer within {seconds:.0f} seconds")
    if isinstance(answer, EndOfStream):
        last = lines[-1].removeprefix("nstrt: ").rstrip(".") if lines else ""
        return Handshake(fault=f"it ended with code {code}" + (f": {last}" if last else ""))
    return _outcome(answer, protocol)


def _say_hello(
    worker: subprocess.Popen[bytes], protocol: int, seconds: float
) -> Event | EndOfStream | RequestError | None:
    """The worker's first event, the exception in its place, or None if it took too long."""
    assert worker.stdin
    assert worker.stdout
    client = Client(PipeStream(worker.stdout.fileno(), worker.stdin.fileno()))
    answers: list[Event | EndOfStream | RequestError] = []

    def run() -> None:
        try:
            answers.append(client.handshake(protocol=protocol))
        except (EndOfStream, RequestError) as error:
            answers.append(error)
        except OSError:
            answers.append(EndOfStream())

    # Windows has no wait for a pipe with a time limit; the thread is left behind.
    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not answers:
        # The thread must have left the pipe before it is closed.
        worker.kill()
        thread.join(END_SECONDS)
        return None
    return answers[0]


def _outcome(answer: Event | RequestError, protocol: int) -> Handshake:
    try:
        if isinstance(answer, RequestError):
            raise ValueError(answer)
        if answer["event"] == "error":
            return Handshake(fault=f"it refused: {answer['message'].rstrip('.')}")
        if answer["protocol"] != protocol:
            return Handshake(fault=f"it speaks protocol {answer['protocol']}, not {protocol}")
        return Handshake(version=str(answer["nstrt"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Handshake(fault="its answer is not one of a worker")


def _end(worker: subprocess.Popen[bytes]) -> int:
    """End a worker by closing its input, then by force; returns its exit code."""
    if worker.stdin:
        with suppress(OSError):
            worker.stdin.close()
    try:
        return worker.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        worker.kill()
        return worker.wait()
    finally:
        if worker.stdout:
            with suppress(OSError):
                worker.stdout.close()


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without Python's and GIMP's variables, with ``environment``."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTHON") and name not in DROPPED_VARIABLES
    }
    return {**kept, **environment}
