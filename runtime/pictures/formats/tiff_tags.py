"""Tags of the first directory of a TIFF or BigTIFF file."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["TiffTags", "read_tags"]

_FORMATS = {1: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 11: "f", 12: "d"}
_FORMATS |= {13: "I", 16: "Q", 17: "q", 18: "Q", 2: "B", 5: "II", 10: "ii"}
_WIDTHS = {kind: struct.calcsize("<" + letters) for kind, letters in _FORMATS.items()}

MAX_VALUES = 1 << 20
"""Largest number of values of a tag; a picture of as many strips has no pixels left."""

_SHARED_BYTES = 1 << 16
"""Bytes of values that tags may share; values that overlap more would multiply the file."""

_MAX_NUMBER = (1 << 32) - 1


@dataclass(kw_only=True)
class TiffTags:
    """The directory of a file."""

    content: bytes
    order: str
    """Byte order as in :mod:`struct`."""
    big: bool
    """BigTIFF, with offsets of 64 bits."""
    entries: dict[int, tuple[int, int, bytes]] = field(default_factory=dict)
    """Type, number of values and value field of each readable tag."""
    damaged: bool = False
    """The directory is cut off, or tags of it cannot be read; these are left out."""

    def numbers(self, tag: int, default: tuple[float, ...] = ()) -> tuple[float, ...]:
        """Values of a tag, fractions as floats; ``default`` if it is missing."""
        kind, count, _ = self.entries.get(tag, (0, 0, b""))
        if not 0 < count <= MAX_VALUES:
            return default
        values = struct.unpack(self.order + _FORMATS[kind] * count, self.stored(tag))
        if kind in (5, 10):
            pairs = zip(values[::2], values[1::2], strict=True)
            return tuple(top / bottom if bottom else 0.0 for top, bottom in pairs)
        if kind in (11, 12):
            return tuple(value if math.isfinite(value) else 0.0 for value in values)
        return values

    def number(self, tag: int, default: int) -> int:
        """First value of a tag, as an integer of at most 32 bits; 0 for a negative one."""
        values = self.numbers(tag)
        return min(max(0, int(values[0])), _MAX_NUMBER) if values else default

    def stored(self, tag: int) -> bytes:
        """Value of a tag as it is stored."""
        kind, count, value = self.entries[tag]
        size = _WIDTHS[kind] * count
        if size <= len(value):
            return value[:size]
        start = int.from_bytes(value, "little" if self.order == "<" else "big")
        return self.content[start : start + size]

    def rewritten(self, changes: Mapping[int, tuple[int, ...]], appended: bytes = b"") -> bytes:
        """The file with ``appended`` bytes and a new directory at its end.

        ``changes`` are integer values of tags. Values elsewhere in the file stay where they are.
        """
        width, letter = (8, "Q") if self.big else (4, "I")
        content = self.content + appended
        content += b"\0" * (-len(content) % 8)
        entries = dict(self.entries)
        for tag, numbers in changes.items():
            kind = 16 if self.big else 4
            value = struct.pack(self.order + letter * len(numbers), *numbers)
            if len(value) > width:
                offset, content = len(content), content + value
                value = struct.pack(self.order + letter, offset)
            entries[tag] = (kind, len(numbers), value.ljust(width, b"\0"))
        directory = struct.pack(self.order + ("Q" if self.big else "H"), len(entries))
        for tag in sorted(entries):
            kind, count, value = entries[tag]
            directory += struct.pack(self.order + "HH" + letter, tag, kind, count) + value
        place = 8 if self.big else 4
        head = content[:place] + struct.pack(self.order + letter, len(content))
        return head + content[place + width :] + directory + b"\0" * width


def read_tags(content: bytes) -> TiffTags | None:
    """Read the first directory; ``None`` if there is none."""
    order = "<" if content[:2] == b"II" else ">"
    big = content[2:4] in (b"+\0", b"\0+")
    width, letter, size = (8, "Q", 20) if big else (4, "I", 12)
    tags = TiffTags(content=content, order=order, big=big)
    try:
        (start,) = struct.unpack_from(order + letter, content, 8 if big else 4)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), content, start)
    except (struct.error, OverflowError):
        return None
    place = start + (8 if big else 2)
    room = len(content) + _SHARED_BYTES
    for _ in range(min(count, 4096)):
        entry = content[place : place + size]
        place += size
        if len(entry) < size:
            tags.damaged = True
            break
        tag, kind, values = struct.unpack_from(order + "HH" + letter, entry)
        value = entry[-width:]
        length = _WIDTHS.get(kind, 0) * values
        offset = int.from_bytes(value, "little" if order == "<" else "big")
        outside = length > width and offset + length > len(content)
        room -= length if length > width and not outside else 0
        too_many = values > MAX_VALUES and _WIDTHS.get(kind) != 1
        if kind not in _WIDTHS or outside or too_many or room < 0:
            tags.damaged = True
        elif values:
            tags.entries.setdefault(tag, (kind, values, value))
    following = content[place : place + width]
    if int.from_bytes(following, "little" if order == "<" else "big") + 2 > len(content):
        tags.damaged = True
    return tags
