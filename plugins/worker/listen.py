"""Where hosts find the worker: a socket that only its user can reach."""

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

__all__ = ["Door", "ListenError", "loopback_door", "unix_door"]

LISTEN_QUEUE = 16
"""Hosts that may wait to be let in."""

STARTING = 10.0
"""Seconds that another worker may take to start, before one for the same file gives up."""


class ListenError(NstrtError):
    """The worker cannot listen where it was asked to."""

    code = "option"


class Door:
    """A socket that listens, and the file that says so."""

    def __init__(
        self, listener: socket.socket, path: Path, lock: IO[bytes], token: str | None
    ) -> None:
        self._listener = listener
        self._path = path
        self._lock = lock
        self._there = os.lstat(path)
        self.token = token
        """What hosts must know; None where the file itself keeps others out."""

    def accept(self) -> socket.socket:
        """Wait for a host. Raises OSError when the door was closed."""
        connected, _ = self._listener.accept()
        if self.token is not None:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connected

    def close(self) -> None:
        """Let nobody in any more, and leave the place to the next worker."""
        with contextlib.suppress(OSError):
            now = os.lstat(self._path)
            if (now.st_dev, now.st_ino) == (self._there.st_dev, self._there.st_ino):
                os.unlink(self._path)
        with contextlib.suppress(OSError):
            self._listener.close()
        self._lock.close()


def unix_door(file: Path) -> Door | None:
    """Listen at a Unix socket; None if another worker does already."""
    if not hasattr(socket, "AF_UNIX") or sys.platform == "win32":
        raise ListenError("This system has no Unix sockets for Python; use --loopback FILE.")
    path = file.absolute()

    def answers() -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            return probe.connect_ex(str(path)) == 0

    lock = _alone(path, answers)
    if lock is None:
        return None
    with contextlib.ExitStack() as stack:
        stack.callback(lock.close)
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise ListenError(f"'{path}' exists and is no socket; choose another file.")
            if answers():
                # A worker that lost its lock file still serves.
                return None
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        # Made under another name, so that it listens as soon as it is there.
        new = f"{path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        before = os.umask(0o177)
        try:
            listener.bind(new)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ListenError(f"No socket can be made at '{path}' ({reason}).") from error
        finally:
            os.umask(before)
        listener.listen(LISTEN_QUEUE)
        os.replace(new, path)
        door = Door(listener, path, lock, None)
        stack.pop_all()
        return door
    raise AssertionError


def loopback_door(file: Path) -> Door | None:
    """Listen on 127.0.0.1 and write port and token to a file; None if another worker does."""
    path = file.absolute()

    def answers() -> bool:
        try:
            port = int(json.loads(path.read_bytes())["port"])
            with socket.create_connection(("127.0.0.1", port), 1.0):
                return True
        except (OSError, ValueError, LookupError, TypeError, OverflowError):
            return False

    lock = _alone(path, answers)
    if lock is None:
        return None
    with contextlib.ExitStack() as stack:
        stack.callback(lock.close)
        listener = stack.enter_context(socket.socket(socket.AF_INET))
        if sys.platform == "win32":
            # Another user's program must not take over the port.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen(LISTEN_QUEUE)
        token = secrets.token_hex(32)
        endpoint = json.dumps({"port": listener.getsockname()[1], "token": token})
        new = f"{path}.new"
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with open(os.open(new, flags, 0o600), "w") as stream:
                stream.write(endpoint)
            os.replace(new, path)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ListenError(f"'{path}' cannot be written ({reason}).") from error
        door = Door(listener, path, lock, token)
        stack.pop_all()
        return door
    raise AssertionError


def _alone(path: Path, answers: Callable[[], bool]) -> IO[bytes] | None:
    """A lock that says that the place is ours; None if another worker serves it.

    The system lets the lock go with the process that has it, so a killed worker's is free.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        lock = open(os.open(f"{path}.lock", flags, 0o600), "r+b", buffering=0)  # noqa: SIM115
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ListenError(f"Nothing can be written beside '{path}' ({reason}).") from error
    end = time.monotonic() + STARTING
    while not _locked(lock):
        # Another worker has it. Who starts this one may connect once this one has left, so the
        # other must be listening by then; if it ends instead, its place is free.
        if answers():
            lock.close()
            return None
        if time.monotonic() > end:
            lock.close()
            raise ListenError(f"Another worker has '{path}' and does not answer; end it first.")
        time.sleep(0.05)
    return lock


def _locked(lock: IO[bytes]) -> bool:
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
