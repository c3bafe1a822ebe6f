"""A host program as docs/worker.md alone would have it written: for the tests of the worker."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

PATIENCE = 60.0
"""Seconds after which a test fails instead of hanging, on a busy machine."""

SMALL: dict[str, Any] = {
    "iterations": 1,
    "scales": 1,
    "size": 48,
    "engine": "torch",
    # Which one is quickest is measured by each process, of sizes that are smaller in this one.
    "precision": "fp32",
    "content_layers": "relu2_1",
    "style_layers": "relu1_1",
}
"""Options of a job that takes a moment."""

LONG = {**SMALL, "iterations": 100_000}
"""Options of one that takes until it is ended."""

Event = dict[str, Any]

_MAIN = [sys.executable, "-m", "nstrt.plugins.cli"]


def start(*arguments: str, main: list[str] | None = None, **more: Any) -> subprocess.Popen[bytes]:
    """Start a worker process."""
    return subprocess.Popen([*(main or _MAIN), "worker", *arguments], bufsize=0, **more)


def end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


class Host:
    """One conversation."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._buffer = bytearray()
        self._selector = selectors.DefaultSelector()
        self._selector.register(incoming, selectors.EVENT_READ)
        self._number = 0

    def number(self) -> int:
        self._number += 1
        return self._number

    def send(self, payload: bytes | np.ndarray | None = None, /, **request: Any) -> None:
        if payload is not None:
            payload = bytes(memoryview(payload).cast("B"))
            request.setdefault("nbytes", len(payload))
        self.send_bytes(json.dumps(request).encode() + b"\n" + (payload or b""))

    def send_bytes(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._outgoing, view[: 1 << 16]) :]

    def receive(self) -> Event:
        """The next event, with its pixels under ``pixels``. Raises EOFError at the end."""
        while (newline := self._buffer.find(b"\n")) < 0:
            assert len(self._buffer) <= 64 * 1024
            self._more()
        event: Event = json.loads(self._buffer[:newline].decode("utf-8"))
        del self._buffer[: newline + 1]
        if "nbytes" in event:
            while len(self._buffer) < event["nbytes"]:
                self._more()
            event["pixels"] = bytes(self._buffer[: event["nbytes"]])
            del self._buffer[: event["nbytes"]]
        return event

    def _more(self) -> None:
        if not self._selector.select(PATIENCE):
            raise TimeoutError("the worker says nothing")
        try:
            data = os.read(self._incoming, 1 << 20)
        except ConnectionResetError:
            data = b""
        if not data:
            raise EOFError
        self._buffer += data

    def until(self, id: object, *kinds: str) -> Event:
        """The first event of a request that is of one of the kinds."""
        while True:
            event = self.receive()
            if event["id"] == id and event["event"] in kinds:
                return event

    def answer(self, id: object) -> list[Event]:
        """All events of a job up to its last one."""
        events = []
        while True:
            event = self.receive()
            if event["id"] == id:
                events.append(event)
                if event["event"] not in ("progress", "preview"):
                    return events

    def hello(self, **more: Any) -> Event:
        id = self.number()
        self.send(op="hello", id=id, protocol=1, **more)
        return self.until(id, "hello", "error")

    def ask(self, op: str, **more: Any) -> Event:
        id = self.number()
        self.send(op=op, id=id, **more)
        return self.answer(id)[-1]

    def begin(
        self,
        content: np.ndarray | str,
        style: np.ndarray | str,
        options: Mapping[str, Any] = SMALL,
        **more: Any,
    ) -> int:
        """Ask for a picture; gives the job's id."""
        pixels = b""
        request = {}
        for key, picture in (("content", content), ("style", style)):
            if isinstance(picture, str):
                request[key] = {"file": picture}
                continue
            height, width, _ = picture.shape
            pixels += picture.tobytes()
            request[key] = {"width": width, "height": height, "format": format_of(picture)}
        id = self.number()
        self.send(pixels or None, op="stylize", id=id, **request, options=dict(options), **more)
        return id

    def paint(self, *arguments: Any, **more: Any) -> list[Event]:
        return self.answer(self.begin(*arguments, **more))

    def close(self) -> None:
        self._selector.close()


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
    # From here on the descriptor is read and written as it is; Host has its own patience.
    connection.setblocking(True)
    return connection


def reach(path: Path, process: subprocess.Popen[bytes]) -> socket.socket:
    """Connect to a worker that is being started, as the page says."""
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
