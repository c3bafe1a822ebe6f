"""Byte streams in both directions: a socket, or standard input and output."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
from typing import Protocol

__all__ = ["PipeStream", "SocketStream", "Stream", "claim_standard_streams"]

_CHUNK = 1 << 20


class Stream(Protocol):
    """Bytes in both directions."""

    patience: float | None
    """Seconds that :meth:`receive` waits before it raises TimeoutError; None for no limit."""

    def receive(self, limit: int) -> bytes:
        """Wait for up to ``limit`` bytes; returns none at the end."""

    def send(self, data: memoryview) -> None:
        """Send all bytes."""

    def close(self) -> None:
        """Close both directions; calls that wait in them return or raise OSError."""


class SocketStream:
    """A connected socket."""

    def __init__(self, socket: socket.socket) -> None:
        self._socket = socket
        self.patience: float | None = None

    def receive(self, limit: int) -> bytes:
        # A timeout of the socket would hold for the thread that sends, too.
        if self.patience is not None and not _arrives(self._socket, self.patience):
            raise TimeoutError
        return self._socket.recv(limit)

    def send(self, data: memoryview) -> None:
        self._socket.sendall(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def _arrives(connected: socket.socket, seconds: float) -> bool:
    """Wait for bytes, or the end, of a connection; False if there are none in time."""
    try:
        if not hasattr(select, "poll"):
            return bool(select.select([connected], [], [], seconds)[0])
        poll = select.poll()
        poll.register(connected, select.POLLIN)
        return bool(poll.poll(1000 * seconds))
    except ValueError as error:
        raise OSError("the connection is closed") from error


class PipeStream:
    """Two file descriptors, read and written with plain system calls.

    A thread that waits in one of Python's buffered files at exit aborts the interpreter.
    """

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        # Not heeded: nobody but the one host waits for it.
        self.patience: float | None = None

    def receive(self, limit: int) -> bytes:
        return os.read(self._incoming, limit)

    def send(self, data: memoryview) -> None:
        sent = 0
        while sent < len(data):
            sent += os.write(self._outgoing, data[sent : sent + _CHUNK])

    def close(self) -> None:
        # Closing a descriptor does not end another thread's wait in it; the process's end does.
        pass


def claim_standard_streams() -> PipeStream:
    """Keep standard input and output for the protocol alone.

    From then on libraries print to standard error, and read an empty input.
    """
    incoming, outgoing = os.dup(0), os.dup(1)
    # Output first: until it is redirected, another thread may print into the protocol.
    os.dup2(2, 1)
    for descriptor in (incoming, outgoing):
        if sys.platform == "win32":
            import msvcrt

            msvcrt.setmode(descriptor, os.O_BINARY)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return PipeStream(incoming, outgoing)
