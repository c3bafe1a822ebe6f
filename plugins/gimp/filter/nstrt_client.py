"""Client side of the worker's protocol, which docs/worker.md describes.

nstrt has a client too, but GIMP's own Python cannot import it.
"""

import json
import select
import time

from nstrt_errors import UserError
from nstrt_process import open_connection
from nstrt_settings import PROTOCOL

SEND_SECONDS = 60
HANDSHAKE_SECONDS = 30


class WorkerClient:
    """Connection to the worker of this GIMP; starts the worker if it does not run yet."""

    def __init__(self, settings, wait):
        """Connect and say hello; ``wait(seconds)`` is called while the worker is slow."""
        self.settings = settings
        self.log = settings.log
        self._wait = wait
        self._buffer = bytearray()
        self._last_id = 0
        self._socket = None
        for attempt in (1, 2):
            self._socket, token = open_connection(settings, wait)
            try:
                self._handshake(token)
                break
            except UserError:
                # The worker may just have ended after its idle time: the second attempt starts
                # another one.
                self.close()
                self._buffer.clear()
                if attempt == 2:
                    raise

    def request(self, op, payload=b"", **fields):
        """Send a request; returns its id."""
        self._last_id += 1
        message = {"op": op, "id": self._last_id, **fields}
        if payload:
            message["nbytes"] = len(payload)
        try:
            self._socket.settimeout(SEND_SECONDS)
            self._socket.sendall(json.dumps(message).encode() + b"\n")
            if payload:
                self._socket.sendall(payload)
        except OSError:
            raise self._connection_lost() from None
        return self._last_id

    def events(self, seconds=0.0):
        """Return the events received so far, each with its payload.

        Waits up to ``seconds`` for the first one.
        """
        self._socket.settimeout(0)
        deadline = time.monotonic() + seconds
        while True:
            events = list(self._parse())
            left = deadline - time.monotonic()
            if events or not self._receive(max(0.0, left)):
                return events

    def close(self):
        """Close the connection; the worker then cancels its jobs."""
        if self._socket:
            self._socket.close()

    def _handshake(self, token):
        fields = {"token": token} if token else {}
        self.request("hello", protocol=PROTOCOL, labels=_labels(self.settings), **fields)
        deadline = time.monotonic() + HANDSHAKE_SECONDS
        while time.monotonic() < deadline:
            for event, _ in self.events():
                if event["event"] == "hello":
                    self.log = event["log"]
                    return
                raise UserError(event.get("message", "The program that paints does not answer."))
            self._wait(0.02)
        raise UserError(
            "The program that paints does not answer; start GIMP again, and if it happens again, "
            f"look into {self.log}"
        )

    def _receive(self, seconds):
        """Receive bytes that arrive within ``seconds``; False if none do."""
        if not select.select([self._socket], [], [], seconds)[0]:
            return False
        try:
            data = self._socket.recv(1 << 20)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            raise self._connection_lost()
        self._buffer += data
        return True

    def _parse(self):
        """Take complete messages from the start of the buffer."""
        while (end := self._buffer.find(b"\n")) >= 0:
            try:
                event = json.loads(self._buffer[:end])
            except ValueError:
                raise self._connection_lost() from None
            size = event.get("nbytes", 0)
            if len(self._buffer) < end + 1 + size:
                return
            payload = bytes(memoryview(self._buffer)[end + 1 : end + 1 + size])
            del self._buffer[: end + 1 + size]
            yield event, payload

    def _connection_lost(self):
        return UserError(
            "The program that paints has ended unexpectedly; try again, and if it happens again, "
            f"look into {self.log}"
        )


def _labels(settings):
    """Return the dialog's labels by the worker's options, for the worker's sentences."""
    return {
        item["option"]: item["label"].replace("_", "").partition(" (")[0]
        for item in settings.arguments
        if item["option"]
    }
