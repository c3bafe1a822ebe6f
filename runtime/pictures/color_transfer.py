"""Transfer the colour statistics of one picture to another.

- L. A. Gatys, M. Bethge, A. Hertzmann, E. Shechtman, *Preserving Color in Neural Artistic Style
  Transfer*, 2016, section 3: colour matching before style transfer.
- L. A. Gatys, A. S. Ecker, M. Bethge, A. Hertzmann, E. Shechtman, *Controlling Perceptual Factors
  in Neural Style Transfer*, CVPR 2017, section 5.
- F. Pitié, A. Kokaram, *The Linear Monge-Kantorovitch Linear Colour Mapping for Example-Based
  Colour Transfer*, 2007: the linear map with the smallest colour changes.
- F. Pitié, A. Kokaram, R. Dahyot, *Automated Colour Grading Using Colour Distribution Transfer*,
  2007: histogram matching and the grain that an exact match causes.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.pictures.colors.gray import gray_like
from nstrt.runtime.pictures.colors.lab import STRIP_PIXELS, from_lab, map_to_gamut, to_lab
from nstrt.runtime.pictures.picture import Picture
from nstrt.runtime.pictures.values import row_strips

__all__ = ["histogram_map", "linear_map", "match_colors", "transport_matrix"]

Values: TypeAlias = "NDArray[np.float64]"

MAX_GAIN = 4.0
"""Largest factor by which the linear map stretches a colour difference.

One 8-bit level is up to half a unit of L*a*b*; larger factors show bands and JPEG blocks."""

MIN_SLOPE, MAX_SLOPE = 0.25, 2.0
"""Limits of a histogram map's slope; they keep tones from merging and from tearing apart."""

_MIN_VARIANCE = 1e-6
"""Smallest variance, for values in 0..1, assumed along any colour axis.

It keeps the map of a constant or gray picture finite."""

_KNOTS = 256
"""Linear segments of a histogram map."""

_SLOPE_SIGMA = 4.0
"""Standard deviation, in segments, of the Gaussian that smooths a histogram map's slopes."""

_MAX_SAMPLES = 1 << 20
"""Largest number of pixels sampled for statistics, on a regular grid."""


def match_colors(picture: Picture, target: Picture, method: str) -> Picture:
    """Give ``picture`` the colour statistics of ``target``.

    ``covariance`` matches mean and covariance with x' = A x + b (:func:`linear_map`). As in Gatys
    et al., x is sRGB-encoded like the network's input.

    ``histogram`` then maps L*, a* and b* separately to the target's histograms
    (:func:`histogram_map`). Matching along all axes exactly (Pitié, Kokaram and Dahyot) would be
    closer but turns smooth skies into grain.

    Opacity weights each pixel in the statistics. Colours outside sRGB keep lightness and hue and
    lose chroma (:func:`map_to_gamut`).
    """
    source, source_weights = _visible_colors(picture)
    target_colors, target_weights = _visible_colors(target)
    matrix, shift = linear_map(source, target_colors, source_weights, target_weights)
    maps = []
    if method == "histogram":
        before, after = _to_lab(source @ matrix.T + shift), _to_lab(target_colors)
        maps = [
            histogram_map(before[:, channel], after[:, channel], source_weights, target_weights)
            for channel in range(3)
        ]
    matched = np.empty_like(picture.rgb)
    for rows in row_strips(picture.height, picture.width, pixels=STRIP_PIXELS):
        values = picture.rgb[rows].reshape(-1, 3) @ matrix.T.astype(np.float32)
        values += shift.astype(np.float32)
        lab = to_lab(values.reshape(matched[rows].shape))
        for channel, (knots, mapped) in enumerate(maps):
            lab[..., channel] = _interpolate(lab[..., channel], knots, mapped)
        matched[rows] = from_lab(map_to_gamut(lab))
    # A gray target has a gray palette, but for rounding.
    return replace(picture, rgb=gray_like(matched) if target.is_gray else matched)


def linear_map(
    values: Values,
    target: Values,
    weights: Values | None = None,
    target_weights: Values | None = None,
) -> tuple[Values, Values]:
    """Return A and b of x' = A x + b that gives colours (n, 3) the target's mean and covariance.

    A comes from :func:`transport_matrix`, b = μ_target - A μ; ``weights`` holds one weight for
    each colour, (n,).
    """
    mean, covariance = _moments(values, weights)
    target_mean, target_covariance = _moments(target, target_weights)
    matrix = transport_matrix(covariance, target_covariance)
    return matrix, target_mean - matrix @ mean


def transport_matrix(covariance: Values, target: Values) -> Values:
    """Return the symmetric matrix A with A Σ Aᵀ = Σ_target for covariances Σ (3, 3).

    Gatys et al. (equation 1) accept any such A and choose Σ_target^½ Σ^-½. This A minimises the
    colour changes (Pitié and Kokaram, equation 20); both are equal for covariances with the same
    axes::

        A = Σ^-½ (Σ^½ Σ_target Σ^½)^½ Σ^-½

    Its eigenvalues scale differences along its axes. They are limited to ``MAX_GAIN``, so a nearly
    gray picture does not get the full spread of a colourful one.
    """
    covariance = _matrix_power(covariance, 1, least=_MIN_VARIANCE)
    root, inverse = _matrix_power(covariance, 0.5), _matrix_power(covariance, -0.5)
    return _matrix_power(
        inverse @ _matrix_power(root @ target @ root, 0.5) @ inverse, 1, most=MAX_GAIN
    )


