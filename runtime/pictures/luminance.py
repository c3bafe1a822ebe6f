"""Lightness and colour apart, in CIE L*a*b*: to paint in lightness and keep the photo's colours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.pictures.lab import STRIP_PIXELS, from_lab, lightness, map_to_gamut, to_lab
from nstrt.runtime.pictures.picture import Picture
from nstrt.runtime.pictures.resize import resize
from nstrt.runtime.pictures.values import row_strips

__all__ = ["to_gray", "to_gray_pair", "with_chroma_of"]


def to_gray(picture: Picture) -> Picture:
    """A picture in grays of its own lightness."""
    return replace(picture, rgb=_gray(lightness(picture.rgb)))


def to_gray_pair(content: Picture, style: Picture) -> tuple[Picture, Picture]:
    """Photo and painting in grays, the painting's lightness matched to the photo's.

    L_S' = σ_C / σ_S (L_S - μ_S) + μ_C (Gatys et al., Preserving Color in Neural Artistic Style
    Transfer, 2016, section 4), with L the lightness of CIE L*a*b*.
    """
    photo, painting = lightness(content.rgb), lightness(style.rgb)
    mean, deviation = _statistics(photo, content.alpha)
    own_mean, own_deviation = _statistics(painting, style.alpha)
    # A painting of one tone has no contrast to match.
    gain = deviation / own_deviation if own_deviation > 1e-3 else 1.0
    matched = (painting - np.float32(own_mean)) * np.float32(gain) + np.float32(mean)
    return replace(content, rgb=_gray(photo)), replace(style, rgb=_gray(matched))


def with_chroma_of(rgb: NDArray[np.float32], photo: NDArray[np.float32]) -> NDArray[np.float32]:
    """The lightness of ``rgb`` (height, width, 3) with a* and b* of the photo, of any size.

    Where sRGB cannot show the photo's a* and b* at their new lightness, lightness gives way: it
    becomes the nearest, towards the photo's own, at which it can. Colours so stay the photo's
    everywhere; in strongly coloured parts, where few lightnesses are left, strokes get fainter.
    """
    height, width = rgb.shape[:2]
    coloured = np.empty_like(rgb)
    resized = resize(photo, width, height)
    for rows in row_strips(height, width, pixels=STRIP_PIXELS):
        own = to_lab(resized[rows])
        lab = own.copy()
        lab[..., 0] = lightness(rgb[rows])
        coloured[rows] = from_lab(map_to_gamut(lab, own))
    return coloured


def _statistics(
    values: NDArray[np.float32], alpha: NDArray[np.float32] | None
) -> tuple[float, float]:
    """Mean and deviation of what can be seen."""
    if alpha is None or not alpha.any():
        return float(values.mean()), float(values.std())
    mean = float(np.average(values, weights=alpha))
    return mean, float(np.sqrt(np.average((values - mean) ** 2, weights=alpha)))


def _gray(values: NDArray[np.float32]) -> NDArray[np.float32]:
    lab = np.zeros((*values.shape, 3), np.float32)
    np.clip(values, 0, 100, out=lab[..., 0])
    return from_lab(lab)
