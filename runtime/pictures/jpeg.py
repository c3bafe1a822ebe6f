"""Damage of JPEG files: missing rows, scans and end markers."""

from __future__ import annotations

import re
import struct
from typing import Any

from nstrt.runtime.errors import PictureReadError
from nstrt.runtime.pictures.facts import Facts, cut_off_error
from nstrt.runtime.pictures.vips import libvips

__all__ = ["inspect_jpeg", "repair_jpeg"]

_END = b"\xff\xd9"
_PROGRESSIVE = 0xC2
_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])", re.DOTALL)
"""A marker in entropy-coded data, but stuffed bytes and restart markers."""

_HARMFUL = ("premature end of", "bad Huffman", "instead of RST", "bad arithmetic")
"""libjpeg's warnings about lost pixels."""


def inspect_jpeg(content: bytes, name: str) -> Facts:
    """Note missing scans; raise :class:`PictureReadError` for a file too short for its pixels."""
    facts = Facts(name=name)
    frame, _ = _structure(content, scans=False)
    if frame is not None:
        kind, height, width = frame
        # A block takes two bits in the shortest codes, one in a progressive file's first scan.
        bits = {0xC0: 2, 0xC1: 2, 0xC2: 1}.get(kind, 0)
        if 8 * len(content) < bits * (width // 8) * (height // 8):
            raise cut_off_error(name, f"its {len(content)} bytes cannot hold its pixels")
        if kind == _PROGRESSIVE and not _structure(content, scans=True)[1]:
            facts.damage = f"'{name}' lacks scans of a progressive JPEG, so fine detail may miss."
    return facts


def repair_jpeg(content: bytes, name: str, reason: str) -> tuple[bytes, str]:
    """Return a file without damage, and the sentence about it.

    ``reason`` is libjpeg's message. Raises :class:`PictureReadError` if pixels are missing.
    """
    end_missing = "premature end of JPEG" in reason
    if not end_missing and not any(words in reason for words in _HARMFUL):
        return content, f"'{name}' has faults that cost no pixel."
    if not end_missing:
        raise _missing(content, name)
    whole = content.rstrip(b"\xff") + _END
    image = libvips().Image.jpegload_buffer(whole, access="sequential", fail_on="warning")
    try:
        # The smallest pipeline that decodes all rows.
        image.avg()
    except libvips().Error as error:
        raise _missing(whole, name) from error
    frame, complete = _structure(whole, scans=True)
    if frame is not None and not complete:
        raise _coarse(name)
    return whole, f"'{name}' lacks its end marker, but all of its rows are there."


def _missing(content: bytes, name: str) -> PictureReadError:
    """The error of a file that lacks pixels: its number of missing rows, if that is known."""
    frame, complete = _structure(content, scans=True)
    if frame is None:
        return cut_off_error(name)
    if frame[0] not in (0xC0, 0xC1) or not complete:
        return _coarse(name)
    image = libvips().Image.jpegload_buffer(content, access="sequential", fail_on="warning")
    return cut_off_error(name, rows=(image.height - _rows(image), image.height))


def _coarse(name: str) -> PictureReadError:
    return cut_off_error(name, "it is a progressive JPEG that lacks its last scans")


def _rows(image: Any) -> int:
    """Rows before the first that cannot be decoded."""
    region = libvips().Region.new(image)
    for row in range(image.height):
        try:
            region.fetch(0, row, image.width, 1)
        except libvips().Error:
            return row
    return int(image.height)


def _structure(content: bytes, *, scans: bool) -> tuple[tuple[int, int, int] | None, bool]:
    """Marker, height and width of the frame, and completeness of its scans.

    Sequential frames are complete with a scan for each component, progressive ones with the last
    bit of each coefficient.
    """
    frame, components, place = None, 0, 2
    final: dict[int, set[int]] = {}
    while match := _MARKER.search(content, place):
        marker, start = match[1][0], match.end()
        if marker in (0xD8, 0x01):
            place = start
            continue
        if marker == 0xD9 or len(content) < start + 2:
            break
        (length,) = struct.unpack(">H", content[start : start + 2])
        body = content[start + 2 : start + length]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(body) >= 6:
            _, height, width, components = struct.unpack(">BHHB", body[:6])
            frame = marker, height, width
            if not scans:
                break
        if marker == 0xDA and body:
            count = body[0]
            first, last, low = body[-3], body[-2], body[-1] & 15
            for component in body[1 : 1 + 2 * count : 2]:
                if low == 0:
                    final.setdefault(component, set()).update(range(first, min(last, 63) + 1))
        place = start + length
    needed = 64 if frame is not None and frame[0] in (0xC2, 0xC6, 0xCA, 0xCE) else 1
    complete = len(final) == components and all(len(done) >= needed for done in final.values())
    return frame, complete
