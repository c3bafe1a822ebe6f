"""Convert Pillow images to the samples that :class:`Picture` accepts."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.errors import OptionError, PictureReadError
from nstrt.runtime.pictures.colors.encoding import (
    UnknownEncodingError,
    from_gamma,
    from_h273,
    lab_to_srgb,
)
from nstrt.runtime.pictures.colors.to_srgb import ColorSource
from nstrt.runtime.pictures.formats.color_source import choose_source
from nstrt.runtime.pictures.formats.facts import Facts, fallback_note
from nstrt.runtime.pictures.formats.inspection import inspect_file
from nstrt.runtime.pictures.formats.sniff import detect_format
from nstrt.runtime.pictures.metadata.exif_block import is_adobe_rgb, orientation_by_tags
from nstrt.runtime.pictures.source import MAX_BYTES, display_name
from nstrt.runtime.system.regular_file import read_regular

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["PillowSamples", "opened_content", "pillow_samples"]

_EXIF_ORIENTATION = 0x0112
_SUPPORTED = ("L", "LA", "RGB", "RGBA", "CMYK", "LAB", "F", "I")
_CONVERTED = {"1": "L", "La": "LA", "PA": "RGBA", "RGBa": "RGBA"}


@dataclass(frozen=True, kw_only=True)
class PillowSamples:
    """Samples of a Pillow image and their meaning."""

    samples: NDArray[Any]
    """(height, width, channels)."""

    color_channels: int
    """Number of colour channels; a further one is alpha."""

    source: ColorSource
    """Colour encoding of the samples."""

    depth: int
    """Bits per channel of the image, 8 or 16."""

    orientation: int
    """EXIF orientation to be applied."""

    notes: tuple[str, ...]
    """As :attr:`Picture.notes`."""


def pillow_samples(image: Image.Image, *, name: str | None = None) -> PillowSamples:
    """Return an image's samples, their colour encoding and the orientation to apply.

    ``name`` stands for the image in notes. Raises :class:`PictureReadError` for an image whose
    file is damaged, and :class:`OptionError` for values that no picture has.
    """
    if name is None:
        path = getattr(image, "filename", "")
        name = display_name(Path(os.fsdecode(path)).name) if path else "a Pillow picture"
    facts = _file_facts(image, name)
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:
        raise PictureReadError(
            "The Pillow picture cannot be loaded; its file is damaged or gone."
        ) from error
    samples = _samples(image)
    color_channels = 4 if image.mode == "CMYK" else 1 if samples.shape[2] <= 2 else 3
    block = image.info.get("exif")
    depth = 8 if samples.dtype == np.uint8 else 16
    source: ColorSource = None
    if image.mode == "LAB":
        samples = lab_to_srgb(samples, signed=True)
    else:
        profile = image.info.get("icc_profile")
        source = choose_source(
            facts,
            profile=profile if isinstance(profile, bytes) and profile else None,
            channels=color_channels,
            adobe_rgb=is_adobe_rgb(block if isinstance(block, bytes) else None),
        )
    orientation = _orientation(image, facts)
    return PillowSamples(
        samples=samples,
        color_channels=color_channels,
        source=source,
        depth=depth,
        orientation=orientation,
        notes=facts.all_notes,
    )


def _samples(image: Image.Image) -> NDArray[Any]:
    """Samples of an image, with alpha for a transparent colour."""
    samples = np.asarray(_to_supported_mode(image))
    if image.mode == "I":
        if samples.min() < 0 or samples.max() > 65535:
            raise OptionError(
                "A Pillow picture of mode I must hold values between 0 and 65535; "
                "convert it to mode L or RGB first."
            )
        samples = samples.astype(np.uint16)
    if samples.dtype.kind == "u":
        samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    if samples.ndim == 2:
        samples = samples[..., np.newaxis]
    key = image.info.get("transparency")
    if isinstance(key, int | tuple) and _is_keyed(image):
        samples = _with_alpha(samples, key)
    return samples


def _is_keyed(image: Image.Image) -> bool:
    """True for modes in which one colour can be the transparent one."""
    return image.mode in ("1", "L", "RGB", "I") or image.mode.startswith("I;16")


def _with_alpha(samples: NDArray[Any], key: int | tuple[int, ...]) -> NDArray[Any]:
    """Samples with an alpha channel that is 0 where they equal ``key``."""
    top = np.iinfo(samples.dtype).max
    keys = np.atleast_1d(np.array(key, np.int64))
    # Pillow scales gray of 2 and 4 bits to 8, and RGB of 16, but not their keys.
    if samples.dtype == np.uint8 and keys.max() > 255:
        keys >>= 8
    if keys.size == 1 and not (samples == keys).any():
        for largest in (3, 15):
            if keys[0] <= largest and not (samples % (255 // largest)).any():
                keys *= 255 // largest
                break
    opaque = (samples != keys).any(axis=-1, keepdims=True)
    return np.concatenate([samples, (opaque * top).astype(samples.dtype)], axis=-1)


def _to_supported_mode(image: Image.Image) -> Image.Image:
    """Convert an image of an unsupported mode to a supported one."""
    mode = image.mode
    if mode == "P" and image.has_transparency_data:
        return image.convert("RGBA")
    if mode in _SUPPORTED or mode.startswith("I;16"):
        return image
    return image.convert(_CONVERTED.get(mode, "RGB"))


def _file_facts(image: Image.Image, name: str) -> Facts:
    """Colours by an image's file, or by what Pillow kept of it."""
    content = opened_content(image)
    kind = detect_format(content)
    if kind in ("PNG", "HEIF", "TIFF"):
        try:
            found = inspect_file(content, kind, name)
        except PictureReadError as error:
            # Pillow's own decoder judges damage; colours that cannot be converted are refused.
            if "encoding" in str(error):
                raise
        else:
            return Facts(name=name, encoding=found.encoding, fallback=found.fallback)
    facts = Facts(name=name)
    info = image.info
    gamma, points = info.get("gamma"), info.get("chromaticity")
    if "srgb" in info:
        facts.fallback = from_h273(1, 13)
    elif gamma is not None or points is not None:
        try:
            primaries = None
            if points is not None:
                white, red, green, blue = zip(points[::2], points[1::2], strict=True)
                primaries = (red, green, blue, white)
            facts.fallback = from_gamma(1 / gamma if gamma else None, primaries)
        except (UnknownEncodingError, ValueError, TypeError) as error:
            facts.notes.append(fallback_note(name, str(error)))
    return facts


