"""Decode picture files by their content, after checks of format and size."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.errors import PictureReadError, TooLargeError
from nstrt.runtime.pictures.metadata import metadata_of_file, metadata_of_pillow
from nstrt.runtime.pictures.picture import MIN_SIDE, Picture
from nstrt.runtime.pictures.sniff import READABLE, detect_format, detect_unsupported
from nstrt.runtime.pictures.source import MAX_BYTES, display_name, read_file
from nstrt.runtime.pictures.vips import libvips, to_samples

__all__ = ["MAX_BYTES", "MAX_PIXELS", "decode_picture", "open_header", "read_picture"]

MAX_PIXELS = 400_000_000
"""Largest number of pixels of a decoded picture; it takes 4.5 GiB of memory."""

_LOADERS = {
    "JPEG": "jpegload_buffer",
    "PNG": "pngload_buffer",
    "TIFF": "tiffload_buffer",
    "WebP": "webpload_buffer",
    "HEIF": "heifload_buffer",
    "GIF": "gifload_buffer",
}
_COLOR_CHANNELS = {"b-w": 1, "grey16": 1, "srgb": 3, "rgb16": 3, "scrgb": 3, "rgb": 3, "cmyk": 4}


def read_picture(path: str | Path) -> Picture:
    """Read a JPEG, PNG, TIFF, WebP, AVIF, GIF or BMP file as sRGB.

    The content decides the format. EXIF orientation and colour profile are applied, transparency
    is kept, and only the first page or frame is read. Raises :class:`PictureReadError` for an
    unreadable file and :class:`TooLargeError` for one that is too large.
    """
    return decode_picture(read_file(path), name=display_name(PurePath(path).name))


def decode_picture(content: bytes, *, name: str) -> Picture:
    """Decode the bytes of a picture file; ``name`` is its name in error messages."""
    sha256 = hashlib.sha256(content).hexdigest()
    if detect_format(content) == "BMP":
        return _decode_bmp(content, name, sha256)
    image = open_header(content, name=name)
    color_channels = _COLOR_CHANNELS.get(image.interpretation)
    if color_channels is None:
        color_channels = {1: 1, 2: 1, 3: 3, 4: 3}.get(image.bands)
    try:
        samples = to_samples(image)
    except libvips().Error as error:
        raise PictureReadError(
            f"The picture '{name}' is cut off or damaged; copy it again from where it came from."
        ) from error
    if samples is None or color_channels is None or samples.shape[2] < color_channels:
        raise PictureReadError(
            f"The picture '{name}' stores its colours in an unusual way; "
            "save it as an RGB picture with 8 or 16 bits per channel."
        )
    samples = samples[..., : color_channels + 1]
    if samples.dtype.kind == "f":
        samples = _to_sixteen_bits(samples, name)
    orientation = _metadata(image, "orientation") or 1
    return Picture.from_samples(
        _expand_to_sixteen_bits(samples, image),
        color_channels=color_channels,
        profile=_metadata(image, "icc-profile-data"),
        orientation=orientation,
        name=name,
        sha256=sha256,
        metadata=metadata_of_file(content, image, name=name, orientation=orientation),
    )


def open_header(content: bytes, *, name: str) -> Any:
    """Open the bytes of a picture in libvips without decoding them; check format and size."""
    kind = detect_format(content)
    unsupported = detect_unsupported(content, name)
    if kind is None or unsupported is not None:
        description = unsupported or "not a picture that can be read"
        raise PictureReadError(f"'{name}' is {description}; save it as {READABLE} and use that.")
    vips = libvips()
    try:
        # The format selects the loader, so that libvips does not try all of its loaders. "error"
        # refuses truncated and damaged files but accepts files with harmless faults.
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


def _to_sixteen_bits(samples: NDArray[Any], name: str) -> NDArray[np.uint16]:
    """Convert floating-point samples in 0..1 to 16 bits; refuse other values.

    A file without a profile does not state the encoding; scientific programs write display values
    in 0..1. High dynamic range is refused.
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


def _expand_to_sixteen_bits(samples: NDArray[Any], image: Any) -> NDArray[Any]:
    """Expand 10 and 12 bit HEIF samples, which libvips only shifts up, to the full 16-bit range."""
    bits: int = _metadata(image, "bits-per-sample") or 0
    if (
        samples.dtype != np.uint16
        or bits not in (10, 12)
        or not _metadata(image, "heif-compression")
    ):
        return samples
    top = (1 << bits) - 1
    levels = (samples >> (16 - bits)).astype(np.uint32)
    levels *= 65535
    levels += top // 2
    levels //= top
    return levels.astype(np.uint16)


def _metadata(image: Any, field: str) -> Any:
    return image.get(field) if image.get_typeof(field) else None


def _decode_bmp(content: bytes, name: str, sha256: str) -> Picture:
    from PIL.BmpImagePlugin import BmpImageFile

    from nstrt.runtime.pictures.pillow import pillow_samples

    try:
        # Image.open would try every format and applies its own size limit.
        image = BmpImageFile(io.BytesIO(content))
    except Exception as error:
        raise PictureReadError(
            f"'{name}' is not a picture that can be read; save it as {READABLE} and use that."
        ) from error
    _check_size(*image.size, name)
    try:
        samples, profile, _ = pillow_samples(image)
    except PictureReadError as error:
        raise PictureReadError(
            f"The picture '{name}' is cut off or damaged; copy it again from where it came from."
        ) from error
    return Picture.from_samples(
        samples,
        profile=profile,
        name=name,
        sha256=sha256,
        metadata=metadata_of_pillow(image),
    )
