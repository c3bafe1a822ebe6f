"""What a host is told, in order, without anybody waiting for the host.

A host that does not read must not keep the painter from painting. So events wait here; progress
and previews replace the ones of the same job that nobody has read yet.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from nstrt.plugins.worker.messages import encode

__all__ = ["Outbox"]

MOST_EVENTS = 1000
"""Events that may wait before the host's own requests wait too."""

MOST_BYTES = 1 << 30
"""Bytes of results that may wait before no more jobs are taken."""

PATIENCE = 30.0
"""Seconds that a host's requests wait for it to read, before it is cut off."""

Send = Callable[[memoryview], None]


class Outbox:
    """The events that wait for one host, and the thread that sends them."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._changed = threading.Condition()
        self._waiting: dict[Hashable, tuple[bytes, memoryview | None]] = {}
        self._numbers = itertools.count()
        self._kept = 0
        self._bytes = 0
        self._sending = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def put(
        self,
        event: Mapping[str, Any],
        payload: memoryview | None = None,
        *,
        replacing: Hashable = None,
    ) -> None:
        """Have an event sent. ``replacing`` names what only the last of is worth sending."""
        line = encode(event)
        with self._changed:
            if self._closed:
                return
            if replacing is None:
                self._waiting[next(self._numbers)] = line, payload
                self._kept += 1
                self._bytes += payload.nbytes if payload is not None else 0
            else:
                self._waiting[replacing] = line, payload
            self._changed.notify_all()

    @property
    def full(self) -> bool:
        """Whether the host has so much to read that it gets no more to do."""
        return self._bytes > MOST_BYTES

    def wait_for_room(self) -> bool:
        """Wait while the host has too much to read; whether it read in time."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._closed or self._kept <= MOST_EVENTS, PATIENCE
            )

    def drain(self, seconds: float) -> bool:
        """Wait until all is sent, so long at most; whether it was."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._closed or not (self._waiting or self._sending), seconds
            )

    def close(self) -> None:
        """Send nothing more, and forget what waits."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting)
                if self._closed:
                    return
                key = next(iter(self._waiting))
                line, payload = self._waiting.pop(key)
                self._sending = True
            try:
                self._send(memoryview(line))
                if payload is not None:
                    self._send(payload)
            except OSError:
                # The host is gone; whoever reads from it learns that as well.
                self.close()
            with self._changed:
                self._sending = False
                if isinstance(key, int):
                    self._kept -= 1
                    self._bytes -= payload.nbytes if payload is not None else 0
                self._changed.notify_all()
            del line, payload