def opened_content(image: Image.Image) -> bytes:
    """Bytes of the file that an image was opened from; none if they are out of reach."""
    from PIL import ImageFile

    if not isinstance(image, ImageFile.ImageFile):
        return b""
    try:
        path = image.filename
        if path and os.path.isfile(path) and os.path.getsize(path) <= MAX_BYTES:
            return read_regular(os.fsdecode(path), limit=MAX_BYTES)
        if image.fp is None:
            return b""
        place = image.fp.tell()
        image.fp.seek(0)
        content = image.fp.read()
        image.fp.seek(place)
        return content
    except (OSError, ValueError):
        return b""


def _orientation(image: Image.Image, facts: Facts) -> int:
    """The orientation of an opened file; other images are taken as they stand.

    Pillow keeps EXIF data when it rotates, resizes or converts an image, so they do not tell
    if that image is still to be turned.
    """
    from PIL import ImageFile

    orientation = None
    # Pillow raises many kinds of exceptions for broken EXIF data.
    with suppress(Exception):
        if image.format == "AVIF":
            # Pillow would turn it by XMP too.
            orientation = orientation_by_tags(image.info["exif"])
        else:
            orientation = image.getexif().get(_EXIF_ORIENTATION)
    if not isinstance(orientation, int) or orientation not in range(2, 9):
        return 1
    if isinstance(image, ImageFile.ImageFile):
        return orientation
    facts.notes.append(
        f"'{facts.name}' was changed after Pillow opened it, so its EXIF orientation was not "
        "applied."
    )
    return 1
