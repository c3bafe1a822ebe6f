"""Measure what a painted picture keeps of the photo, what it takes of the painting, and its faults.

No measure here is a loss that a program minimises. Pictures are height x width x 3 in 0..1, sRGB;
photo and result have equal size, and the painting about as many pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter, sobel, uniform_filter
from skimage.color import rgb2lab
from skimage.metrics import structural_similarity

from nstrt.runtime.ort.features import features
from nstrt.runtime.pictures import Picture

__all__ = ["UNSEEN_LAYERS", "Likeness", "Reference", "kept", "measure", "palette_distance"]

Pixels = NDArray[np.float32]

UNSEEN_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_2")
"""Layers of VGG19 that no program's loss reads."""

_PERIODS = (2, 4, 8)
"""Pixels between the lines of a woven grid: the strides of the first poolings."""

_DIRECTIONS, _QUANTILES = 64, 256
_FLAT, _STRONG = 0.3, 0.95
"""Quantiles of the photo's gradient below which it is flat, and above which an edge is strong."""


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """Measures of one picture."""

    kept: float
    """SSIM of the gradients of lightness, result and photo: 1 is the photo."""

    taken: float
    """1 less the distance of features to the painting over that of the photo: 1 is the painting."""

    palette: float
    """Sliced Wasserstein distance of colours to the painting, in CIE Lab; 0 is its palette."""

    grid: float
    """Height of spectral peaks at periods of 2, 4 and 8 pixels, over the painting's own."""

    grain: float
    """High-pass energy where the photo is flat, over the painting's own in its flattest parts."""

    halo: float
    """Overshoot of lightness beside the photo's strong edges, in units of L*."""

    border: float
    """Colour difference of the outer 4 pixels and the next 8, less the photo's, in units of Lab."""


class Reference:
    """Photo and painting, with the features that results are compared with."""

    def __init__(self, photo: Pixels, painting: Pixels) -> None:
        self.photo, self.painting = photo, painting
        self._art = _features(painting)
        self._distance = _feature_distance(_features(photo), self._art)

    def taken(self, result: Pixels) -> float:
        """See :class:`Likeness`."""
        return 1 - _feature_distance(_features(result), self._art) / self._distance


def measure(result: Pixels, reference: Reference) -> Likeness:
    """All measures of ``result``."""
    photo, painting = reference.photo, reference.painting
    return Likeness(
        kept=kept(result, photo),
        taken=reference.taken(result),
        palette=palette_distance(result, painting),
        grid=_grid(result) / _grid(painting),
        grain=_grain(result, photo) / _grain(painting, painting),
        halo=_overshoot(result, photo) - _overshoot(photo, photo),
        border=_border(result) - _border(photo),
    )


def kept(result: Pixels, photo: Pixels) -> float:
    """SSIM of the gradients of lightness: shapes count, colours and flat light do not."""
    one, other = (_gradient(_lightness(each)) for each in (result, photo))
    scale = float(np.quantile(other, 0.99)) or 1.0
    return float(structural_similarity(one / scale, other / scale, data_range=1.0))


def palette_distance(result: Pixels, painting: Pixels) -> float:
    """Sliced Wasserstein distance of two pictures' colours in CIE Lab."""
    one, other = (rgb2lab(each).reshape(-1, 3).T for each in (result, painting))
    return _sliced(one, other)


def _features(pixels: Pixels) -> Mapping[str, NDArray[np.float32]]:
    return features(Picture(rgb=np.ascontiguousarray(pixels)), UNSEEN_LAYERS, provider="cpu")


def _feature_distance(
    one: Mapping[str, NDArray[np.float32]], other: Mapping[str, NDArray[np.float32]]
) -> float:
    """Mean over layers of the sliced Wasserstein distance, in standard deviations of ``other``."""
    distances = []
    for layer in UNSEEN_LAYERS:
        a, b = (each[layer][0].reshape(each[layer].shape[1], -1) for each in (one, other))
        distances.append(_sliced(a, b) / float(b.std(axis=1).mean()))
    return float(np.mean(distances))


def _sliced(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Mean absolute difference of quantiles along random directions, of channels x positions."""
    generator = np.random.default_rng(0)
    directions = generator.standard_normal((_DIRECTIONS, len(one)))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    levels = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    a, b = (np.quantile(directions @ each, levels, axis=1) for each in (one, other))
    # A direction of unit length shares the distance out over the channels.
    return float(np.abs(a - b).mean() * np.sqrt(len(one)))


def _lightness(pixels: Pixels) -> NDArray[np.float64]:
    lightness: NDArray[np.float64] = rgb2lab(pixels)[..., 0].astype(np.float64)
    return lightness


def _gradient(lightness: NDArray[np.float64]) -> NDArray[np.float64]:
    gradient: NDArray[np.float64] = np.hypot(sobel(lightness, 0), sobel(lightness, 1))
    return gradient


def _grid(pixels: Pixels) -> float:
    """Largest peak of a period over its neighbours in the spectra of rows and of columns."""
    lightness, peaks = _lightness(pixels), []
    for axis in (0, 1):
        lines = np.moveaxis(lightness, axis, -1)
        length = lines.shape[1] // 8 * 8
        lines = lines[:, :length] - lines[:, :length].mean(1, keepdims=True)
        power = (np.abs(np.fft.rfft(lines * np.hanning(length))) ** 2).mean(0)
        for period in _PERIODS:
            peak = length // period
            near = np.r_[power[max(1, peak - 9) : peak - 2], power[peak + 3 : peak + 10]]
            peaks.append(power[peak - 1 : peak + 2].max() / np.median(near))
    return float(np.exp(np.mean(np.log(peaks))))


def _grain(pixels: Pixels, photo: Pixels) -> float:
    """Root mean square of the finest details where ``photo`` is flat, in units of Lab."""
    lab = rgb2lab(pixels)
    fine = lab - gaussian_filter(lab, (1, 1, 0))
    activity = uniform_filter(_gradient(_lightness(photo)), 9)
    flat = activity <= np.quantile(activity, _FLAT)
    return float(np.sqrt((fine[flat] ** 2).sum(1).mean()))


def _overshoot(pixels: Pixels, photo: Pixels) -> float:
    """Lightness 2 to 6 pixels beside strong edges, on their bright side, over that farther away."""
    base = gaussian_filter(_lightness(photo), 2)
    edges = _gradient(base)
    strong = edges >= np.quantile(edges, _STRONG)
    bright = base > gaussian_filter(base, 8)
    near = binary_dilation(strong, iterations=6) & ~binary_dilation(strong, iterations=2) & bright
    far = binary_dilation(strong, iterations=16) & ~binary_dilation(strong, iterations=9)
    light = _lightness(pixels)
    weights = gaussian_filter(far.astype(float), 8)
    around = gaussian_filter(np.where(far, light, 0.0), 8) / np.maximum(weights, 1e-6)
    where = near & (weights > 0.05)
    return float((light - around)[where].mean()) if where.any() else 0.0


def _border(pixels: Pixels) -> float:
    lab = rgb2lab(pixels)
    rows, columns = (np.minimum(np.arange(n), np.arange(n)[::-1]) for n in lab.shape[:2])
    depth = np.minimum(rows[:, None], columns)
    outer, next_ = lab[depth < 4], lab[(depth >= 4) & (depth < 12)]
    return float(np.linalg.norm(outer.mean(0) - next_.mean(0)))
