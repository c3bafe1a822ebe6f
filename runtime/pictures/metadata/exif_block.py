"""EXIF data as directories of raw tags, without what is untrue of a repainted picture."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeAlias

__all__ = [
    "ExifBlock",
    "Tag",
    "is_adobe_rgb",
    "orientation_by_tags",
    "parse_block",
    "resolution_by_tags",
]

_UNITS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 1, 7: 1, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4}
_UNITS |= {16: 8, 17: 8, 18: 8}
"""Bytes of a number in each TIFF type; types 5 and 10 have two numbers for each value."""

_BIGTIFF_TYPES = (16, 17, 18)
"""Types of BigTIFF, which EXIF data cannot have."""

_HEADERS = {
    b"II*\0": ("<", False),
    b"MM\0*": (">", False),
    b"II+\0": ("<", True),
    b"MM\0+": (">", True),
}
"""Byte order of the data, and True for BigTIFF."""

_SHORT, _LONG, _RATIONAL, _UNDEFINED = 3, 4, 5, 7
_ORIENTATION = 274
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_INCH, _CENTIMETRE = 2, 3
_EXIF, _GPS, _MAKER_NOTE, _VERSION = 0x8769, 0x8825, 0x927C, 0x9000
_COLOR_SPACE, _WIDTH, _HEIGHT = 0xA001, 0xA002, 0xA003
_SRGB, _ADOBE_RGB, _UNCALIBRATED = 1, 2, 0xFFFF
_INTEROPERABILITY = 0xA005

_PIXEL_TAGS = frozenset(
    [
        *(*range(254, 269), *range(273, 285), *range(288, 305), *range(317, 533)),
        *(700, 33421, 33422, 33550, 33723, 33922, 34264, 34377, 34675, 34735, 34736, 34737),
        *(_EXIF, _GPS, 37724, 40965, 42112, 42113, 42240, *range(50706, 52600)),
    ]
)
"""Tags of the main directory that describe the pixels, colours and layout of the photo's file."""

_PHOTO_PIXEL_TAGS = frozenset(
    # Colours, size and compression of the samples, and places in the picture.
    [0x9101, 0x9102, 0x9214, _COLOR_SPACE, _WIDTH, _HEIGHT, _INTEROPERABILITY, 0xA214, 0xA500]
)

_POINTERS = (_LONG, 13, 16, 18)
"""Types of offsets of directories."""

_MAX_TAGS = 1000
"""Largest number of tags of a directory; damaged ones state tens of thousands."""

_SHARED_BYTES = 1 << 16
"""Bytes of values that tags may share; values that overlap more would multiply the data."""


@dataclass(frozen=True)
class Tag:
    """A tag's TIFF type, number of values, and values as they are stored."""

    kind: int
    count: int
    value: bytes


Directory: TypeAlias = "dict[int, Tag]"


