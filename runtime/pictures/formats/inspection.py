"""Facts about a picture file that libvips does not tell, found before decoding."""

from __future__ import annotations

from collections.abc import Callable

from nstrt.runtime.pictures.formats.facts import Facts
from nstrt.runtime.pictures.formats.gif import inspect_gif
from nstrt.runtime.pictures.formats.heif import inspect_heif
from nstrt.runtime.pictures.formats.jpeg import inspect_jpeg
from nstrt.runtime.pictures.formats.png import inspect_png
from nstrt.runtime.pictures.formats.tiff import inspect_tiff
from nstrt.runtime.pictures.formats.webp import inspect_webp

__all__ = ["inspect_file"]

_INSPECT: dict[str, Callable[[bytes, str], Facts]] = {
    "JPEG": inspect_jpeg,
    "PNG": inspect_png,
    "TIFF": inspect_tiff,
    "WebP": inspect_webp,
    "HEIF": inspect_heif,
    "GIF": inspect_gif,
}


def inspect_file(content: bytes, kind: str, name: str) -> Facts:
    """Inspect a file of format ``kind``, as :func:`detect_format` names it.

    Raises :class:`PictureReadError` if pixels are missing or colours cannot be converted.
    """
    facts = _INSPECT[kind](content, name)
    facts.content = facts.content or content
    return facts
