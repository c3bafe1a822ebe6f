"""Separate lightness from colour in CIE L*a*b* to keep a photo's colours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.pictures.colors.gray import gray_like
from nstrt.runtime.pictures.colors.lab import (
    STRIP_PIXELS,
    from_lab,
    lightness,
    map_to_gamut,
    to_lab,
)
from nstrt.runtime.pictures.picture import Picture
from nstrt.runtime.pictures.transparency import resize_visible
from nstrt.runtime.pictures.values import row_strips

__all__ = ["to_gray", "to_gray_pair", "with_chroma_of"]


def to_gray(picture: Picture) -> Picture:
    """Convert a picture to grays of equal lightness."""
    return replace(picture, rgb=_gray(lightness(picture.rgb)))


def to_gray_pair(content: Picture, style: Picture) -> tuple[Picture, Picture]:
    """Convert both pictures to gray and match the style's lightness to the content's.

    L_S' = σ_C / σ_S (L_S - μ_S) + μ_C (Gatys et al., Preserving Color in Neural Artistic Style
    Transfer, 2016, section 4), with L the lightness of CIE L*a*b*.
    """
    content_lightness, style_lightness = lightness(content.rgb), lightness(style.rgb)
    mean, deviation = _statistics(content_lightness, content.alpha)
    style_mean, style_deviation = _statistics(style_lightness, style.alpha)
    # A style of one tone has no contrast to match.
    gain = deviation / style_deviation if style_deviation > 1e-3 else 1.0
    matched = (style_lightness - np.float32(style_mean)) * np.float32(gain) + np.float32(mean)
    return replace(content, rgb=_gray(content_lightness)), replace(style, rgb=_gray(matched))


def with_chroma_of(
    rgb: NDArray[np.float32],
    photo: NDArray[np.float32],
    alpha: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Combine the lightness of ``rgb`` (height, width, 3) with a* and b* of a photo of any size.

    Where the result lies outside sRGB, its lightness moves towards the photo's until it is inside;
    a* and b* stay the photo's. Strokes are therefore weaker in saturated parts.
    """
    height, width = rgb.shape[:2]
    combined = np.empty_like(rgb)
    resized = resize_visible(photo, alpha, width, height)
    for rows in row_strips(height, width, pixels=STRIP_PIXELS):
        photo_lab = to_lab(resized[rows])
        lab = photo_lab.copy()
        lab[..., 0] = lightness(rgb[rows])
        combined[rows] = from_lab(map_to_gamut(lab, photo_lab))
    return combined


def _statistics(
    values: NDArray[np.float32], alpha: NDArray[np.float32] | None
) -> tuple[float, float]:
    """Return mean and deviation, weighted by opacity."""
    if alpha is None or not alpha.any() or alpha.min() == 1:
        return float(values.mean()), float(values.std())
    mean = float(np.average(values, weights=alpha))
    return mean, float(np.sqrt(np.average((values - mean) ** 2, weights=alpha)))


def _gray(values: NDArray[np.float32]) -> NDArray[np.float32]:
    lab = np.zeros((*values.shape, 3), np.float32)
    np.clip(values, 0, 100, out=lab[..., 0])
    # The matrices round each channel in its own way.
    return gray_like(from_lab(lab))