@dataclass(frozen=True, kw_only=True)
class ExifBlock:
    """The directories of EXIF data that stay true when a photo is repainted."""

    order: str = "<"
    """Byte order as in :mod:`struct`."""

    main: Directory = field(default_factory=dict)
    """Camera, author, copyright, and the like."""

    photo: Directory = field(default_factory=dict)
    """The Exif directory: time, exposure, lens."""

    place: Directory = field(default_factory=dict)
    """The GPS directory."""

    damaged: bool = False
    """Some tags could not be read and are left out."""

    def __bool__(self) -> bool:
        return bool(self.main or self.photo or self.place)

    def for_picture(
        self, size: tuple[int, int], resolution: tuple[float, float] | None
    ) -> ExifBlock:
        """A block that also states an sRGB picture's size and its dots per inch."""
        photo = {
            _VERSION: Tag(_UNDEFINED, 4, b"0232"),
            **self.photo,
            _COLOR_SPACE: self._short(_SRGB),
            _WIDTH: self._long(size[0]),
            _HEIGHT: self._long(size[1]),
        }
        return ExifBlock(
            order=self.order,
            main={**self.main, **self.resolution_tags(resolution)},
            photo=photo,
            place=self.place,
        )

    def resolution_tags(self, resolution: tuple[float, float] | None) -> Directory:
        """Tags of dots per inch; none for ``None``."""
        if resolution is None:
            return {}
        x, y = (Fraction(value).limit_denominator(10_000) for value in resolution)
        return {
            _X_RESOLUTION: self._rational(x),
            _Y_RESOLUTION: self._rational(y),
            _RESOLUTION_UNIT: self._short(_INCH),
        }

    def without_maker_note(self) -> ExifBlock:
        """A block without the maker's own data, which may be large."""
        photo = {tag: value for tag, value in self.photo.items() if tag != _MAKER_NOTE}
        return ExifBlock(order=self.order, main=self.main, photo=photo, place=self.place)

    def to_bytes(self) -> bytes:
        """Serialise as a TIFF header and directories, as EXIF data is stored."""
        header = (b"II*\0" if self.order == "<" else b"MM\0*") + self._uint(8)
        return header + self.directories(8)

    def directories(self, start: int) -> bytes:
        """Serialise the directories for a file in which they begin at offset ``start``."""
        parts = [(tag, part) for tag, part in ((_EXIF, self.photo), (_GPS, self.place)) if part]
        main = {**self.main, **{tag: self._long(0) for tag, _ in parts}}
        place = start + len(self._directory(main, start))
        rest = b""
        for tag, part in parts:
            main[tag] = self._long(place + len(rest))
            rest += self._directory(part, place + len(rest))
        return self._directory(main, start) + rest

    def in_order(self, order: str) -> ExifBlock:
        """The block in another byte order."""
        if order == self.order:
            return self
        swapped = [
            {tag: _swapped(value) for tag, value in part.items()}
            for part in (self.main, self.photo, self.place)
        ]
        return ExifBlock(order=order, main=swapped[0], photo=swapped[1], place=swapped[2])

    def _directory(self, tags: Directory, start: int) -> bytes:
        table = struct.pack(self.order + "H", len(tags))
        place, values = start + 2 + 12 * len(tags) + 4, b""
        for number, tag in sorted(tags.items()):
            stored = tag.value.ljust(4, b"\0")
            if len(stored) > 4:
                stored = self._uint(place + len(values))
                values += tag.value + b"\0" * (len(tag.value) % 2)
            table += struct.pack(self.order + "HHI", number, tag.kind, tag.count) + stored
        return table + self._uint(0) + values

    def _uint(self, value: int) -> bytes:
        return struct.pack(self.order + "I", value)

    def _short(self, value: int) -> Tag:
        return Tag(_SHORT, 1, struct.pack(self.order + "H", value))

    def _long(self, value: int) -> Tag:
        return Tag(_LONG, 1, self._uint(value))

    def _rational(self, value: Fraction) -> Tag:
        return Tag(_RATIONAL, 1, struct.pack(self.order + "II", value.numerator, value.denominator))


def parse_block(data: bytes, *, all_tags: bool = False) -> ExifBlock:
    """Parse EXIF data, or the first directory of a TIFF file.

    Tags that would be untrue of a repainted picture are left out unless ``all_tags`` is true, and
    so is the thumbnail. Raises :class:`ValueError` if there is no directory.
    """
    data = data.removeprefix(b"Exif\0\0")
    order, big = _HEADERS.get(data[:4], ("", False))
    if not order or len(data) < (16 if big else 8):
        raise ValueError("no EXIF data")
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    main, damaged = _read_directory(data, start, order, big=big)
    if not main:
        raise ValueError("no EXIF tags")
    parts: list[Directory] = []
    for pointer in (_EXIF, _GPS):
        part: Directory = {}
        if pointer in main and main[pointer].kind in _POINTERS and main[pointer].count == 1:
            start = int.from_bytes(main[pointer].value, "little" if order == "<" else "big")
            part, broken = _read_directory(data, start, order, big=big)
            damaged = damaged or broken
        parts.append(part)
    if not all_tags:
        main = _without(main, _PIXEL_TAGS)
        parts = [_without(parts[0], _PHOTO_PIXEL_TAGS), _without(parts[1], frozenset())]
    return ExifBlock(order=order, main=main, photo=parts[0], place=parts[1], damaged=damaged)


