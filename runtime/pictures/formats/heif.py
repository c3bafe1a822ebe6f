"""Colours and damage of AVIF and HEIF files, from their boxes (ISO/IEC 23008-12)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from nstrt.runtime.errors import PictureReadError
from nstrt.runtime.pictures.colors.encoding import ColorEncoding, UnknownEncodingError, from_h273
from nstrt.runtime.pictures.formats.facts import Facts, cut_off_error

__all__ = ["inspect_heif"]

_PIXEL_BOXES = (b"ftyp", b"meta", b"mdat", b"moov")


def inspect_heif(content: bytes, name: str) -> Facts:
    """Colours of the primary item by its ``colr`` boxes; an ICC profile precedes ``nclx``.

    The decoder applies the matrix and the range of ``nclx``. Raises :class:`PictureReadError` for
    colour encodings that are not supported, and for files that are cut off.
    """
    # By the properties irot and imir; those of EXIF and XMP do not count.
    facts = Facts(name=name, oriented=True)
    meta = memoryview(b"")
    for kind, body, missing in _boxes(memoryview(content), top=True):
        if kind == b"meta":
            meta = body[4:]
        if kind == b"" or (missing and kind not in _PIXEL_BOXES):
            if bytes(body).strip(b"\0"):
                facts.damage = f"'{name}' has foreign data behind its end, which was left out."
        elif missing:
            raise cut_off_error(name, f"{missing} of {len(content) + missing} bytes are missing")
    try:
        _inspect_meta(meta, facts)
    except UnknownEncodingError as error:
        raise PictureReadError(
            f"The picture '{name}' has an unusual colour encoding ({error}); save it as sRGB."
        ) from error
    except (struct.error, IndexError, ValueError):
        # libvips refuses what cannot be read.
        pass
    return facts


def _inspect_meta(meta: memoryview, facts: Facts) -> None:
    boxes = {kind: body for kind, body, _ in _boxes(meta)}
    primary = _integer(boxes[b"pitm"], 4, 4 if boxes[b"pitm"][0] else 2) if b"pitm" in boxes else 0
    properties = {kind: body for kind, body, _ in _boxes(boxes.get(b"iprp", memoryview(b"")))}
    listed = list(_boxes(properties.get(b"ipco", memoryview(b""))))
    colors = {}
    for index in _associations(properties.get(b"ipma", memoryview(b"")), primary):
        if 0 < index <= len(listed) and listed[index - 1][0] == b"colr":
            body = listed[index - 1][1]
            colors[bytes(body[:4])] = body[4:]
    facts.premultiplied = _premultiplied(boxes.get(b"iref"), primary)
    facts.expects_profile = bool(colors.keys() & {b"prof", b"rICC"})
    if b"nclx" in colors:
        primaries, transfer = struct.unpack(">HH", colors[b"nclx"][:4])
        encoding = _encoding(primaries, transfer, required=not facts.expects_profile)
        facts.fallback = encoding


def _encoding(primaries: int, transfer: int, *, required: bool) -> ColorEncoding | None:
    try:
        return from_h273(primaries, transfer)
    except UnknownEncodingError:
        if required:
            raise
        return None


def _associations(ipma: memoryview, item: int) -> Iterator[int]:
    """Indices, from 1, of the properties of an item."""
    if len(ipma) < 8:
        return
    version, large = ipma[0], ipma[3] & 1
    place = 8
    for _ in range(_integer(ipma, 4, 4)):
        width = 2 if version < 1 else 4
        number, count = _integer(ipma, place, width), ipma[place + width]
        place += width + 1
        for _ in range(count):
            index = _integer(ipma, place, 2) & 0x7FFF if large else ipma[place] & 0x7F
            place += 2 if large else 1
            if number == item:
                yield index


def _premultiplied(iref: memoryview | None, item: int) -> bool:
    """True if an item refers to its alpha plane by ``prem``."""
    if iref is None:
        return False
    width = 4 if iref[0] else 2
    return any(
        kind == b"prem" and _integer(body, 0, width) == item for kind, body, _ in _boxes(iref[4:])
    )


def _integer(data: memoryview, place: int, width: int) -> int:
    return int.from_bytes(data[place : place + width])


def _boxes(data: memoryview, *, top: bool = False) -> Iterator[tuple[bytes, memoryview, int]]:
    """Kind, content and number of missing bytes of each box.

    With ``top``, bytes behind the last box of a file come as a box without a kind.
    """
    place = 0
    while place < len(data):
        size, kind = _integer(data, place, 4), bytes(data[place + 4 : place + 8])
        start = place + 8
        if size == 1:
            size, start = _integer(data, place + 8, 8), place + 16
        elif size == 0:
            size = len(data) - place
        if size < start - place or not (len(kind) == 4 and kind.isascii() and kind.isalnum()):
            if top:
                yield b"", data[place:], 0
            return
        yield kind, data[start : place + size], max(0, place + size - len(data))
        place += size
