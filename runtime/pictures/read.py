"""Decode picture files by their content, after checks of format and size."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.errors import PictureReadError
from nstrt.runtime.pictures.formats.bmp import bmp_samples, open_bmp
from nstrt.runtime.pictures.formats.color_source import choose_source
from nstrt.runtime.pictures.formats.facts import Facts, cut_off_error, float_note
from nstrt.runtime.pictures.formats.inspection import inspect_file
from nstrt.runtime.pictures.formats.jpeg import check_jpeg
from nstrt.runtime.pictures.formats.png import repair_png
from nstrt.runtime.pictures.formats.sniff import READABLE, detect_format, detect_unsupported
from nstrt.runtime.pictures.limits import MAX_PIXELS, check_density, check_memory, check_size
from nstrt.runtime.pictures.metadata.exif_block import is_adobe_rgb, orientation_by_tags
from nstrt.runtime.pictures.metadata.metadata import metadata_of_file, metadata_of_pillow
from nstrt.runtime.pictures.metadata.png_metadata import PngMetadata, read_png_metadata
from nstrt.runtime.pictures.metadata.xmp_packet import xmp_orientation
from nstrt.runtime.pictures.picture import Picture
from nstrt.runtime.pictures.source import MAX_BYTES, display_name, read_file
from nstrt.runtime.pictures.values import divide_by_alpha
from nstrt.runtime.pictures.vips import VipsError, libvips, metadata, to_samples, vips_operation

__all__ = ["MAX_BYTES", "MAX_PIXELS", "decode_picture", "open_header", "read_picture"]

_LOADERS = {
    "JPEG": "jpegload_buffer",
    "PNG": "pngload_buffer",
    "TIFF": "tiffload_buffer",
    "WebP": "webpload_buffer",
    "HEIF": "heifload_buffer",
    "GIF": "gifload_buffer",
}
_FAIL_ON = {"JPEG": "warning"}
"""Faults that libvips refuses, "error" by default; libjpeg only warns of lost pixels."""

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
    kind = _known_format(content, name)
    if kind == "BMP":
        return _decode_bmp(content, name, sha256)
    if kind in ("JPEG", "PNG"):
        # A size beyond the limit is refused as such, before rows are counted.
        open_header(content, name=name)
    facts = inspect_file(content, kind, name)
    image = open_header(facts.content, name=name)
    check_density(image.width, image.height, image.bands, len(content), name)
    check_memory(image.width, image.height, image.bands, name)
    channels = facts.color_channels or _COLOR_CHANNELS.get(image.interpretation)
    samples = _decode(image, kind, facts)
    if samples is None or channels is None or samples.shape[2] < channels:
        raise PictureReadError(
            f"The picture '{name}' stores its colours in an unusual way; "
            "save it as an RGB picture with 8 or 16 bits per channel."
        )
    samples = _colors_and_alpha(samples, channels, facts)
    profile = metadata(image, "icc-profile-data") or facts.profile
    if samples.dtype.kind == "f":
        if samples.shape[2] > channels:
            # Invisible colours may be anything, also out of range.
            samples = np.where(samples[..., -1:] > 0, samples, 0)
        samples = _to_sixteen_bits(samples, name)
        if profile is None:
            facts.notes.append(float_note(name))
    samples = _expand_to_sixteen_bits(samples, image)
    depth = 8 if samples.dtype == np.uint8 else 16
    source = None
    if facts.convert is not None:
        samples = _converted(samples, channels, facts.convert)
    else:
        adobe_rgb = is_adobe_rgb(metadata(image, "exif-data"))
        source = choose_source(facts, profile=profile, channels=channels, adobe_rgb=adobe_rgb)
    # libvips reads neither what follows a PNG's pixels nor the texts of older programs.
    png = read_png_metadata(content) if kind == "PNG" else PngMetadata()
    orientation = _orientation(image, facts, png)
    picture = Picture.from_samples(
        samples,
        color_channels=channels,
        source=source,
        orientation=orientation,
        name=name,
        sha256=sha256,
        notes=facts.all_notes,
        metadata=metadata_of_file(content, image, png, name=name, orientation=orientation),
    )
    return picture if picture.depth == depth else replace(picture, depth=depth)


def open_header(content: bytes, *, name: str, fail_on: str | None = None) -> Any:
    """Open the bytes of a picture in libvips without decoding them; check format and size.

    ``fail_on`` is libvips' word for the faults that are refused.
    """
    kind = _known_format(content, name)
    try:
        # The format selects the loader, so that libvips does not try all of its loaders.
        with vips_operation():
            image = getattr(libvips().Image, _LOADERS[kind])(
                content, access="sequential", fail_on=fail_on or _FAIL_ON.get(kind, "error")
            )
    except VipsError as error:
        if kind == "HEIF" and b"hei" in content[8:32]:
            advice = "is a HEIC photo, which cannot be read; export it as JPEG or TIFF"
        else:
            advice = (
                "is cut off, damaged or of an unusual kind; copy it again from where it came from, "
                "or save it again in a picture program"
            )
        raise PictureReadError(f"The picture '{name}' {advice}.") from error
    check_size(image.width, image.height, name)
    return image


def _known_format(content: bytes, name: str) -> str:
    """The format of a file. Raises :class:`PictureReadError` if it cannot be read."""
    kind = detect_format(content)
    unsupported = detect_unsupported(content, name)
    if kind is None or unsupported is not None:
        description = unsupported or "not a picture that can be read"
        raise PictureReadError(f"'{name}' is {description}; save it as {READABLE} and use that.")
    return kind


def _decode(image: Any, kind: str, facts: Facts) -> NDArray[Any] | None:
    """Samples of a file, mended if that costs no pixel; ``None`` for unusual types."""
    name = facts.name
    try:
        if facts.decode is not None:
            return facts.decode()
        with vips_operation():
            return to_samples(image)
    except VipsError as error:
        reason = str(error)
    except MemoryError:
        raise
    except Exception as error:
        # Pillow raises many kinds of exceptions for damaged files.
        raise cut_off_error(name, rows=facts.missing) from error
    if kind == "JPEG":
        check_jpeg(facts, reason)
        content = facts.content
    elif kind == "PNG":
        content = repair_png(facts.content, name)
        facts.damage = facts.damage or f"'{name}' is damaged, but all of its rows are there."
    else:
        raise cut_off_error(name, rows=facts.missing)
    try:
        with vips_operation():
            return to_samples(open_header(content, name=name, fail_on="error"))
    except VipsError as error:
        raise cut_off_error(name) from error


def _orientation(image: Any, facts: Facts, png: PngMetadata) -> int:
    """The EXIF orientation, or that of XMP if EXIF states none, as editors do."""
    if facts.oriented:
        return 1
    stated = metadata(image, "orientation") if facts.states_orientation else None
    stated = stated or orientation_by_tags(png.exif)
    return stated or xmp_orientation(png.xmp or metadata(image, "xmp-data"))


def _colors_and_alpha(samples: NDArray[Any], channels: int, facts: Facts) -> NDArray[Any]:
    """The colour channels, and the alpha channel if there is one."""
    alpha = channels if facts.color_channels is None else facts.alpha
    if alpha is None or alpha >= samples.shape[2]:
        return samples[..., :channels]
    chosen = samples[..., [*range(channels), alpha]] if alpha > channels else samples
    chosen = chosen[..., : channels + 1]
    return divide_by_alpha(chosen) if facts.premultiplied else chosen


def _converted(
    samples: NDArray[Any], channels: int, convert: Callable[[NDArray[Any]], NDArray[np.uint16]]
) -> NDArray[np.uint16]:
    """Samples with converted colour channels and 16 bits."""
    colors = convert(samples[..., :channels])
    if samples.shape[2] == channels:
        return colors
    alpha = samples[..., channels:].astype(np.uint16)
    return np.dstack([colors, alpha if samples.dtype == np.uint16 else alpha * 257])


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
    bits: int = metadata(image, "bits-per-sample") or 0
    if (
        samples.dtype != np.uint16
        or bits not in (10, 12)
        or not metadata(image, "heif-compression")
    ):
        return samples
    top = (1 << bits) - 1
    levels = (samples >> (16 - bits)).astype(np.uint32)
    levels *= 65535
    levels += top // 2
    levels //= top
    return levels.astype(np.uint16)


def _decode_bmp(content: bytes, name: str, sha256: str) -> Picture:
    image = open_bmp(content, name)
    check_size(*image.size, name)
    check_density(*image.size, len(image.getbands()), len(content), name)
    check_memory(*image.size, len(image.getbands()), name)
    found = bmp_samples(image, content, name)
    return Picture.from_samples(
        found.samples,
        source=found.source,
        name=name,
        sha256=sha256,
        notes=found.notes,
        metadata=metadata_of_pillow(image),
    )