def _without(tags: Directory, left_out: frozenset[int]) -> Directory:
    return {
        number: tag
        for number, tag in tags.items()
        if number not in left_out and tag.kind not in _BIGTIFF_TYPES
    }


def orientation_by_tags(data: bytes) -> int | None:
    """The orientation that EXIF data state, 1 to 8; ``None`` if they state none."""
    try:
        block = parse_block(data, all_tags=True)
    except ValueError:
        return None
    value = _number(block.main.get(_ORIENTATION), _SHORT, block.order)
    return value if value in range(1, 9) else None


def is_adobe_rgb(data: bytes | None) -> bool:
    """True if EXIF data state Adobe RGB by DCF's option file R03: uncalibrated, with that index."""
    try:
        block = parse_block(data or b"", all_tags=True)
    except ValueError:
        return False
    space = _number(block.photo.get(_COLOR_SPACE), _SHORT, block.order)
    # Some cameras write 2 for Adobe RGB, which EXIF itself does not know.
    if space != _UNCALIBRATED:
        return space == _ADOBE_RGB
    start = _number(block.photo.get(_INTEROPERABILITY), _LONG, block.order)
    if data is None or start is None:
        return False
    index = _read_directory(data.removeprefix(b"Exif\0\0"), start, block.order)[0].get(1)
    return index is not None and index.value.startswith(b"R03")


def resolution_by_tags(data: bytes) -> tuple[float, float] | None:
    """Dots per inch that EXIF data or a TIFF file states; ``None`` if it states none.

    Raises :class:`ValueError` if there is no directory.
    """
    block = parse_block(data, all_tags=True)
    x, y = (block.main.get(tag) for tag in (_X_RESOLUTION, _Y_RESOLUTION))
    number = _number(block.main.get(_RESOLUTION_UNIT), _SHORT, block.order) or _INCH
    if number not in (_INCH, _CENTIMETRE) or x is None or y is None:
        return None
    dots = []
    for tag in (x, y):
        if tag.kind != _RATIONAL or not tag.count:
            return None
        top, bottom = struct.unpack_from(block.order + "II", tag.value)
        if not top or not bottom:
            return None
        dots.append(top / bottom * (2.54 if number == _CENTIMETRE else 1))
    return dots[0], dots[1]


def _number(tag: Tag | None, kind: int, order: str) -> int | None:
    """The first value of a tag of this type; ``None`` without one."""
    if tag is None or tag.kind != kind:
        return None
    (value,) = struct.unpack_from(order + {_SHORT: "H", _LONG: "I"}[kind], tag.value)
    return int(value)


def _read_directory(
    data: bytes, start: int, order: str, *, big: bool = False
) -> tuple[Directory, bool]:
    """Return the readable tags of a directory, and True if others are damaged."""
    head, offset, width, entry = ("Q", "Q", 8, 20) if big else ("H", "I", 4, 12)
    try:
        (count,) = struct.unpack_from(order + head, data, start)
    except (struct.error, OverflowError):
        return {}, True
    tags: Directory = {}
    damaged = count > _MAX_TAGS
    room = len(data) + _SHARED_BYTES
    for index in range(min(count, _MAX_TAGS)):
        place = start + struct.calcsize(head) + entry * index
        if place + entry > len(data):
            return tags, True
        number, kind, values = struct.unpack_from(order + "HH" + offset, data, place)
        size = _UNITS.get(kind, 0) * values * (2 if kind in (5, 10) else 1)
        place += entry - width
        if size > width:
            (place,) = struct.unpack_from(order + offset, data, place)
        if not size or place + size > len(data):
            # Cameras write tags without a value; that is no damage.
            damaged = damaged or (values > 0 and kind in _UNITS)
            continue
        room -= size
        if room < 0:
            return tags, True
        tags[number] = Tag(kind, values, data[place : place + size])
    return tags, damaged


def _swapped(tag: Tag) -> Tag:
    unit = _UNITS[tag.kind]
    value = b"".join(
        tag.value[start : start + unit][::-1] for start in range(0, len(tag.value), unit)
    )
    return Tag(tag.kind, tag.count, value)
