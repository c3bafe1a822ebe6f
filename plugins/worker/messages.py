"""Messages on a byte stream: one line of JSON, then the payload whose size it announced.

The input is untrusted: lines of any length, any JSON, any number. Reading takes no more memory
than the longest line until the caller asks for the payload, and then what has arrived of it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from nstrt.runtime.system.json_file import parse_json

__all__ = [
    "MAX_LINE",
    "PROTOCOL",
    "EndOfStream",
    "MessageReader",
    "RequestError",
    "encode",
    "payload_size",
    "single_line",
]

PROTOCOL = 1
"""Version of the protocol in docs/worker.md."""

MAX_LINE = 64 * 1024
"""Bytes of a line, its newline included."""

_CHUNK = 1 << 20
"""Bytes received at a time."""

_MAX_TEXT = 600
"""Characters of a message for people: some quote what the host sent, which may be long."""


class RequestError(Exception):
    """A message that the protocol refuses, with its stable code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class EndOfStream(Exception):  # noqa: N818 - every connection ends with it
    """The other side sends nothing more."""


class MessageReader:
    """Reads messages from a stream.

    ``receive(n)`` returns up to ``n`` bytes, none at the end of the stream.
    """

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self._receive = receive
        self._buffer = bytearray()
        self._remaining = 0

    def header(self) -> dict[str, Any]:
        """Read the next message's JSON object; discards a payload that was not read.

        Raises :class:`RequestError` for an invalid line; the next call reads the line after it.
        """
        self._discard_payload()
        header = _parse(self._line())
        with contextlib.suppress(RequestError):
            self._remaining = payload_size(header)
        return header

    def payload(self, arrived: Callable[[int], None] = lambda nbytes: None) -> bytearray:
        """Read the payload of the last header; memory is taken as its bytes arrive.

        ``arrived`` gets the number of bytes of each part. If it raises, the next call of
        :meth:`header` discards the rest. May raise MemoryError.
        """
        payload = bytearray()
        while self._remaining:
            chunk = self._payload_chunk()
            arrived(len(chunk))
            payload += chunk
        return payload

    def _line(self) -> bytes:
        searched = 0
        while (end := self._buffer.find(b"\n", searched, MAX_LINE)) < 0:
            searched = len(self._buffer)
            if searched >= MAX_LINE:
                self._skip_line()
                raise RequestError(
                    "malformed", f"A message's line is longer than {MAX_LINE // 1024} KiB."
                )
            self._buffer += self._receive_some(MAX_LINE)
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        return line

    def _skip_line(self) -> None:
        while (end := self._buffer.find(b"\n")) < 0:
            self._buffer.clear()
            self._buffer += self._receive_some(_CHUNK)
        del self._buffer[: end + 1]

    def _discard_payload(self) -> None:
        while self._remaining:
            self._payload_chunk()

    def _payload_chunk(self) -> bytes:
        """Some bytes of the payload; those received with the line come first."""
        if self._buffer:
            chunk = bytes(self._buffer[: self._remaining])
            del self._buffer[: len(chunk)]
        else:
            chunk = self._receive_some(min(_CHUNK, self._remaining))
        self._remaining -= len(chunk)
        return chunk

    def _receive_some(self, limit: int) -> bytes:
        data = self._receive(limit)
        if not data:
            raise EndOfStream
        return data


def payload_size(header: Mapping[str, Any]) -> int:
    """Bytes that follow a header."""
    size = header.get("nbytes", 0)
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise RequestError("malformed", "'nbytes' must be a whole number, 0 or more.")
    return size


def encode(message: Mapping[str, Any]) -> bytes:
    """A message's header as a line."""
    # ASCII: file names may hold characters that UTF-8 cannot encode.
    line = json.dumps(message, separators=(", ", ": "), allow_nan=False).encode("ascii") + b"\n"
    if len(line) > MAX_LINE and "recipe" in message:
        # Only absurd options make a recipe that long.
        return encode({**message, "recipe": {}})
    return line


def single_line(message: object) -> str:
    """A text on one line, cut to a length that can be shown."""
    line = " ".join(str(message).split())
    return line if len(line) <= _MAX_TEXT else line[: _MAX_TEXT - 1] + "…"


def _parse(line: bytes) -> dict[str, Any]:
    try:
        header = parse_json(line)
    except ValueError as error:
        raise RequestError("malformed", "A message must be a line of JSON in UTF-8.") from error
    if not isinstance(header, dict):
        raise RequestError("malformed", "A message must be a JSON object.")
    return header
