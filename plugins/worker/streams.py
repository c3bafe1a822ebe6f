"""Where bytes come from and go to: a socket, or standard input and output."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from typing import Protocol

__all__ = ["PipeStream", "SocketStream", "Stream", "take_standard_streams"]

_CHUNK = 1 << 20


class Stream(Protocol):
    """Bytes in both directions."""

    def receive(self, most: int) -> bytes:
        """Wait for some bytes; none at the end."""

    def send(self, data: memoryview) -> None:
        """Send them all."""

    def close(self) -> None:
        """End both directions; who waits in them returns or raises OSError."""


class SocketStream:
    """A connected socket."""

    def __init__(self, socket: socket.socket) -> None:
        self._socket = socket

    def receive(self, most: int) -> bytes:
        return self._socket.recv(most)

    def send(self, data: memoryview) -> None:
        self._socket.sendall(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class PipeStream:
    """Two file descriptors.

    Read and written with plain system calls: a thread that waits in one of Python's own buffered
    files at exit brings the interpreter down.
    """

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    def receive(self, most: int) -> bytes:
        return os.read(self._incoming, most)

    def send(self, data: memoryview) -> None:
        sent = 0
        while sent < len(data):
            sent += os.write(self._outgoing, data[sent : sent + _CHUNK])

    def close(self) -> None:
        # Closing a descriptor that another thread waits in ends no wait: the process does.
        pass


def take_standard_streams() -> PipeStream:
    """Keep standard input and output for the protocol, out of everybody else's reach.

    What libraries print goes to standard error from now on, and what they read is empty.
    """
    incoming, outgoing = os.dup(0), os.dup(1)
    for descriptor in (incoming, outgoing):
        if sys.platform == "win32":
            import msvcrt

            msvcrt.setmode(descriptor, os.O_BINARY)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return PipeStream(incoming, outgoing)
