"""Lightness and colour apart, in CIE L*a*b*: to paint in lightness and keep the photo's colours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.pictures.picture import Picture
from nstrt.runtime.pictures.resize import resize
from nstrt.runtime.pictures.values import quantised, unit_values
from nstrt.runtime.pictures.vips import from_samples, libvips, to_samples

__all__ = ["gray_pair", "lightness", "with_colours_of"]


def gray_pair(content: Picture, style: Picture) -> tuple[Picture, Picture]:
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


def with_colours_of(rgb: NDArray[np.float32], photo: NDArray[np.float32]) -> NDArray[np.float32]:
    """The lightness of ``rgb`` (height, width, 3) with a* and b* of the photo, of any size.

    Colours that sRGB cannot show at their new lightness are clipped.
    """
    height, width = rgb.shape[:2]
    lab = _lab(resize(photo, width, height)).copy()
    lab[..., 0] = lightness(rgb)
    return _rgb(lab)


def lightness(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """L* of sRGB values (height, width, 3), from 0 to 100."""
    return np.ascontiguousarray(_lab(rgb)[..., 0])


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
    return _rgb(lab)


def _lab(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    samples = np.empty(rgb.shape, np.uint16)
    quantised(rgb, samples)
    values = to_samples(from_samples(samples, "rgb16").colourspace("lab"))
    assert values is not None
    return values.astype(np.float32, copy=False)


def _rgb(lab: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width, channels = lab.shape
    image = libvips().Image.new_from_memory(
        np.ascontiguousarray(lab).data, width, height, channels, "float"
    )
    samples = to_samples(image.copy(interpretation="lab").colourspace("rgb16"))
    assert samples is not None
    return unit_values(samples, channels=3)
