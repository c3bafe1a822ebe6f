"""Convert samples to sRGB by an ICC profile or a colour encoding."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.pictures.colors import icc
from nstrt.runtime.pictures.colors.encoding import ColorEncoding, encoded_to_srgb
from nstrt.runtime.pictures.vips import Samples

__all__ = ["ColorSource", "to_srgb"]

ColorSource: TypeAlias = "bytes | ColorEncoding | None"
"""ICC profile or colour encoding of samples; ``None`` for sRGB, or for the usual press."""


def to_srgb(
    samples: Samples, *, source: ColorSource, visible: NDArray[np.bool_] | None = None
) -> Samples:
    """Convert (height, width, channels) gray, RGB or CMYK samples to sRGB.

    sRGB samples stay unchanged, converted ones have 16 bits. CMYK ignores a colour encoding, which
    describes RGB. Pixels that are not ``visible`` do not count for the peak of an HDR picture.
    """
    if isinstance(source, ColorEncoding):
        if samples.shape[2] == 4:
            return icc.to_srgb(samples, profile=None)
        return samples if source.is_srgb else encoded_to_srgb(samples, source, visible)
    return icc.to_srgb(samples, profile=source)
