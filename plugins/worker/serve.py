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
from nstrt.plugins.worker.host_process import process_waiter
from nstrt.plugins.worker.job_executor import JobExecutor
from nstrt.plugins.worker.job_queue import JobQueue
from nstrt.plugins.worker.listener import Listener
from nstrt.plugins.worker.log import log_file, open_log
from nstrt.plugins.worker.messages import RequestError
from nstrt.plugins.worker.pixel_memory import PixelMemory
from nstrt.plugins.worker.streams import SocketStream, claim_standard_streams

__all__ = ["Worker", "serve_socket", "serve_standard_streams"]

MAX_CONNECTIONS = 64
"""Hosts that said hello and may be connected at once."""

MAX_STRANGERS = 32
"""Connections without a hello that may be open at once."""

HANDSHAKE_SECONDS = 10.0
"""Seconds that a host has to say hello."""

STRANGER_SECONDS = 0.5
"""Seconds that a host has to say hello while :data:`MAX_STRANGERS` others wait."""

SHUTDOWN_SECONDS = 0.3
"""Seconds that jobs and connections have when the worker ends."""

QUIT_SECONDS = 1.5
"""Seconds that they have when a host asked the worker to end."""

NICENESS = 5
"""Added to the process's niceness: the user's own programs come first."""

LOG = logging.getLogger("nstrt.worker")


class Worker:
    """State that all connections share, and the process's end."""

    def __init__(self) -> None:
        path = log_file()
        self.log = str(path)
        """Path of the log."""
        self.version = version("nstrt")
        """Version of nstrt."""
        executor = JobExecutor(self._notify)
        self.queue = JobQueue(executor.execute, log=self.log)
        """Jobs of all connections."""
        self.pixels = PixelMemory()
        """Pixels of all connections."""
        self._connections: dict[Connection, float] = {}
        """Open connections and the times they were opened."""
        self._lock = threading.Lock()
        self._last_closed = time.monotonic()
        self._ending = threading.Event()
        self._shutdown_seconds = 0.0
        self._listener: Listener | None = None
        open_log(path)
        LOG.info("nstrt %s starts, Python %s", self.version, sys.version.split()[0])

    def quit(self) -> None:
        """End the worker at a host's request."""
        self.end("asked to", seconds=QUIT_SECONDS)

    def end(self, why: str, *, seconds: float = SHUTDOWN_SECONDS) -> None:
        """End the worker; jobs and connections have ``seconds`` to end."""
        if not self._ending.is_set():
            LOG.info("ends: %s", why)
            self._shutdown_seconds = seconds
            self._ending.set()

    def admit(self, connection: Connection) -> None:
        """Give a connection whose host said hello a place.

        Raises :class:`RequestError` if :data:`MAX_CONNECTIONS` hosts have one.
        """
        with self._lock:
            if sum(other.accepted for other in self._connections) >= MAX_CONNECTIONS:
                raise RequestError(
                    "busy", f"{MAX_CONNECTIONS} programs are connected; close one of them first."
                )
            connection.accepted = True

    def serve(self, connection: Connection) -> None:
        """Serve a connection until its host closes it."""
        self._register(connection)
        try:
            connection.serve()
        finally:
            with self._lock:
                self._connections.pop(connection, None)
                self._last_closed = time.monotonic()

    def accept_from(self, listener: Listener) -> None:
        """Accept connections in a thread, and serve each in a thread of its own."""
        self._listener = listener

        def run() -> None:
            while not self._ending.is_set():
                try:
                    stream = SocketStream(listener.accept())
                except OSError as error:
                    if self._ending.is_set():
                        return
                    # Too many open files, or the host closed its side before.
                    LOG.info("a connection was not accepted: %s", error)
                    time.sleep(0.1)
                    continue
                self._make_room()
                try:
                    connection = Connection(stream, self, token=listener.token)
                    self._register(connection)
                    threading.Thread(
                        target=self.serve, args=(connection,), name="host", daemon=True
                    ).start()
                except (RuntimeError, MemoryError) as error:
                    # No thread can be started; hosts that leave free some.
                    LOG.info("a connection was not served: %s", error)
                    stream.close()

        threading.Thread(target=run, name="listener", daemon=True).start()

    def end_after(self, wait: Callable[[], None], why: str) -> None:
        """End the worker when ``wait`` returns; a thread calls it."""

        def run() -> None:
            wait()
            self.end(why)

        threading.Thread(target=run, name="watch", daemon=True).start()

    def run(self, *, idle: float | None = None) -> NoReturn:
        """Run until the worker ends, by itself after ``idle`` seconds, then exit the process."""
        while not self._ending.wait(0.25):
            if self._listener is not None:
                self._close_strangers(HANDSHAKE_SECONDS)
            if idle is not None and self._idle_seconds() >= idle:
                self.end("nobody needs it")
        self._exit()

    def _notify(self, line: str) -> None:
        self.queue.report_preparation(line)

    def _idle_seconds(self) -> float:
        """Seconds without a connection and a job."""
        with self._lock:
            if any(connection.accepted for connection in self._connections):
                return 0.0
            last = self._last_closed
        idle_since = self.queue.idle_since
        return 0.0 if idle_since is None else time.monotonic() - max(last, idle_since)

    def _register(self, connection: Connection) -> None:
        with self._lock:
            self._connections.setdefault(connection, time.monotonic())

    def _make_room(self) -> None:
        """Wait until fewer than :data:`MAX_STRANGERS` connections wait for a hello.

        The oldest are closed, so that no silent ones keep a new host out.
        """
        while self._close_strangers(STRANGER_SECONDS, beyond=MAX_STRANGERS - 1):
            if self._ending.wait(STRANGER_SECONDS / 10):
                return

    def _close_strangers(self, seconds: float, *, beyond: int = 0) -> bool:
        """Close the oldest connections beyond a number whose hosts said no hello in ``seconds``.

        Returns True if more than that number are left.
        """
        with self._lock:
            opened = [
                (since, connection)
                for connection, since in self._connections.items()
                if not connection.accepted
            ]
            surplus = sorted(opened, key=lambda item: item[0])[: max(0, len(opened) - beyond)]
            late = [item for item in surplus if time.monotonic() - item[0] > seconds]
            for _, connection in late:
                del self._connections[connection]
        for _, connection in late:
            connection.close()
        return len(surplus) > len(late)

    def _exit(self) -> NoReturn:
        # Libraries' threads cannot be ended while they compute: the process's end does it.
        with contextlib.suppress(BaseException):
            if self._listener is not None:
                self._listener.close()
            deadline = time.monotonic() + self._shutdown_seconds
            self.queue.cancel_all(self._shutdown_seconds)
            for connection in list(self._connections):
                connection.drain(max(0.0, deadline - time.monotonic()))
            LOG.info("ended")
            logging.shutdown()
        os._exit(0)


