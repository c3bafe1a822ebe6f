"""Client side of the worker's protocol, for host programs that can import nstrt.

The GIMP filter cannot; ``plugins/gimp/filter/nstrt_client.py`` is its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nstrt.plugins.worker.messages import PROTOCOL, MessageReader, encode
from nstrt.plugins.worker.streams import Stream

__all__ = ["Client", "Event", "hello_request"]

Event = dict[str, Any]
"""An event's header; its payload is under ``pixels``."""


def hello_request(
    id: int | str = 0, *, protocol: int = PROTOCOL, token: str | None = None
) -> dict[str, Any]:
    """The first request of a connection."""
    request = {"op": "hello", "id": id, "protocol": protocol}
    return request if token is None else {**request, "token": token}


class Client:
    """A host's end of a connection to a worker.

    Reads raise :class:`~nstrt.plugins.worker.messages.EndOfStream` when the worker has closed the
    connection, and :class:`~nstrt.plugins.worker.messages.RequestError` for an invalid message.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._reader = MessageReader(stream.receive)
        self._last_id = 0

    def new_id(self) -> int:
        """An id that no earlier request of this connection has."""
        self._last_id += 1
        return self._last_id

    def send(self, payload: bytes | memoryview | None = None, /, **request: Any) -> None:
        """Send a request, with ``nbytes`` unless it is given."""
        data = memoryview(b"" if payload is None else payload).cast("B")
        if payload is not None:
            request.setdefault("nbytes", data.nbytes)
        self._stream.send(memoryview(encode(request)))
        if data:
            self._stream.send(data)

    def receive(self) -> Event:
        """Wait for the next event."""
        event = self._reader.header()
        if "nbytes" in event:
            event["pixels"] = bytes(self._reader.payload())
        return event

    def wait_for(self, id: object, *kinds: str) -> Event:
        """Wait for an event of a request that is of one of the kinds; others are dropped."""
        while True:
            event = self.receive()
            if event["id"] == id and event["event"] in kinds:
                return event

    def events_of(self, id: object) -> Iterator[Event]:
        """The events of a request, up to its last one; those of other requests are dropped."""
        while True:
            event = self.receive()
            if event["id"] == id:
                yield event
                if event["event"] not in ("progress", "preview"):
                    return

    def last_event(self, id: object) -> Event:
        """Wait for the last event of a request."""
        *_, last = self.events_of(id)
        return last

    def handshake(self, *, protocol: int = PROTOCOL, token: str | None = None) -> Event:
        """Say hello on a new connection; returns the first event, ``hello`` or ``error``."""
        self.send(**hello_request(self.new_id(), protocol=protocol, token=token))
        return self.receive()

    def request(self, op: str, **fields: Any) -> Event:
        """Send a request without payload; returns its last event."""
        id = self.new_id()
        self.send(op=op, id=id, **fields)
        return self.last_event(id)
