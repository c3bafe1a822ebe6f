"""The worker process from its start to its end."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import NoReturn

from nstrt.plugins.worker.connection import Connection
from nstrt.plugins.worker.jobs import Queue
from nstrt.plugins.worker.listen import Door
from nstrt.plugins.worker.log import log_file, open_log
from nstrt.plugins.worker.painter import Painter
from nstrt.plugins.worker.streams import SocketStream, take_standard_streams
from nstrt.plugins.worker.watch import end_of_process

__all__ = ["Worker", "serve_socket", "serve_standard_streams"]

MOST_CONNECTIONS = 64
"""Hosts that may be connected at once."""

GREETING = 30.0
"""Seconds that a host has to say hello where others than the worker's user can connect."""

NICENESS = 5
"""How far the worker stands back behind the person who paints beside it."""

LOG = logging.getLogger("nstrt.worker")


class Worker:
    """What all connections share, and how it all ends."""

    def __init__(self) -> None:
        path = log_file()
        self.log = str(path)
        """The path of the log."""
        self.version = version("nstrt")
        """Of nstrt."""
        self.queue = Queue(Painter(self._notice).do, log=self.log)
        """The jobs of all connections."""
        self._connections: dict[Connection, float] = {}
        self._lock = threading.Lock()
        self._last = time.monotonic()
        self._ending = threading.Event()
        self._patience = 0.0
        self._door: Door | None = None
        open_log(path)
        LOG.info("nstrt %s starts, Python %s", self.version, sys.version.split()[0])

    def quit(self) -> None:
        """End the worker, with a moment for what is under way."""
        self.end("asked to", patience=1.5)

    def end(self, why: str, *, patience: float = 0.3) -> None:
        """End the worker: jobs and hosts have ``patience`` seconds for their last words."""
        if not self._ending.is_set():
            LOG.info("ends: %s", why)
            self._patience = patience
            self._ending.set()

    def talk(self, connection: Connection) -> None:
        """Serve a host until it goes."""
        with self._lock:
            self._connections[connection] = time.monotonic()
        try:
            connection.serve()
        finally:
            with self._lock:
                del self._connections[connection]
                self._last = time.monotonic()

    def let_in(self, door: Door) -> None:
        """Serve whoever comes through the door, each in a thread."""
        self._door = door

        def run() -> None:
            while not self._ending.is_set():
                try:
                    stream = SocketStream(door.accept())
                except OSError as error:
                    if self._ending.is_set():
                        return
                    # Too many files are open, or the host left already.
                    LOG.info("nobody came in: %s", error)
                    time.sleep(0.1)
                    continue
                if len(self._connections) >= MOST_CONNECTIONS:
                    stream.close()
                    continue
                connection = Connection(stream, self, token=door.token)
                threading.Thread(
                    target=self.talk, args=(connection,), name="host", daemon=True
                ).start()

        threading.Thread(target=run, name="door", daemon=True).start()

    def end_after(self, wait: Callable[[], None], why: str) -> None:
        """End when ``wait`` returns."""

        def run() -> None:
            wait()
            self.end(why)

        threading.Thread(target=run, name="watch", daemon=True).start()

    def wait(self, *, idle: float | None = None) -> NoReturn:
        """Wait for the end, and end the process."""
        while not self._ending.wait(0.25):
            if self._door is not None and self._door.token is not None:
                self._show_strangers_out()
            if idle is not None and self._idle_for() >= idle:
                self.end("nobody needs it")
        self._leave()

    def _notice(self, line: str) -> None:
        self.queue.notice(line)

    def _idle_for(self) -> float:
        with self._lock:
            if any(connection.greeted for connection in self._connections):
                return 0.0
            last = self._last
        done = self.queue.idle_since
        return 0.0 if done is None else time.monotonic() - max(last, done)

    def _show_strangers_out(self) -> None:
        with self._lock:
            late = [
                connection
                for connection, since in self._connections.items()
                if not connection.greeted and time.monotonic() - since > GREETING
            ]
        for connection in late:
            connection.close()

    def _leave(self) -> NoReturn:
        # Libraries' threads do not end in good order while they compute: the process ends them.
        with contextlib.suppress(BaseException):
            if self._door is not None:
                self._door.close()
            end = time.monotonic() + self._patience
            self.queue.end(self._patience)
            for connection in list(self._connections):
                connection.drain(max(0.0, end - time.monotonic()))
            LOG.info("ended")
            logging.shutdown()
        os._exit(0)


def serve_standard_streams(*, host_pid: int | None) -> NoReturn:
    """Serve the host at standard input and output until its input ends."""
    host = None if host_pid is None else end_of_process(host_pid)
    terminal = os.isatty(0)
    stream = take_standard_streams()
    worker = Worker()
    _heed_signals(worker)
    if not terminal:
        # Ctrl-C in the host's terminal is the host's to decide about: it closes the input.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(stream, worker)
    worker.end_after(lambda: worker.talk(connection), "its input has ended")
    if host is not None:
        worker.end_after(host, "its host has ended")
    worker.wait()


def serve_socket(
    opening: Callable[[Path], Door | None], file: Path, *, host_pid: int | None, idle: float
) -> None:
    """Serve all hosts that come to a socket; returns at once if another worker does."""
    host = None if host_pid is None else end_of_process(host_pid)
    door = opening(file)
    if door is None:
        return
    worker = Worker()
    worker.let_in(door)
    _heed_signals(worker)
    _detach()
    if host is not None:
        worker.end_after(host, "its host has ended")
    worker.wait(idle=idle)


def _heed_signals(worker: Worker) -> None:
    def end(number: int, frame: FrameType | None) -> None:
        worker.end(f"signal {number}")

    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, end)


def _detach() -> None:
    """Leave the terminal, the group and the folder of whoever started the worker."""
    if hasattr(os, "setsid"):
        with contextlib.suppress(OSError):
            os.setsid()
        with contextlib.suppress(OSError):
            os.nice(NICENESS)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    with contextlib.suppress(OSError):
        os.chdir(os.path.abspath(os.sep))
