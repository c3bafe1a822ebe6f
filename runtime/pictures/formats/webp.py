"""Damage of WebP files, from their RIFF chunks."""

from __future__ import annotations

import struct

from nstrt.runtime.pictures.formats.facts import Facts, cut_off_error

__all__ = ["inspect_webp"]

_PIXELS = (b"VP8 ", b"VP8L", b"ALPH", b"ANMF")
_KNOWN = (*_PIXELS, b"VP8X", b"ANIM", b"ICCP", b"EXIF", b"XMP ")

_MAX_PARTS = 1 << 19
"""Largest number of chunks and paddings; the first frame of a longer film is among them."""


def inspect_webp(content: bytes, name: str) -> Facts:
    """Mend a wrong size in the header, and leave out what follows the last whole chunk.

    Raises :class:`PictureReadError` if a chunk with pixels is cut off.
    """
    facts = Facts(name=name, content=content)
    stated = 8 + int.from_bytes(content[4:8], "little")
    place = 12
    pixels = False
    body: list[bytes | memoryview] = [b"WEBP"]
    while place + 8 <= len(content) and len(body) < _MAX_PARTS:
        kind = content[place : place + 4]
        size = int.from_bytes(content[place + 4 : place + 8], "little")
        end = place + 8 + size
        if kind not in _KNOWN and not (kind.isascii() and end <= stated):
            break
        if end > len(content):
            if kind in _PIXELS:
                missing = end - len(content)
                verb = "is" if missing == 1 else "are"
                raise cut_off_error(name, f"{missing} of its {size} bytes of pixels {verb} missing")
            facts.damage = f"'{name}' is cut off, but all of its pixels are there."
            break
        # Chunks have even lengths; writers forget the last padding.
        body += [memoryview(content)[place:end], b"\0" * (size % 2)]
        pixels |= kind in _PIXELS
        facts.expects_profile |= kind == b"ICCP"
        place = end + size % 2
    if not pixels:
        return facts
    length = sum(map(len, body))
    if content[place:].strip(b"\0") and not facts.damage:
        facts.damage = f"'{name}' has foreign data behind its end, which was left out."
    elif len(content) < 8 + length and not facts.damage:
        facts.damage = f"'{name}' lacks its last byte, but all of its pixels are there."
    elif stated not in (8 + length, len(content)) and not facts.damage:
        facts.damage = f"'{name}' states a wrong size, but all of its pixels are there."
    if facts.damage:
        facts.content = b"RIFF" + struct.pack("<I", length) + b"".join(body)
    return facts
