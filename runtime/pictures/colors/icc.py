"""Convert gray, RGB and CMYK samples with an ICC profile to sRGB."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from nstrt.runtime.pictures.vips import (
    Samples,
    VipsError,
    from_samples,
    set_blob,
    to_samples,
    vips_operation,
)

__all__ = ["is_usable", "keeps_grays", "to_srgb"]

_INTERPRETATIONS = {
    (1, "u1"): "b-w",
    (3, "u1"): "srgb",
    (4, "u1"): "cmyk",
    (1, "u2"): "grey16",
    (3, "u2"): "rgb16",
    (4, "u2"): "cmyk",
}
_SPACES = {1: b"GRAY", 3: b"RGB ", 4: b"CMYK"}
"""Colour space in a profile's header by its number of channels."""

_TOLERANCE = 257
"""Largest change, in 65535ths, for which a profile counts as sRGB: one of 255 levels."""


def to_srgb(samples: Samples, *, profile: bytes | None) -> Samples:
    """Convert (height, width, channels) gray, RGB or CMYK samples to sRGB.

    Gray and RGB samples stay unchanged if the profile is unusable or describes sRGB. Converted
    samples have 16 bits. CMYK without a usable profile uses libvips' built-in press profile.
    """
    channels = samples.shape[2]
    if profile is not None and _changes_colors(profile, channels):
        return _convert(samples, profile)
    return _convert(samples, None) if channels == 4 else samples


def is_usable(profile: bytes, channels: int) -> bool:
    """True if samples of so many colour channels can be converted with the profile."""
    return _largest_change(profile, channels) is not None


def keeps_grays(profile: bytes) -> bool:
    """True for an RGB profile whose grays are those of sRGB.

    Programs that store gray often keep such a profile, which says nothing about gray samples.
    """
    if not is_usable(profile, 3):
        return False
    levels = np.linspace(0, 65535, 256).astype(np.uint16)
    ramp = np.repeat(levels.reshape(1, -1, 1), 3, axis=2)
    return int(np.abs(_convert(ramp, profile).astype(np.int32) - ramp).max()) <= _TOLERANCE


def _changes_colors(profile: bytes, channels: int) -> bool:
    """True if the profile is usable and differs from sRGB."""
    change = _largest_change(profile, channels)
    return change is not None and (channels == 4 or change > _TOLERANCE)


@lru_cache(maxsize=8)
def _largest_change(profile: bytes, channels: int) -> int | None:
    """Largest change of a sample, in 65535ths; ``None`` for an unusable profile."""
    # libvips ignores a profile that it cannot use, without an error.
    size = int.from_bytes(profile[:4])
    whole = 128 < size <= len(profile) and profile[36:40] == b"acsp"
    if not whole or profile[16:20] != _SPACES[channels]:
        return None
    levels = np.linspace(0, 65535, 256 if channels == 1 else 9).astype(np.uint16)
    grid = np.stack(np.meshgrid(*[levels] * channels, indexing="ij"), axis=-1)
    probe = grid.reshape(1, -1, channels)
    try:
        with vips_operation():
            converted = _convert(probe, profile)
    except VipsError:
        return None
    if channels == 4:
        return 65535
    return int(np.abs(converted.astype(np.int32) - probe).max())


def _convert(samples: Samples, profile: bytes | None) -> Samples:
    """Convert with the relative intent and black point compensation.

    Image editors use this default: colours inside sRGB stay unchanged, and black stays black.
    """
    channels = samples.shape[2]
    kind = samples.dtype.str[1:]
    image = from_samples(samples, _INTERPRETATIONS[channels, kind])
    if profile is not None:
        set_blob(image, "icc-profile-data", profile)
    intent: dict[str, Any] = {"intent": "relative", "black_point_compensation": True}
    source: dict[str, Any] = {"embedded": True}
    if channels == 4:
        source["input_profile"] = "cmyk"
    if kind == "u1" and channels == 3:
        image = image.icc_transform("srgb", depth=16, **source, **intent)
    else:
        # A single transform uses a coarse table, with errors of up to 14 of 255 levels near the
        # edge of the gamut. Two steps through floating-point Lab have none.
        image = image.icc_import(pcs="lab", **source, **intent)
        image = image.icc_export(pcs="lab", output_profile="srgb", depth=16, **intent)
    converted = to_samples(image)
    assert converted is not None
    return converted
