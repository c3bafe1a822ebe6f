"""A host program for the tests of the worker."""

from __future__ import annotations

import contextlib
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nstrt.plugins.worker.client import Client, Event, hello_request
from nstrt.plugins.worker.streams import PipeStream

from support.command_line import NSTRT

PATIENCE = 60.0
"""Seconds after which a test fails instead of hanging, on a busy machine."""

SMALL: dict[str, Any] = {
    "iterations": 1,
    "scales": 1,
    "size": 48,
    "engine": "torch",
    # With "auto" each process measures, and this one measures smaller sizes.
    "precision": "fp32",
    "content_layers": "relu2_1",
    "style_layers": "relu1_1",
}
"""Options of a job that takes a fraction of a second."""

LONG = {**SMALL, "iterations": 100_000}
"""Options of a job that does not end by itself."""


def start(*arguments: str, main: Sequence[str] = NSTRT, **more: Any) -> subprocess.Popen[bytes]:
    """Start a worker process."""
    return subprocess.Popen([*main, "worker", *arguments], bufsize=0, **more)


def end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


class PatientStream(PipeStream):
    """File descriptors whose reads fail a test instead of hanging."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        super().__init__(incoming, outgoing)
        self._selector = selectors.DefaultSelector()
        self._selector.register(incoming, selectors.EVENT_READ)

    def receive(self, limit: int) -> bytes:
        if not self._selector.select(PATIENCE):
            raise TimeoutError("the worker says nothing")
        try:
            return super().receive(limit)
        except ConnectionResetError:
            return b""

    def close(self) -> None:
        self._selector.close()


class Host(Client):
    """A client that sends pictures as arrays."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self.stream = PatientStream(incoming, outgoing)
        super().__init__(self.stream)

    def hello(self, **more: Any) -> Event:
        """Say hello, also again while jobs run."""
        id = self.new_id()
        self.send(**hello_request(id, **more))
        return self.wait_for(id, "hello", "error")

    def begin(
        self,
        content: np.ndarray | str,
        style: np.ndarray | str,
        options: Mapping[str, Any] = SMALL,
        **more: Any,
    ) -> int:
        """Request a picture; returns the job's id."""
        pixels = b""
        request = {}
        for key, picture in (("content", content), ("style", style)):
            if isinstance(picture, str):
                request[key] = {"file": picture}
                continue
            pixels += picture.tobytes()
            request[key] = description(picture)
        id = self.new_id()
        payload = memoryview(pixels) if pixels else None
        self.send(payload, op="stylize", id=id, **request, options=dict(options), **more)
        return id

    def paint(self, *arguments: Any, **more: Any) -> list[Event]:
        return list(self.events_of(self.begin(*arguments, **more)))

    def close(self) -> None:
        self.stream.close()


def description(picture: np.ndarray) -> dict[str, Any]:
    """How a request describes a picture whose pixels follow it."""
    height, width, _ = picture.shape
    return {"width": width, "height": height, "format": format_of(picture)}


def format_of(picture: np.ndarray) -> str:
    channels = {3: "rgb", 4: "rgba"}[picture.shape[2]]
    return channels + {"u1": "8", "u2": "16", "f4": "f"}[picture.dtype.str[1:]]


def array_of(event: Event) -> np.ndarray:
    """The pixels of a preview or result."""
    channels = 4 if event["format"].startswith("rgba") else 3
    sample = {"8": "<u1", "6": "<u2", "f": "<f4"}[event["format"][-1]]
    return np.frombuffer(event["pixels"], sample).reshape(event["height"], event["width"], channels)


@contextlib.contextmanager
def standard_streams(**more: Any) -> Iterator[tuple[Host, subprocess.Popen[bytes]]]:
    """A worker at standard input and output, and its host."""
    process = start(stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more)
    assert process.stdin
    assert process.stdout
    host = Host(process.stdout.fileno(), process.stdin.fileno())
    try:
        yield host, process
    finally:
        host.close()
        end(process)


def connect(address: str | tuple[str, int]) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    connection.settimeout(PATIENCE)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    # The descriptor is read and written directly; PatientStream has a timeout.
    connection.setblocking(True)
    return connection


def reach(path: Path, process: subprocess.Popen[bytes]) -> socket.socket:
    """Connect to a worker that starts, as docs/worker.md says."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            return connect(str(path))
        assert process.poll() is None, process.returncode
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextlib.contextmanager
def at_socket(path: Path, *arguments: str) -> Iterator[tuple[Host, subprocess.Popen[bytes]]]:
    """A worker at a Unix socket, and a host that has said hello."""
    process = start("--socket", str(path), *arguments)
    try:
        with reach(path, process) as connection:
            host = Host(connection.fileno(), connection.fileno())
            assert host.hello()["event"] == "hello"
            yield host, process
            host.close()
    finally:
        end(process)


@contextlib.contextmanager
def another_host(path: Path) -> Iterator[Host]:
    with connect(str(path)) as connection:
        host = Host(connection.fileno(), connection.fileno())
        yield host
        host.close()