def serve_standard_streams(*, host_pid: int | None) -> NoReturn:
    """Serve the host at standard input and output until its input ends."""
    wait_for_host = None if host_pid is None else process_waiter(host_pid)
    terminal = os.isatty(0)
    stream = claim_standard_streams()
    worker = Worker()
    _end_on_signals(worker)
    if not terminal:
        # Ctrl-C in the host's terminal is the host's to handle: it closes the input.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(stream, worker)
    worker.end_after(lambda: worker.serve(connection), "its input has ended")
    if wait_for_host is not None:
        worker.end_after(wait_for_host, "its host has ended")
    worker.run()


def serve_socket(
    listen: Callable[[Path], Listener | None], file: Path, *, host_pid: int | None, idle: float
) -> None:
    """Serve all hosts that connect; returns at once if another worker serves the file."""
    wait_for_host = None if host_pid is None else process_waiter(host_pid)
    listener = listen(file)
    if listener is None:
        return
    _leave_process_group()
    try:
        worker = Worker()
    except BaseException:
        listener.close()
        raise
    _end_on_signals(worker)
    worker.accept_from(listener)
    _detach()
    if wait_for_host is not None:
        worker.end_after(wait_for_host, "its host has ended")
    worker.run(idle=idle)


def _end_on_signals(worker: Worker) -> None:
    def end(number: int, frame: FrameType | None) -> None:
        worker.end(f"signal {number}")

    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)
        # An ignored signal, as under nohup, stays ignored.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


def _leave_process_group() -> None:
    """Leave the terminal and process group of the program that started the worker.

    This comes before the first host is answered: it may end its group right afterwards.
    """
    if hasattr(os, "setsid"):
        with contextlib.suppress(OSError):
            os.setsid()


def _detach() -> None:
    """Leave the input and working folder of the program that started it; lower the priority."""
    if hasattr(os, "setsid"):
        with contextlib.suppress(OSError):
            os.nice(NICENESS)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    with contextlib.suppress(OSError):
        os.chdir(os.path.abspath(os.sep))
