"""Damage of JPEG files: missing rows, scans and end markers."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.errors import PictureReadError
from nstrt.runtime.pictures.formats.facts import Facts, cut_off_error
from nstrt.runtime.pictures.vips import VipsError, libvips, to_samples, vips_operation

__all__ = ["check_jpeg", "inspect_jpeg", "whole_rows"]

_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])", re.DOTALL)
"""A marker in entropy-coded data, but stuffed bytes and restart markers."""

_END = b"\xff\xd9"
_START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN, _TEMPORARY = 0xD8, 0xD9, 0xDA, 0x01
_APP2 = 0xE2
_NO_FRAMES = (0xC4, 0xC8, 0xCC)
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_MOST_ROWS = 65_000
"""libjpeg refuses more than 65,500."""

_LEAST_BITS = {0xC0: 2, 0xC1: 2, 0xC2: 1, 0xC9: 1 / 32, 0xCA: 1 / 32}
"""Bits of a block in the shortest codes; of the first scans in a progressive file.

Arithmetic codes of a blank picture can be shorter still, but decoders do not notice their end.
"""

_HARMFUL = re.compile(
    "premature end of|bad Huffman|instead of RST|bad arithmetic|before marker 0xd[0-7]"
)
"""libjpeg's warnings about lost pixels."""

_HARMLESS = re.compile(
    "extraneous bytes before marker|[Uu]nknown Adobe color transform|nvalid SOS parameters"
    "|nconsistent progression|nknown JFIF revision"
)
"""libjpeg's warnings about faults that cost no pixel."""


def inspect_jpeg(content: bytes, name: str) -> Facts:
    """Add a missing end marker, and note missing scans.

    Raises :class:`PictureReadError` for a file that is too short for its pixels, and for a
    progressive one that ends before its last scan.
    """
    frame = _frame(content)
    facts = Facts(name=name, content=content, expects_profile=frame.profile)
    missing = _least_missing(frame)
    # Otherwise a progressive file would take the memory of all its pixels before it is refused.
    if missing and frame.kind in (0xC0, 0xC1):
        raise cut_off_error(name, rows=(frame.height - _whole_rows(content, frame), frame.height))
    if missing:
        raise cut_off_error(name, f"at least {missing} of its {frame.height} rows are missing")
    if not frame.ended and frame.kind:
        if frame.kind in _PROGRESSIVE and not frame.complete:
            raise _coarse(name)
        facts.content = content.rstrip(b"\xff") + _END
        facts.damage = f"'{name}' lacks its end marker, but all of its rows are there."
    elif frame.kind in _PROGRESSIVE and not frame.complete:
        # The standard allows it, and the writer may have meant it.
        facts.damage = f"'{name}' lacks scans of a progressive JPEG, so fine detail may be missing."
    facts.decode = partial(_decode, facts.content, frame)
    return facts


