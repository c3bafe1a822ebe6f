"""One picture in another's palette: its colours' statistics made those of the other.

- L. A. Gatys, M. Bethge, A. Hertzmann, E. Shechtman, *Preserving Color in Neural Artistic Style
  Transfer*, 2016, section 3: matched before painting.
- L. A. Gatys, A. S. Ecker, M. Bethge, A. Hertzmann, E. Shechtman, *Controlling Perceptual Factors
  in Neural Style Transfer*, CVPR 2017, section 5.
- F. Pitié, A. Kokaram, *The Linear Monge-Kantorovitch Linear Colour Mapping for Example-Based
  Colour Transfer*, 2007: which of the linear maps.
- F. Pitié, A. Kokaram, R. Dahyot, *Automated Colour Grading Using Colour Distribution Transfer*,
  2007: histograms, and the grain that comes of matching them to the letter.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.pictures.lab import STRIP, from_lab, into_gamut, to_lab
from nstrt.runtime.pictures.picture import Picture
from nstrt.runtime.pictures.values import strips

__all__ = ["histogram_map", "linear_map", "match_colours", "transport"]

Values: TypeAlias = "NDArray[np.float64]"

STEEPEST = 4.0
"""The most that a difference between two colours may grow. One step of 8 bits is up to half a unit
of L*a*b*; grown more than this it shows as a band, as a JPEG's blocks do."""

FLATTEST, STEEPER = 0.25, 2.0
"""The most that differences between tones may shrink and grow in a histogram's map, which comes
on top: no tones merge, and none tear apart."""

_LEAST_VARIANCE = 1e-6
"""Variance, of values in 0..1, that every direction of colour is taken to have: a constant or
gray picture then has a finite map too."""

_KNOTS = 256
"""Steps of a histogram's map; it is straight within each."""

_SMOOTH = 4.0
"""Deviation, in steps, of the Gaussian that smooths the slopes of a histogram's map."""

_SAMPLE = 1 << 20
"""Pixels that statistics are taken of, at most, in rows and columns at equal distances."""


def match_colours(picture: Picture, target: Picture, how: str) -> Picture:
    """``picture`` with the colours of ``target``: mean and ``covariance``, or ``histogram``.

    ``covariance``: x' = A x + b of :func:`linear_map`, in sRGB-encoded values as Gatys et al. do,
    for that is what the network sees, and the box that they may fill.

    ``histogram``: after that, L*, a* and b* each go through the monotone map that gives them the
    target's histogram (:func:`histogram_map`). Matching in all directions to the letter (Pitié,
    Kokaram and Dahyot) would come closer, and breaks smooth skies into grain.

    Statistics are of what can be seen: a pixel counts as much as it is opaque. Colours beyond
    sRGB keep their lightness and hue and lose chroma (:func:`into_gamut`).
    """
    own, own_weights = _seen(picture)
    wanted, wanted_weights = _seen(target)
    matrix, shift = linear_map(own, wanted, own_weights, wanted_weights)
    maps = []
    if how == "histogram":
        before, after = _lab(own @ matrix.T + shift), _lab(wanted)
        maps = [
            histogram_map(before[:, channel], after[:, channel], own_weights, wanted_weights)
            for channel in range(3)
        ]
    matched = np.empty_like(picture.rgb)
    for rows in strips(picture.height, picture.width, pixels=STRIP):
        values = picture.rgb[rows].reshape(-1, 3) @ matrix.T.astype(np.float32)
        values += shift.astype(np.float32)
        lab = to_lab(values.reshape(matched[rows].shape))
        for channel, (knots, mapped) in enumerate(maps):
            lab[..., channel] = _interpolated(lab[..., channel], knots, mapped)
        matched[rows] = from_lab(into_gamut(lab))
    return replace(picture, rgb=matched)


def linear_map(
    values: Values,
    target: Values,
    weights: Values | None = None,
    target_weights: Values | None = None,
) -> tuple[Values, Values]:
    """A and b of x' = A x + b, by which colours (n, 3) get the mean and covariance of others.

    A of :func:`transport`, b = μ_target - A μ; ``weights`` are those of the pixels, (n,).
    """
    mean, covariance = _moments(values, weights)
    target_mean, target_covariance = _moments(target, target_weights)
    matrix = transport(covariance, target_covariance)
    return matrix, target_mean - matrix @ mean


def transport(covariance: Values, target: Values) -> Values:
    """The symmetric matrix A with A Σ Aᵀ = Σ_target, for covariances Σ (3, 3).

    Any such A matches the covariance (Gatys et al., equation 1); theirs is Σ_target^½ Σ^-½. This
    one moves colours least of all (Pitié and Kokaram, equation 20), and equals theirs where the
    two covariances have the same axes::

        A = Σ^-½ (Σ^½ Σ_target Σ^½)^½ Σ^-½

    Its eigenvalues are the growth of differences along its axes, and are held below ``STEEPEST``:
    a nearly gray picture does not get all of a colourful one's spread.
    """
    covariance = _power(covariance, 1, least=_LEAST_VARIANCE)
    root, inverse = _power(covariance, 0.5), _power(covariance, -0.5)
    return _power(inverse @ _power(root @ target @ root, 0.5) @ inverse, 1, most=STEEPEST)


