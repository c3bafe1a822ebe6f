"""Messages on a stream of bytes: one line of JSON, then as many raw bytes as it announced.

What arrives is nobody's friend: lines of any length, any JSON, any number. Nothing here takes
more memory than a line's limit before somebody asks for the payload.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any

__all__ = [
    "MAX_LINE",
    "EndOfStream",
    "MessageReader",
    "RequestError",
    "announced",
    "encode",
    "one_sentence",
]

MAX_LINE = 64 * 1024
"""Bytes of a line, its newline included."""

_CHUNK = 1 << 20
"""Bytes taken from the stream at a time."""

_LONGEST_SENTENCE = 600
"""Characters of a message for people: some quote what the host sent, which may be long."""


class RequestError(Exception):
    """A request that the protocol refuses, with its stable code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class EndOfStream(Exception):  # noqa: N818 - how every connection ends
    """The host will send nothing more."""


class MessageReader:
    """Takes messages from a stream.

    ``receive(n)`` gives up to ``n`` bytes, none at the end.
    """

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self._receive = receive
        self._buffer = bytearray()
        self._announced = 0

    def header(self) -> dict[str, Any]:
        """The next message's JSON object; what the last one announced and nobody took is dropped.

        Raises :class:`RequestError` for what is no message; the next call goes on behind it.
        """
        self._forget_payload()
        header = _parsed(self._line())
        with contextlib.suppress(RequestError):
            self._announced = announced(header)
        return header

    def payload(self) -> bytearray:
        """The bytes that the last header announced. May raise MemoryError, before it reads."""
        payload = bytearray(self._announced)
        filled = 0
        with memoryview(payload) as view:
            while self._announced:
                piece = self._take()
                view[filled : filled + len(piece)] = piece
                filled += len(piece)
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
            self._buffer += self._more(MAX_LINE)
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        return line

    def _skip_line(self) -> None:
        while (end := self._buffer.find(b"\n")) < 0:
            self._buffer.clear()
            self._buffer += self._more(_CHUNK)
        del self._buffer[: end + 1]

    def _forget_payload(self) -> None:
        while self._announced:
            self._take()

    def _take(self) -> bytes:
        """Some of the announced bytes: those that came with the line first."""
        if self._buffer:
            piece = bytes(self._buffer[: self._announced])
            del self._buffer[: len(piece)]
        else:
            piece = self._more(min(_CHUNK, self._announced))
        self._announced -= len(piece)
        return piece

    def _more(self, most: int) -> bytes:
        piece = self._receive(most)
        if not piece:
            raise EndOfStream
        return piece


def announced(header: Mapping[str, Any]) -> int:
    """How many bytes follow a header."""
    size = header.get("nbytes", 0)
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise RequestError("malformed", "'nbytes' must be a whole number, 0 or more.")
    return size


def encode(event: Mapping[str, Any]) -> bytes:
    """An event as a line."""
    # ASCII: names of files can hold what UTF-8 has no bytes for.
    line = json.dumps(event, separators=(", ", ": "), allow_nan=False).encode("ascii") + b"\n"
    if len(line) > MAX_LINE and "recipe" in event:
        # Only absurd options make a recipe that long.
        return encode({**event, "recipe": {}})
    return line


def one_sentence(message: object) -> str:
    """A message on one line, of a length that can be shown."""
    line = " ".join(str(message).split())
    return line if len(line) <= _LONGEST_SENTENCE else line[: _LONGEST_SENTENCE - 1] + "…"


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        header = json.loads(line.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError("malformed", "A message must be a line of JSON in UTF-8.") from error
    if not isinstance(header, dict):
        raise RequestError("malformed", "A message must be a JSON object.")
    return header


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
