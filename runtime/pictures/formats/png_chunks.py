"""Chunks of PNG files: a length, a kind, data and a checksum each."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

__all__ = ["SIGNATURE", "Chunk", "pack_chunk", "read_chunks"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
"""Start of every PNG file."""


@dataclass(frozen=True)
class Chunk:
    """One chunk, and its place in the file."""

    kind: bytes

    data: memoryview
    """The part that the file holds."""

    start: int
    """Offset of the chunk."""

    end: int
    """Offset behind the chunk, also if the file ends before."""

    checksum: bytes
    """The checksum as it is stored; shorter than 4 bytes at the end of a cut file."""

    @cached_property
    def whole(self) -> bool:
        """All of the data and a matching checksum are there; image data is not summed."""
        if self.kind == b"IDAT":
            return True
        return self.checksum == _checksum(self.kind, self.data)


def read_chunks(content: bytes) -> Iterator[Chunk]:
    """Yield the chunks of a file, also those behind IEND; the last one may be cut off."""
    view, place = memoryview(content), len(SIGNATURE)
    while place + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        behind = place + 8 + length
        yield Chunk(kind, view[place + 8 : behind], place, behind + 4, content[behind : behind + 4])
        place = behind + 4


def pack_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk as it is stored."""
    return struct.pack(">I4s", len(data), kind) + data + _checksum(kind, data)


def _checksum(kind: bytes, data: bytes | memoryview) -> bytes:
    return struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