def _least_missing(frame: _Frame) -> int:
    """Rows that are missing at least, by the length of the scans."""
    bits_of_row = _LEAST_BITS.get(frame.kind, 0) * max(1, frame.width // 8)
    if not bits_of_row:
        return 0
    return max(0, frame.height - 8 * int(8 * frame.coded / bits_of_row + 1))


def check_jpeg(facts: Facts, reason: str) -> None:
    """Note a fault that costs no pixel; ``reason`` is libjpeg's message.

    Raises :class:`PictureReadError` if pixels are missing.
    """
    name, content = facts.name, facts.content
    if not _HARMFUL.search(reason):
        if not _HARMLESS.search(reason):
            raise cut_off_error(name)
        facts.damage = facts.damage or (
            f"'{name}' has stray bytes; where they lie among its pixels, it looks damaged."
            if "extraneous" in reason
            else f"'{name}' has faults that cost no pixel."
        )
        return
    frame = _frame(content)
    if frame.kind in _PROGRESSIVE:
        raise _coarse(name)
    if not frame.complete:
        raise cut_off_error(name)
    raise cut_off_error(name, rows=(frame.height - _whole_rows(content, frame), frame.height))


def whole_rows(content: bytes, width: int, height: int, tallest: int) -> int:
    """Rows of a stream that can be decoded, at most ``height``.

    The stream is that of a strip or tile, with its tables. One of another width or with more than
    ``tallest`` rows counts as empty, as for libtiff.
    """
    content += _END
    frame = _frame(content)
    height = min(height, frame.height)
    try:
        _open(content, frame)
    except VipsError:
        return 0
    if frame.width != width or frame.height > tallest:
        return 0
    try:
        if not _least_missing(frame):
            with vips_operation():
                # The last row comes after all others, of which none is kept.
                image = _open(content, frame)
                libvips().Region.new(image).fetch(0, image.height - 1, image.width, 1)
            return height
    except VipsError as error:
        if _HARMLESS.search(str(error)) and not _HARMFUL.search(str(error)):
            return height
    return min(height, _whole_rows(content, frame))


def _coarse(name: str) -> PictureReadError:
    return cut_off_error(name, "it is a progressive JPEG that lacks its last scans")


def _whole_rows(content: bytes, frame: _Frame) -> int:
    """Rows before the first that cannot be decoded; 0 for a file that cannot be opened."""
    try:
        image = _open(content, frame)
    except VipsError:
        return 0
    region = libvips().Region.new(image)
    for row in range(image.height):
        try:
            with vips_operation():
                region.fetch(0, row, image.width, 1)
        except VipsError:
            # libjpeg has warned of the rows before these, unless it reads ahead.
            return max(0, row - 1) // frame.guard * frame.guard if frame.guard else row
    return frame.height


def _decode(content: bytes, frame: _Frame) -> NDArray[Any]:
    """Samples of a file; raises :class:`VipsError` for libjpeg's first warning."""
    with vips_operation():
        samples: NDArray[Any] = np.asarray(to_samples(_open(content, frame)))
    return samples[: frame.height]


def _open(content: bytes, frame: _Frame) -> Any:
    """Open a file in libvips, with a row behind the last where its warnings need one.

    libvips passes on libjpeg's warnings when it reads the next eight rows, and thus never those of
    the last eight. A header of more rows makes it ask for one row more.
    """
    height = -(-frame.height // max(frame.guard, 1)) * frame.guard
    guarded = 0 < height <= _MOST_ROWS
    if guarded:
        place = frame.place
        content = content[:place] + struct.pack(">H", height + 8) + content[place + 2 :]
    with vips_operation():
        image = libvips().Image.jpegload_buffer(content, access="sequential", fail_on="warning")
        return image.crop(0, 0, image.width, height + 1) if guarded else image


@dataclass
class _Frame:
    """The frame of a JPEG file and its scans."""

    kind: int = 0
    """Marker of the frame; 0 if there is none."""
    place: int = 0
    """Offset of the height in the file."""
    height: int = 0
    width: int = 0
    components: int = 0
    final: dict[int, set[int]] = field(default_factory=dict)
    """Coefficients of each component whose last bit is there."""
    coded: int = 0
    """Bytes of the scans; only of the first scan of each component in a progressive file."""
    profile: bool = False
    """There is a piece of an ICC profile."""
    ended: bool = False
    """The end marker is there."""
    sampling: tuple[tuple[int, int], ...] = ()
    """Horizontal and vertical sampling factors of the components."""
    scans: int = 0
    """Number of scans."""

    @property
    def guard(self) -> int:
        """Rows that libjpeg decodes at once if it does not read ahead, else 0.

        It reads ahead for several scans, and to interpolate colours between rows.
        """
        if self.kind not in (0xC0, 0xC1) or self.scans != 1 or not self.sampling:
            return 0
        widest, highest = (max(factors) for factors in zip(*self.sampling, strict=True))
        if highest == 1:
            return 8
        between = any(
            2 * vertical == highest and widest in (horizontal, 2 * horizontal)
            for horizontal, vertical in self.sampling
        )
        return 0 if between or self.components == 1 else 8 * highest

    @property
    def complete(self) -> bool:
        """All components have scans, and all coefficients of progressive ones their last bit."""
        needed = 64 if self.kind in _PROGRESSIVE else 1
        return len(self.final) == self.components and all(
            len(done) >= needed for done in self.final.values()
        )


def _frame(content: bytes) -> _Frame:
    """Read the markers up to the end marker."""
    frame, place = _Frame(), 2
    while match := _MARKER.search(content, place):
        marker, place = match[1][0], match.end()
        if marker == _END_OF_IMAGE:
            frame.ended = True
            break
        if marker in (_START_OF_IMAGE, _TEMPORARY) or len(content) < place + 2:
            continue
        (length,) = struct.unpack_from(">H", content, place)
        body = content[place + 2 : place + length]
        place += length
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAMES and len(body) >= 6:
            if frame.kind:
                # libjpeg ends there; damaged data can look like a second frame.
                break
            frame.kind = marker
            _, frame.height, frame.width, frame.components = struct.unpack_from(">BHHB", body)
            frame.place = place - length + 3
            factors = body[7 : 6 + 3 * frame.components : 3]
            frame.sampling = tuple((factor >> 4, factor & 15) for factor in factors)
        elif marker == _APP2 and body.startswith(b"ICC_PROFILE\0"):
            frame.profile = True
        elif marker == _START_OF_SCAN and len(body) >= 4 and len(body) >= 4 + 2 * body[0]:
            frame.scans += 1
            first, last, high, low = body[-3], min(body[-2], 63), body[-1] >> 4, body[-1] & 15
            following = _MARKER.search(content, place)
            end = following.start() if following else len(content)
            if frame.kind not in _PROGRESSIVE or first == high == 0:
                frame.coded += end - place
            for component in body[1 : 1 + 2 * body[0] : 2]:
                if low == 0:
                    frame.final.setdefault(component, set()).update(range(first, last + 1))
    return frame
