"""Colours of any layout and profile become sRGB."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from nstrt.runtime.pictures.vips import Samples, from_samples, libvips, set_blob, to_samples

__all__ = ["to_srgb"]

_INTERPRETATIONS = {
    (1, "u1"): "b-w",
    (3, "u1"): "srgb",
    (4, "u1"): "cmyk",
    (1, "u2"): "grey16",
    (3, "u2"): "rgb16",
    (4, "u2"): "cmyk",
}
_SAME = 257
"""Colours that move by at most one of 255 levels count as unmoved (in 65535ths)."""


def to_srgb(colours: Samples, *, profile: bytes | None) -> Samples:
    """Give (height, width, 1, 3 or 4) gray, RGB or CMYK values as sRGB.

    A profile that cannot be used, or that describes sRGB itself, changes nothing: RGB and gray
    values then come back as they are, bit for bit. Converted colours have 16 bits, whatever
    they had before. CMYK without a usable profile is read with libvips' own press profile.
    """
    channels = colours.shape[2]
    if profile is not None and _moves_colours(profile, channels):
        return _converted(colours, profile)
    return _converted(colours, None) if channels == 4 else colours


@lru_cache(maxsize=8)
def _moves_colours(profile: bytes, channels: int) -> bool:
    """Whether the profile can be used and does more than repeat sRGB."""
    levels = np.linspace(0, 65535, 256 if channels == 1 else 9).astype(np.uint16)
    grid = np.stack(np.meshgrid(*[levels] * channels, indexing="ij"), axis=-1)
    probe = grid.reshape(1, -1, channels)
    try:
        moved = _converted(probe, profile)
    except libvips().Error:
        return False
    return channels == 4 or bool(np.abs(moved.astype(np.int32) - probe).max() > _SAME)


def _converted(colours: Samples, profile: bytes | None) -> Samples:
    """Convert with the relative intent and black point compensation.

    That is what picture programs do by default: colours that sRGB holds stay as they are, and
    black stays black.
    """
    channels = colours.shape[2]
    kind = colours.dtype.str[1:]
    image = from_samples(colours, _INTERPRETATIONS[channels, kind])
    if profile is not None:
        set_blob(image, "icc-profile-data", profile)
    how: dict[str, Any] = {"intent": "relative", "black_point_compensation": True}
    source: dict[str, Any] = {"embedded": True}
    if channels == 4:
        source["input_profile"] = "cmyk"
    if kind == "u1" and channels == 3:
        image = image.icc_transform("srgb", depth=16, **source, **how)
    else:
        # In one step, these would go through a coarse table that is off by up to 14 of 255
        # levels near the edge of the gamut; by way of floating-point Lab they stay exact.
        image = image.icc_import(pcs="lab", **source, **how)
        image = image.icc_export(pcs="lab", output_profile="srgb", depth=16, **how)
    converted = to_samples(image)
    assert converted is not None
    return converted
