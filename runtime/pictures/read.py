"""Picture files become pictures: decoded by what they hold, checked before they are decoded."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.errors import PictureReadError, TooLargeError
from nstrt.runtime.pictures.picture import MIN_SIDE, Picture
from nstrt.runtime.pictures.sniff import READABLE, foreign_kind, picture_kind
from nstrt.runtime.pictures.source import MAX_BYTES, read_content, shown
from nstrt.runtime.pictures.vips import libvips, to_samples

__all__ = ["MAX_BYTES", "MAX_PIXELS", "decode_picture", "open_header", "read_picture"]

MAX_PIXELS = 400_000_000
"""The most pixels that are decoded: a picture of this size fills 4.5 GiB of memory."""

_LOADERS = {
    "JPEG": "jpegload_buffer",
    "PNG": "pngload_buffer",
    "TIFF": "tiffload_buffer",
    "WebP": "webpload_buffer",
    "HEIF": "heifload_buffer",
    "GIF": "gifload_buffer",
}
_COLOURS = {"b-w": 1, "grey16": 1, "srgb": 3, "rgb16": 3, "scrgb": 3, "rgb": 3, "cmyk": 4}


def read_picture(path: str | Path) -> Picture:
    """Read a JPEG, PNG, TIFF, WebP, AVIF, GIF or BMP file, told by its content, as sRGB.

    The EXIF orientation and the embedded colour profile are applied, transparency is kept, and
    of several pages or frames the first is taken. What cannot be read is refused with
    :class:`PictureReadError`, what is too large with :class:`TooLargeError`.
    """
    return decode_picture(read_content(path), name=shown(PurePath(path).name))


def decode_picture(content: bytes, *, name: str) -> Picture:
    """Read a picture file's bytes; ``name`` is what messages call it."""
    sha256 = hashlib.sha256(content).hexdigest()
    if picture_kind(content) == "BMP":
        return _bmp(content, name, sha256)
    image = open_header(content, name=name)
    colours = _COLOURS.get(image.interpretation)
    if colours is None:
        colours = {1: 1, 2: 1, 3: 3, 4: 3}.get(image.bands)
    try:
        samples = to_samples(image)
    except libvips().Error as error:
        raise PictureReadError(
            f"The picture '{name}' is cut off or damaged; copy it again from where it came from."
        ) from error
    if samples is None or colours is None or samples.shape[2] < colours:
        raise PictureReadError(
            f"The picture '{name}' stores its colours in an unusual way; "
            "save it as an RGB picture with 8 or 16 bits per channel."
        )
    samples = samples[..., : colours + 1]
    if samples.dtype.kind == "f":
        samples = _sixteen_bits(samples, name)
    return Picture.from_samples(
        _full_range(samples, image),
        colours=colours,
        profile=_field(image, "icc-profile-data"),
        orientation=_field(image, "orientation") or 1,
        name=name,
        sha256=sha256,
    )


def open_header(content: bytes, *, name: str) -> Any:
    """Open a picture's bytes with libvips without decoding them, its size checked."""
    kind = picture_kind(content)
    foreign = foreign_kind(content, name)
    if kind is None or foreign is not None:
        what = foreign or "not a picture that can be read"
        raise PictureReadError(f"'{name}' is {what}; save it as {READABLE} and use that.")
    vips = libvips()
    try:
        # The kind decides the loader, so that libvips does not try all it has. "error" refuses
        # files that are cut off or damaged, and takes those that are merely untidy.
        image = getattr(vips.Image, _LOADERS[kind])(content, access="sequential", fail_on="error")
    except vips.Error as error:
        if kind == "HEIF" and b"hei" in content[8:32]:
            advice = "is a HEIC photo, which cannot be read; export it as JPEG or TIFF"
        else:
            advice = (
                "is damaged or of an unusual kind; open it in a picture program and save it again"
            )
        raise PictureReadError(f"The picture '{name}' {advice}.") from error
    _check_size(image.width, image.height, name)
    return image


def _check_size(width: int, height: int, name: str) -> None:
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


def _sixteen_bits(samples: NDArray[Any], name: str) -> NDArray[np.uint16]:
    """Take floating-point values between 0 and 1 as 16-bit ones, and refuse others.

    Without a profile nothing says how such values are encoded; those between 0 and 1 come from
    scientific programs, which write what they would show. High dynamic range is refused.
    """
    if not np.isfinite(samples).all():
        raise PictureReadError(
            f"The picture '{name}' holds values that are not numbers; save it again without them."
        )
    if samples.min() < 0 or samples.max() > 1:
        raise PictureReadError(
            f"The picture '{name}' holds brightness beyond black and white (high dynamic range); "
            "save it with 8 or 16 bits per channel."
        )
    return np.rint(samples * 65535.0).astype(np.uint16)


def _full_range(samples: NDArray[Any], image: Any) -> NDArray[Any]:
    """Stretch the 10 and 12 bits of HEIF files, which libvips shifts up, to all of 16."""
    bits: int = _field(image, "bits-per-sample") or 0
    if samples.dtype != np.uint16 or bits not in (10, 12) or not _field(image, "heif-compression"):
        return samples
    top = (1 << bits) - 1
    levels = (samples >> (16 - bits)).astype(np.uint32)
    levels *= 65535
    levels += top // 2
    levels //= top
    return levels.astype(np.uint16)


def _field(image: Any, field: str) -> Any:
    return image.get(field) if image.get_typeof(field) else None


def _bmp(content: bytes, name: str, sha256: str) -> Picture:
    from PIL.BmpImagePlugin import BmpImageFile

    from nstrt.runtime.pictures.pillow import samples_of

    try:
        # Not by Image.open, which would try every format and has a size limit of its own.
        image = BmpImageFile(io.BytesIO(content))
    except Exception as error:
        raise PictureReadError(
            f"'{name}' is not a picture that can be read; save it as {READABLE} and use that."
        ) from error
    _check_size(*image.size, name)
    try:
        samples, profile, _ = samples_of(image)
    except PictureReadError as error:
        raise PictureReadError(
            f"The picture '{name}' is cut off or damaged; copy it again from where it came from."
        ) from error
    return Picture.from_samples(samples, profile=profile, name=name, sha256=sha256)
