"""Damage of GIF files, from their blocks (GIF89a)."""

from __future__ import annotations

import math
import struct
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.errors import PictureReadError
from nstrt.runtime.pictures.formats.facts import Facts, cut_off_error
from nstrt.runtime.pictures.vips import libvips, to_samples, vips_operation

__all__ = ["inspect_gif"]

_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_PROFILE = b"ICCRGBG1012"
"""Application extension with an ICC profile."""

_FREE_CANVAS = 16_000_000
"""Most pixels of a canvas that its first frame leaves free; they take no bytes."""


def inspect_gif(content: bytes, name: str) -> Facts:
    """Cut a file behind its first frame if what follows is damaged.

    Raises :class:`PictureReadError` if the first frame lacks rows.
    """
    facts = Facts(name=name, content=content)
    place = 13 + _palette_bytes(content[10:11])
    first_frame_end = 0
    while place < len(content):
        kind = content[place]
        if kind == _TRAILER:
            if content[place + 1 :].strip(b"\0\r\n"):
                facts.damage = f"'{name}' has foreign data behind its end, which was left out."
            return facts
        if kind == _EXTENSION:
            whole, end = _sub_blocks(content, place + 2)
            if whole and content[place + 3 : place + 14] == _PROFILE:
                facts.profile = _data(content, place + 14)
            place = end
        elif kind == _IMAGE:
            start = place + 10 + _palette_bytes(content[place + 9 : place + 10]) + 1
            whole, end = _sub_blocks(content, start)
            if not first_frame_end:
                data = _checked_data(content, place, start, facts.name)
                box = struct.unpack_from("<4H", content, place + 1)
                canvas = struct.unpack_from("<2H", content, 6)
                if box != (0, 0, *canvas):
                    _check_canvas(canvas, box, name)
                    facts.decode = partial(_decode_on_canvas, facts, box)
                if not whole:
                    facts.damage = f"'{name}' lacks its end, but all of its rows are there."
                    facts.content = content[:start] + _in_blocks(data) + bytes([_TRAILER])
                    return facts
                first_frame_end = end
            place = end
        else:
            break
    if first_frame_end:
        facts.damage = f"'{name}' lacks its end, but all rows of its first frame are there."
        facts.content = content[:first_frame_end] + bytes([_TRAILER])
    return facts


def _check_canvas(canvas: tuple[int, ...], box: tuple[int, ...], name: str) -> None:
    """Raise :class:`PictureReadError` for a canvas that is mostly free: it takes time, no bytes."""
    start, frame = box[:2], box[2:]
    # libvips extends it by what of the frame lies outside.
    canvas = tuple(map(max, canvas, map(sum, zip(start, frame, strict=True))))
    if math.prod(canvas) > math.prod(frame) + _FREE_CANVAS:
        raise PictureReadError(
            f"The picture '{name}' is {canvas[0]} x {canvas[1]} pixels, of which its first frame "
            f"covers {frame[0]} x {frame[1]}; crop it."
        )


def _decode_on_canvas(facts: Facts, box: tuple[int, int, int, int]) -> NDArray[Any]:
    """Samples of a first frame that may leave a part of the canvas free, which is transparent.

    ``box`` is its left and top side, width and height. libvips paints the rest in black.
    """
    with vips_operation():
        image = libvips().Image.gifload_buffer(facts.content, fail_on="error")
        samples: NDArray[Any] = np.asarray(to_samples(image))
    left, top, width, height = box
    if samples.shape[2] in (2, 4):
        return samples
    alpha = np.zeros(samples.shape[:2], samples.dtype)
    alpha[top : top + height, left : left + width] = 255
    return samples if alpha.all() else np.dstack([samples, alpha])


def _checked_data(content: bytes, descriptor: int, start: int, name: str) -> bytes:
    """Compressed data of a frame, by its descriptor and the first data sub-block.

    Raises :class:`PictureReadError` if it lacks pixels.
    """
    if start > len(content):
        raise cut_off_error(name)
    width, height = struct.unpack_from("<2H", content, descriptor + 5)
    data = _data(content, start)
    held = _lzw_length(data, content[start - 1], width * height)
    if held < width * height:
        raise cut_off_error(name, rows=(height - held // max(1, width), height))
    return data


def _in_blocks(data: bytes) -> bytes:
    """Data in a chain of sub-blocks."""
    starts = range(0, len(data), 255)
    chain = b"".join(bytes([len(data[i : i + 255])]) + data[i : i + 255] for i in starts)
    return chain + b"\0"


def _data(content: bytes, place: int) -> bytes:
    """Data of a chain of sub-blocks, as far as it goes."""
    data = bytearray()
    while place < len(content) and content[place]:
        data += content[place + 1 : place + 1 + content[place]]
        place += 1 + content[place]
    return bytes(data)


def _lzw_length(data: bytes, minimum: int, wanted: int) -> int:
    """Number of pixels in LZW data, counted up to ``wanted``."""
    if not 1 <= minimum <= 11:
        return 0
    clear = 1 << minimum
    lengths = [1] * clear + [0, 0]
    width, previous = minimum + 1, 0
    bits = count = total = 0
    # A pixel takes at most a code of 12 bits, and one before that clears the table.
    for byte in data[: 3 * wanted + 8]:
        bits |= byte << count
        count += 8
        while count >= width:
            code = bits & ((1 << width) - 1)
            bits >>= width
            count -= width
            if code == clear:
                del lengths[clear + 2 :]
                width, previous = minimum + 1, 0
                continue
            if code == clear + 1 or code > len(lengths):
                return total
            length = lengths[code] if code < len(lengths) else previous + 1
            if previous and len(lengths) < 4096:
                lengths.append(previous + 1)
                if len(lengths) == 1 << width and width < 12:
                    width += 1
            previous = length
            total += length
            if total >= wanted:
                return total
    return total


def _palette_bytes(flags: bytes) -> int:
    """Bytes of the palette that a descriptor's flags announce."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _sub_blocks(content: bytes, place: int) -> tuple[bool, int]:
    """Completeness and end of a chain of data sub-blocks."""
    while place < len(content):
        if content[place] == 0:
            return True, place + 1
        place += 1 + content[place]
    return False, place
