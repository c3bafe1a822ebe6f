"""Limits on the size of pictures, checked before they are decoded."""

from __future__ import annotations

from nstrt.runtime.errors import PictureReadError, TooLargeError
from nstrt.runtime.system.memory import tightest_limit, too_large

__all__ = ["MAX_PIXELS", "MIN_SIDE", "check_density", "check_memory", "check_size"]

MIN_SIDE = 16
"""Smallest width and height in pixels; four poolings reduce 16 pixels to one."""

MAX_PIXELS = 400_000_000
"""Largest number of pixels of a decoded picture; it takes 4.5 GiB of memory."""

_PIXELS_PER_BYTE = 8400
"""Pixels that a byte of a file can hold: deflate's largest ratio, 1032, for pixels of 1 bit."""

_FREE_PIXELS = 33_000_000
"""Pixels that any file may have, for formats in which a blank picture takes no bytes."""

_BYTES_OF_COLORS = 12
"""Bytes of a pixel's colours; decoders keep a channel's samples twice."""


def check_size(width: int, height: int, name: str) -> None:
    """Raise :class:`TooLargeError` for too many pixels, :class:`PictureReadError` for too few."""
    if width * height > MAX_PIXELS:
        raise TooLargeError(
            f"The picture '{name}' is {width} x {height} pixels "
            f"({width * height / 1e6:.0f} megapixels), and at most {MAX_PIXELS / 1e6:.0f} "
            "megapixels can be read; save it smaller."
        )
    if min(width, height) < MIN_SIDE:
        raise PictureReadError(
            f"The picture '{name}' is {width} x {height} pixels; "
            f"it must be at least {MIN_SIDE} pixels wide and high."
        )


def check_density(width: int, height: int, channels: int, stored: int, name: str) -> None:
    """Raise :class:`PictureReadError` for more pixels than a file of ``stored`` bytes can hold."""
    pixels = width * height * max(3, channels) / 3
    if pixels > _FREE_PIXELS + _PIXELS_PER_BYTE * stored:
        raise PictureReadError(
            f"The picture '{name}' is {width} x {height} pixels in a file of {stored} bytes, which "
            "are too few; save it smaller, or as PNG."
        )


def check_memory(width: int, height: int, channels: int, name: str) -> None:
    """Raise :class:`TooLargeError` if a container or a ``ulimit`` leaves too little memory.

    Decoders that run out of memory call the file damaged, or end the process.
    """
    needed = width * height * (_BYTES_OF_COLORS + 2 * channels)
    limit = tightest_limit()
    if limit.name and limit.left < needed:
        raise too_large(f"Reading the picture '{name}'", needed)
