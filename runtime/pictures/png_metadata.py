"""Metadata in the chunks of PNG files, also those behind the pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["PngMetadata", "raw_profile", "read_png_metadata", "with_metadata"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_TEXT = 1 << 26
"""Largest text in bytes once it is decompressed."""


@dataclass(kw_only=True)
class PngMetadata:
    """Raw metadata of a PNG file."""

    exif: bytes = b""
    xmp: bytes = b""
    resolution: tuple[float, float] | None = None
    """Dots per inch."""

    profiles: dict[str, bytes] = field(default_factory=dict)
    """Data that older programs store as text of hexadecimal digits, by its kind."""


def read_png_metadata(content: bytes) -> PngMetadata:
    """Read the chunks eXIf, pHYs, tEXt, zTXt and iTXt; damaged ones are passed over."""
    found = PngMetadata()
    for kind, data in _chunks(content):
        if kind == b"eXIf":
            found.exif = data
        elif kind == b"pHYs" and len(data) == 9:
            x, y, unit = struct.unpack(">IIB", data)
            found.resolution = (x * 0.0254, y * 0.0254) if unit == 1 else None
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            name, _, rest = data.partition(b"\0")
            text = _text(kind, rest)
            if name == b"XML:com.adobe.xmp":
                found.xmp = text
            elif name.startswith(b"Raw profile type "):
                found.profiles[name[17:].decode("latin-1")] = raw_profile(text)
    return found


def raw_profile(text: bytes) -> bytes:
    """Decode a text of hexadecimal digits behind a name and a length; nothing if damaged."""
    parts = text.split(None, 2)
    try:
        return bytes.fromhex(parts[2].decode("ascii"))
    except (IndexError, ValueError):
        return b""


def with_metadata(
    content: bytes, *, exif: bytes, iptc: bytes, xmp: bytes, keep_resolution: bool
) -> bytes:
    """Add EXIF data, IPTC records and an XMP packet to a PNG file, or remove its resolution."""
    added = b""
    if xmp:
        # Uncompressed, without language and translated name, as the XMP specification demands.
        added += _chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    if exif:
        added += _chunk(b"eXIf", exif)
    if iptc:
        # PNG has no chunk for IPTC data; ImageMagick and exiv2 write and read this text.
        text = f"\niptc\n{len(iptc):8}\n{iptc.hex()}\n".encode()
        added += _chunk(b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(text))
    place = len(_SIGNATURE)
    parts = [content[:place]]
    for kind, data in _chunks(content):
        end = place + 12 + len(data)
        if kind == b"IDAT":
            break
        if kind != b"pHYs" or keep_resolution:
            parts.append(content[place:end])
        place = end
    return b"".join([*parts, added, content[place:]])


def _text(kind: bytes, rest: bytes) -> bytes:
    compressed = kind == b"zTXt"
    start = 1 if compressed else 0
    if kind == b"iTXt":
        compressed = rest[:1] == b"\1"
        # A language and a translated name come before the text.
        start = rest.find(b"\0", rest.find(b"\0", 2) + 1) + 1
    if not compressed:
        return rest[start:]
    try:
        return zlib.decompressobj().decompress(rest[start:], _MAX_TEXT)
    except zlib.error:
        return b""


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(_SIGNATURE)
    while place + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        yield kind, content[place + 8 : place + 8 + length]
        place += 12 + length


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", checksum)