def histogram_map(
    values: Values,
    target: Values,
    weights: Values | None = None,
    target_weights: Values | None = None,
) -> tuple[Values, Values]:
    """A monotone map by which values (n,) get, about, the histogram of others: its knots.

    h(x) = Q(F(x)) with F the share of values below x and Q the target's quantiles. Its slopes are
    smoothed and held between ``FLATTEST`` and ``STEEPER``, so that a smooth gradient stays one,
    and the whole is then scaled, within the same limit, to the target's mean and deviation.
    """
    target_mean, target_deviation = _spread(target, target_weights)
    lowest, highest = float(values.min()), float(values.max())
    if highest - lowest < 1e-3 or target_deviation < 1e-3:
        # Of one tone, or to become one: nothing to tell apart but the mean.
        return np.array([lowest, lowest + 1]), np.array([0.0, FLATTEST]) + target_mean
    knots = np.linspace(lowest, highest, _KNOTS + 1)
    wanted = _quantiles(_shares(values, weights, knots), target, target_weights)
    slopes = _smoothed(np.clip(np.diff(wanted) / np.diff(knots), FLATTEST, STEEPER))
    mapped = np.concatenate([[0.0], np.cumsum(slopes * np.diff(knots))])
    mean, deviation = _spread(np.interp(values, knots, mapped), weights)
    gain = min(target_deviation / deviation, STEEPER / float(slopes.max()))
    return knots, (mapped - mean) * gain + target_mean


def _seen(picture: Picture) -> tuple[Values, Values | None]:
    """Colours of a picture (n, 3) and how much each can be seen (n,); ``None`` for alike."""
    apart = math.ceil(math.sqrt(picture.width * picture.height / _SAMPLE))
    values = picture.rgb[::apart, ::apart].reshape(-1, 3).astype(np.float64)
    if picture.alpha is None:
        return values, None
    alpha = picture.alpha[::apart, ::apart].reshape(-1).astype(np.float64)
    seen = alpha > 0
    if not seen.any():
        return values, None
    return values[seen], alpha[seen]


def _lab(values: Values) -> Values:
    """L*, a* and b* of sRGB-encoded colours (n, 3)."""
    lab: Values = to_lab(values.astype(np.float32)[np.newaxis])[0].astype(np.float64)
    return lab


def _moments(values: Values, weights: Values | None) -> tuple[Values, Values]:
    mean = np.average(values, axis=0, weights=weights)
    return mean, np.cov(values.T, ddof=0, aweights=weights)


def _spread(values: Values, weights: Values | None) -> tuple[float, float]:
    mean = np.average(values, weights=weights)
    return float(mean), math.sqrt(np.average((values - mean) ** 2, weights=weights))


def _power(matrix: Values, power: float, *, least: float = 0.0, most: float = math.inf) -> Values:
    """A power of a symmetric matrix whose eigenvalues are first brought between two numbers."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    powered: Values = (vectors * np.clip(values, least, most) ** power) @ vectors.T
    return powered


def _shares(values: Values, weights: Values | None, at: Values) -> Values:
    """The share of values below each of ``at``, those equal to it counted half."""
    order = np.argsort(values)
    ordered = values[order]
    below = np.concatenate(
        [[0.0], np.cumsum(np.ones(len(values)) if weights is None else weights[order])]
    )
    first, last = np.searchsorted(ordered, at, "left"), np.searchsorted(ordered, at, "right")
    shares: Values = (below[first] + below[last]) / (2 * below[-1])
    return shares


def _quantiles(shares: Values, values: Values, weights: Values | None) -> Values:
    """The values below which lie the given shares of all."""
    order = np.argsort(values)
    each = np.ones(len(values)) if weights is None else weights[order]
    middle = np.cumsum(each) - each / 2
    return np.interp(shares, middle / each.sum(), values[order])


def _smoothed(slopes: Values) -> Values:
    reach = round(3 * _SMOOTH)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / _SMOOTH) ** 2)
    return np.convolve(np.pad(slopes, reach, "edge"), kernel / kernel.sum(), "valid")


def _interpolated(
    values: NDArray[np.float32], knots: Values, mapped: Values
) -> NDArray[np.float32]:
    """Values by a map's knots; beyond them it goes on as steeply as at its ends."""
    place = (values - knots[0]) / (knots[1] - knots[0])
    step = np.clip(place.astype(np.int64), 0, len(knots) - 2)
    between: Values = mapped[step] + (place - step) * np.diff(mapped)[step]
    return between.astype(np.float32)
