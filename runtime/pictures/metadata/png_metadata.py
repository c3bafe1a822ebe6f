"""Metadata in the chunks of PNG files, also those behind the pixels."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from nstrt.runtime.pictures.formats.png_chunks import SIGNATURE, pack_chunk, read_chunks

__all__ = ["PngMetadata", "raw_profile", "read_png_metadata", "with_metadata"]

_READ = (b"eXIf", b"pHYs", b"tEXt", b"zTXt", b"iTXt")
_XMP = b"XML:com.adobe.xmp"
_PROFILES = tuple(
    b"Raw profile type " + kind for kind in (b"exif", b"APP1", b"iptc", b"8bim", b"xmp")
)

_MAX_TEXT = 1 << 26
"""Largest text in bytes once it is decompressed."""


@dataclass(kw_only=True)
class PngMetadata:
    """Raw metadata of a PNG file; older programs store them as text of hexadecimal digits."""

    exif: bytes = b""
    xmp: bytes = b""
    resolution: tuple[float, float] | None = None
    """Dots per inch."""

    iptc: bytes = b""
    """IPTC records, in a Photoshop resource or bare."""


def read_png_metadata(content: bytes) -> PngMetadata:
    """Read the chunks eXIf, pHYs, tEXt, zTXt and iTXt; damaged ones are passed over."""
    found = PngMetadata()
    texts: dict[bytes, bytes] = {}
    for chunk in read_chunks(content):
        # A chunk without its checksum ends the file.
        if chunk.kind not in _READ or chunk.start + 12 > len(content):
            continue
        kind, data = chunk.kind, bytes(chunk.data)
        if kind == b"eXIf":
            found.exif = data
        elif kind == b"pHYs":
            if len(data) != 9:
                continue
            x, y, unit = struct.unpack(">IIB", data)
            found.resolution = (x * 0.0254, y * 0.0254) if unit == 1 else None
        else:
            name, _, rest = data.partition(b"\0")
            # Each name counts once, so that compressed texts cannot cost more.
            if name in (_XMP, *_PROFILES) and name not in texts:
                texts[name] = _text(kind, rest)
    exif, app1, iptc, resources, xmp = (raw_profile(texts.get(name, b"")) for name in _PROFILES)
    found.exif = found.exif or exif or app1
    found.xmp = texts.get(_XMP) or xmp
    found.iptc = iptc or resources
    return found


def raw_profile(text: bytes) -> bytes:
    """Decode a text of hexadecimal digits behind a name and a length; nothing if damaged."""
    parts = text.strip().split(b"\n", 2)
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
        added += pack_chunk(b"iTXt", _XMP + b"\0\0\0\0\0" + xmp)
    if exif:
        added += pack_chunk(b"eXIf", exif)
    if iptc:
        # PNG has no chunk for IPTC data; ImageMagick and exiv2 write and read this text.
        text = f"\niptc\n{len(iptc):8}\n{iptc.hex()}\n".encode()
        added += pack_chunk(b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(text))
    place = len(SIGNATURE)
    parts = [content[:place]]
    for chunk in read_chunks(content):
        place = chunk.start
        if chunk.kind == b"IDAT":
            break
        if chunk.kind != b"pHYs" or keep_resolution:
            parts.append(content[place : chunk.end])
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
