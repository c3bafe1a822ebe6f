"""Chunks of PNG files: a length, a kind, data and a checksum each."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

__all__ = ["MAX_CHUNKS", "SIGNATURE", "Chunk", "pack_chunk", "read_chunks"]

MAX_CHUNKS = 1 << 18
"""Largest number of chunks that are read; a picture of this format's largest size has fewer."""

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
    """Yield the first :data:`MAX_CHUNKS` chunks of a file, also those behind IEND.

    The last one may be cut off.
    """
    view, place = memoryview(content), len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if place + 8 > len(content):
            break
        length, kind = struct.unpack_from(">I4s", content, place)
        behind = place + 8 + length
        yield Chunk(kind, view[place + 8 : behind], place, behind + 4, content[behind : behind + 4])
        place = behind + 4


def pack_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk as it is stored."""
    return struct.pack(">I4s", len(data), kind) + data + _checksum(kind, data)


def _checksum(kind: bytes, data: bytes | memoryview) -> bytes:
    return struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
