"""Whether a worker started as the plug-in starts it answers."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO, Any

__all__ = ["Greeting", "greet"]

GIMPS_OWN = ("GI_TYPELIB_PATH", "LD_LIBRARY_PATH", "GEGL_PATH", "BABL_PATH", "NSTRT_CACHE")
"""Variables that the plug-in does not hand on either: the two lists must be equal."""

SECONDS = 20.0
"""How long a worker may take to answer."""


@dataclass(frozen=True, kw_only=True)
class Greeting:
    """What came of saying hello to a worker."""

    version: str = ""
    """The version of nstrt that answered."""

    fault: str = ""
    """Why it did not answer as it should, as a clause; empty if it did."""


def greet(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    protocol: int,
    seconds: float = SECONDS,
) -> Greeting:
    """Start a worker with ``command``, say hello, and end it.

    Its environment is a clean one, as it is when GIMP was started from a menu.
    """
    if not Path(command[0]).exists():
        return Greeting(fault=f"its Python is not there any more ({command[0]})")
    with tempfile.TemporaryFile() as complaints:
        try:
            worker = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env=_clean(environment),
                # On Windows a console window would flash up.
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            return Greeting(fault=f"it cannot be started ({error.strerror})")
        try:
            answer = _ask(worker, {"op": "hello", "id": 0, "protocol": protocol}, seconds)
        finally:
            code = _end(worker)
        complaints.seek(0)
        said = complaints.read().decode(errors="replace").strip().splitlines()
    if answer is None:
        return Greeting(fault=f"it did not answer within {seconds:.0f} seconds")
    if not answer:
        last = said[-1].removeprefix("nstrt: ").rstrip(".") if said else ""
        return Greeting(fault=f"it ended with code {code}" + (f": {last}" if last else ""))
    return _understand(answer, protocol)


def _ask(
    worker: subprocess.Popen[bytes], question: Mapping[str, Any], seconds: float
) -> bytes | None:
    """The line that answers, an empty one if there was none, None if it took too long."""
    stdin, stdout = worker.stdin, worker.stdout
    assert stdin
    assert stdout
    lines: list[bytes] = []
    # Windows cannot wait for a pipe with a limit; a thread can be left waiting.
    reader = Thread(target=lambda: lines.append(_line(stdout)), daemon=True)
    with suppress(OSError):
        stdin.write(json.dumps(question).encode() + b"\n")
        stdin.flush()
    reader.start()
    reader.join(seconds)
    if not lines:
        # What it holds of the pipe must be free before the pipe is closed.
        worker.kill()
        reader.join(5)
        return None
    return lines[0]


def _line(stream: IO[bytes]) -> bytes:
    try:
        return stream.readline(1 << 16)
    except (OSError, ValueError):
        return b""


def _understand(answer: bytes, protocol: int) -> Greeting:
    try:
        event = json.loads(answer)
        if event["event"] == "error":
            return Greeting(fault=f"it refused: {event['message'].rstrip('.')}")
        if event["protocol"] != protocol:
            return Greeting(fault=f"it speaks protocol {event['protocol']}, not {protocol}")
        return Greeting(version=str(event["nstrt"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Greeting(fault="its answer is not one of a worker")


def _end(worker: subprocess.Popen[bytes]) -> int:
    """End a worker, by its own means first; gives its exit code."""
    if worker.stdin:
        with suppress(OSError):
            worker.stdin.close()
    try:
        return worker.wait(5)
    except subprocess.TimeoutExpired:
        worker.kill()
        return worker.wait()
    finally:
        if worker.stdout:
            with suppress(OSError):
                worker.stdout.close()


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTHON") and name not in GIMPS_OWN
    }
    return {**kept, **environment}
