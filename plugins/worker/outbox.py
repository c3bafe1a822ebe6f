"""Events waiting to be sent to one host, so that no job waits for a host that does not read.

Progress and previews replace an unsent one of the same job.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from nstrt.plugins.worker.messages import encode
from nstrt.plugins.worker.pixel_memory import PixelMemory

__all__ = ["Outbox"]

MAX_EVENTS = 1000
"""Events that may wait before the host's requests wait too."""

MAX_BYTES = 1 << 30
"""Bytes of results that may wait before the host's jobs are refused."""

ROOM_SECONDS = 30.0
"""Seconds that a host's requests wait for it to read before the connection is closed."""

Send = Callable[[memoryview], None]


class Outbox:
    """The events that wait for one host, and the thread that sends them."""

    def __init__(self, send: Send, memory: PixelMemory) -> None:
        """``memory`` counts the pixels of all hosts."""
        self._send = send
        self._memory = memory
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
        """Add an event; it replaces an unsent one with an equal ``replacing``."""
        line = encode(event)
        with self._changed:
            if self._closed:
                return
            if replacing is None:
                replacing = next(self._numbers)
                self._kept += 1
            self._count(payload, 1)
            self._count(self._waiting.get(replacing, (b"", None))[1], -1)
            self._waiting[replacing] = line, payload
            self._changed.notify_all()

    @property
    def full(self) -> bool:
        """True if more than :data:`MAX_BYTES` of results and previews wait."""
        return self._bytes > MAX_BYTES

    def wait_for_room(self) -> bool:
        """Wait while more than :data:`MAX_EVENTS` wait; False after :data:`ROOM_SECONDS`."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._closed or self._kept <= MAX_EVENTS, ROOM_SECONDS
            )

    def drain(self, seconds: float) -> bool:
        """Wait up to ``seconds`` until everything is sent; False if it is not."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._closed or not (self._waiting or self._sending), seconds
            )

    def close(self) -> None:
        """Drop the events that wait, and send nothing more."""
        with self._changed:
            self._closed = True
            for _, payload in self._waiting.values():
                self._count(payload, -1)
            self._waiting.clear()
            self._changed.notify_all()

    def _count(self, payload: memoryview | None, sign: int) -> None:
        """Count the bytes of a payload that waits (1), or that waits no longer (-1)."""
        if payload is not None:
            self._bytes += sign * payload.nbytes
            self._memory.add(sign * payload.nbytes, checked=False)

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
                # The host is gone; the thread that reads from it gets the same error.
                self.close()
            with self._changed:
                self._sending = False
                if isinstance(key, int):
                    self._kept -= 1
                self._count(payload, -1)
                self._changed.notify_all()
            del line, payload
