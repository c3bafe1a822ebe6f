"""Listens for hosts, at a Unix socket or on the loopback interface with a token."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from nstrt.runtime.errors import NstrtError
from nstrt.runtime.system.files import write_atomically
from nstrt.runtime.system.json_file import read_json

__all__ = ["ListenError", "Listener", "listen_loopback", "listen_unix"]

BACKLOG = 128
"""Connections that may wait to be accepted."""

START_SECONDS = 10.0
"""Seconds that another worker with the same file may take to listen."""


_MAX_ENDPOINT_BYTES = 4096
"""Largest file with port and token in bytes."""


_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)

_NONBLOCK = getattr(os, "O_NONBLOCK", 0)


class ListenError(NstrtError):
    """The worker cannot listen at the given file."""

    code = "option"


class Listener:
    """A listening socket, and the file by which hosts find it."""

    def __init__(
        self, listening: socket.socket, path: Path, lock: IO[bytes], token: str | None
    ) -> None:
        self._socket = listening
        self._path = path
        self._lock = lock
        self._file = os.lstat(path)
        self.token = token
        """The token that hosts must send; None where the file's mode keeps other users out."""

    def accept(self) -> socket.socket:
        """Wait for a connection. Raises OSError once the listener is closed."""
        connected, _ = self._socket.accept()
        if self.token is not None:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connected

    def close(self) -> None:
        """Stop listening, and remove the file unless another worker has replaced it."""
        with contextlib.suppress(OSError):
            now = os.lstat(self._path)
            if (now.st_dev, now.st_ino) == (self._file.st_dev, self._file.st_ino):
                os.unlink(self._path)
        with contextlib.suppress(OSError):
            self._socket.close()
        self._lock.close()


def listen_unix(file: Path) -> Listener | None:
    """Listen at a Unix socket; None if another worker does already."""
    if not hasattr(socket, "AF_UNIX") or sys.platform == "win32":
        raise ListenError("This system has no Unix sockets for Python; use --loopback FILE.")
    path = file.absolute()

    def answers() -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            return probe.connect_ex(str(path)) == 0

    lock = _acquire(path, answers)
    if lock is None:
        return None
    with contextlib.ExitStack() as stack:
        stack.callback(lock.close)
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise ListenError(f"'{path}' exists and is no socket; choose another file.")
            if answers():
                # A worker whose lock file was deleted still serves.
                return None
        listening = stack.enter_context(socket.socket(socket.AF_UNIX))
        # Bound under another name: the socket must accept connections when its file appears.
        new = f"{path}.new"
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(new).st_mode):
                raise ListenError(f"'{new}' is in the way and is no socket; choose another file.")
            os.unlink(new)
        before = os.umask(0o177)
        try:
            listening.bind(new)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ListenError(f"No socket can be made at '{path}' ({reason}).") from error
        finally:
            os.umask(before)
        listening.listen(BACKLOG)
        os.replace(new, path)
        listener = Listener(listening, path, lock, None)
        stack.pop_all()
        return listener
    raise AssertionError


def listen_loopback(file: Path) -> Listener | None:
    """Listen on 127.0.0.1 and write port and token to a file; None if another worker does."""
    path = file.absolute()

    def answers() -> bool:
        port = _endpoint(path)
        try:
            with socket.create_connection(("127.0.0.1", port or 0), 1.0):
                return port is not None
        except (OSError, OverflowError):
            return False

    lock = _acquire(path, answers)
    if lock is None:
        return None
    with contextlib.ExitStack() as stack:
        stack.callback(lock.close)
        if os.path.lexists(path) and _endpoint(path) is None:
            raise ListenError(
                f"'{path}' exists and is no file of a worker's port and token; choose another file."
            )
        listening = stack.enter_context(socket.socket(socket.AF_INET))
        if sys.platform == "win32":
            # Without it another user's program could bind the port too.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        listening.bind(("127.0.0.1", 0))
        listening.listen(BACKLOG)
        token = secrets.token_hex(32)
        endpoint = json.dumps({"port": listening.getsockname()[1], "token": token})
        _write_private(path, endpoint)
        listener = Listener(listening, path, lock, token)
        stack.pop_all()
        return listener
    raise AssertionError


def _endpoint(path: Path) -> int | None:
    """The port in a worker's file of port and token; None for any other file."""
    try:
        endpoint = read_json(path, limit=_MAX_ENDPOINT_BYTES)
    except (OSError, ValueError):
        return None
    if not isinstance(endpoint, dict) or endpoint.keys() != {"port", "token"}:
        return None
    port = endpoint["port"]
    return port if isinstance(port, int) else None


def _write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600, whole or not at all."""
    try:
        write_atomically(path, text.encode(), mode=0o600)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ListenError(f"'{path}' cannot be written ({reason}).") from error


def _acquire(path: Path, answers: Callable[[], bool]) -> IO[bytes] | None:
    """Lock the file ``PATH.lock``; None if another worker holds it and ``answers``.

    The system releases the lock of a process that ends, however it ends.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # O_NONBLOCK: a pipe of that name must not block.
        flags = os.O_RDWR | os.O_CREAT | _NOFOLLOW | _NONBLOCK
        lock = open(os.open(f"{path}.lock", flags, 0o600), "r+b", buffering=0)  # noqa: SIM115
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ListenError(f"Nothing can be written beside '{path}' ({reason}).") from error
    deadline = time.monotonic() + START_SECONDS
    while not _try_lock(lock):
        # The host that started this worker connects once this one has left: the other worker must
        # listen by then. If the other one ends instead, its lock is free.
        if answers():
            lock.close()
            return None
        if time.monotonic() > deadline:
            lock.close()
            raise ListenError(f"Another worker has '{path}' and does not answer; end it first.")
        time.sleep(0.05)
    return lock


def _try_lock(lock: IO[bytes]) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