def histogram_map(
    values: Values,
    target: Values,
    weights: Values | None = None,
    target_weights: Values | None = None,
) -> tuple[Values, Values]:
    """Return knots and values of a monotone map from values (n,) to the target's histogram.

    h(x) = Q(F(x)) with F the cumulative distribution of the values and Q the target's quantiles.
    The slopes are smoothed and limited to ``MIN_SLOPE``..``MAX_SLOPE``, so that smooth gradients
    stay smooth. The map is then scaled to the target's mean and deviation, within ``MAX_SLOPE``.
    """
    target_mean, target_deviation = _mean_and_deviation(target, target_weights)
    lowest, highest = float(values.min()), float(values.max())
    if highest - lowest < 1e-3 or target_deviation < 1e-3:
        # One of the two has a single tone, so only the mean can be matched.
        return np.array([lowest, lowest + 1]), np.array([0.0, MIN_SLOPE]) + target_mean
    knots = np.linspace(lowest, highest, _KNOTS + 1)
    quantiles = _quantiles(_cumulative_shares(values, weights, knots), target, target_weights)
    slopes = _smooth(np.clip(np.diff(quantiles) / np.diff(knots), MIN_SLOPE, MAX_SLOPE))
    mapped = np.concatenate([[0.0], np.cumsum(slopes * np.diff(knots))])
    mean, deviation = _mean_and_deviation(np.interp(values, knots, mapped), weights)
    gain = min(target_deviation / deviation, MAX_SLOPE / float(slopes.max()))
    return knots, (mapped - mean) * gain + target_mean


def _visible_colors(picture: Picture) -> tuple[Values, Values | None]:
    """Sample colours (n, 3) and opacities (n,); ``None`` stands for equal opacities."""
    step = math.ceil(math.sqrt(picture.width * picture.height / _MAX_SAMPLES))
    values = picture.rgb[::step, ::step].reshape(-1, 3).astype(np.float64)
    # Equal weights would change the last bits.
    if picture.alpha is None or picture.alpha.min() == 1:
        return values, None
    alpha = picture.alpha[::step, ::step].reshape(-1).astype(np.float64)
    visible = alpha > 0
    if not visible.any():
        return values, None
    return values[visible], alpha[visible]


def _to_lab(values: Values) -> Values:
    """Convert sRGB-encoded colours (n, 3) to L*, a* and b*."""
    lab: Values = to_lab(values.astype(np.float32)[np.newaxis])[0].astype(np.float64)
    return lab


def _moments(values: Values, weights: Values | None) -> tuple[Values, Values]:
    mean = np.average(values, axis=0, weights=weights)
    return mean, np.cov(values.T, ddof=0, aweights=weights)


def _mean_and_deviation(values: Values, weights: Values | None) -> tuple[float, float]:
    mean = np.average(values, weights=weights)
    return float(mean), math.sqrt(np.average((values - mean) ** 2, weights=weights))


def _matrix_power(
    matrix: Values, power: float, *, least: float = 0.0, most: float = math.inf
) -> Values:
    """Raise a symmetric matrix to a power after clipping its eigenvalues to ``least``..``most``."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    powered: Values = (vectors * np.clip(values, least, most) ** power) @ vectors.T
    return powered


def _cumulative_shares(values: Values, weights: Values | None, at: Values) -> Values:
    """Return the share of values below each of ``at``; values equal to it count half."""
    order = np.argsort(values)
    ordered = values[order]
    cumulative = np.concatenate(
        [[0.0], np.cumsum(np.ones(len(values)) if weights is None else weights[order])]
    )
    first, last = np.searchsorted(ordered, at, "left"), np.searchsorted(ordered, at, "right")
    shares: Values = (cumulative[first] + cumulative[last]) / (2 * cumulative[-1])
    return shares


def _quantiles(shares: Values, values: Values, weights: Values | None) -> Values:
    """Return the quantiles of ``values`` at the given shares."""
    order = np.argsort(values)
    ordered = np.ones(len(values)) if weights is None else weights[order]
    middle = np.cumsum(ordered) - ordered / 2
    return np.interp(shares, middle / ordered.sum(), values[order])


def _smooth(slopes: Values) -> Values:
    radius = round(3 * _SLOPE_SIGMA)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / _SLOPE_SIGMA) ** 2)
    return np.convolve(np.pad(slopes, radius, "edge"), kernel / kernel.sum(), "valid")


def _interpolate(values: NDArray[np.float32], knots: Values, mapped: Values) -> NDArray[np.float32]:
    """Apply a map between its knots; outside, extrapolate with the slope of its end segments."""
    position = (values - knots[0]) / (knots[1] - knots[0])
    segment = np.clip(position.astype(np.int64), 0, len(knots) - 2)
    interpolated: Values = mapped[segment] + (position - segment) * np.diff(mapped)[segment]
    return interpolated.astype(np.float32)
