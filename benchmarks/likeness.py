"""Measure what a painted picture keeps of the photo, what it takes of the painting, and its faults.

No measure here is a loss that a program minimises. Pictures are height x width x 3 in 0..1, sRGB;
photo and result have equal size, and the painting about as many pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates, sobel, uniform_filter
from skimage.color import rgb2lab
from skimage.metrics import structural_similarity

from nstrt.runtime.ort.features import features
from nstrt.runtime.pictures import Picture

__all__ = ["UNSEEN_LAYERS", "Likeness", "Reference", "kept", "measure", "palette_distance"]

Pixels = NDArray[np.float32]

UNSEEN_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_2")
"""Layers of VGG19 that no program's loss reads."""

_WINDOW, _PERIOD = 32, 4
"""Pixels of the windows of spectra, and between the lines of a woven grid: two poolings."""

_DIRECTIONS, _QUANTILES = 64, 256
_FLAT, _STRONG = 0.3, 0.95
"""Quantiles of the photo's gradient below which it is flat, and above which an edge is strong."""

_EVEN = 4.0
"""Standard deviation of L* beside an edge below which the photo is flat there."""


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
    """Spectral power at a period of 4 pixels over that beside it, less what the pictures have."""

    grain: float
    """Finest colour differences where the photo is flat, over the painting's in its flat parts."""

    halo: float
    """Brightening beside edges, on their bright side where the photo is flat, in units of L*."""

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
        grid=_grid(result) - max(_grid(painting), _grid(photo)),
        grain=_grain(result, photo) / _grain(painting, painting),
        halo=_halo(result, photo),
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
    """Power at the period over that of neighbouring periods, by rows and by columns.

    The geometric mean over windows shows a faint pattern that is everywhere, as edges do not.
    """
    lightness, step = _lightness(pixels), _WINDOW // 4
    windows = sliding_window_view(lightness, (_WINDOW, _WINDOW))[::step, ::step]
    windows = windows.reshape(-1, _WINDOW, _WINDOW)
    taper = np.hanning(_WINDOW + 1)[:_WINDOW]
    windows = (windows - windows.mean((1, 2), keepdims=True)) * taper * taper[:, None]
    power = np.log(np.abs(np.fft.rfft2(windows)) ** 2 + 1e-3).mean(0)
    half, peak = _WINDOW // 2, _WINDOW // _PERIOD
    ratios = []
    for lines in (power[: half + 1], power[: half + 1].T):
        near = lines[[peak - 3, peak - 2, peak + 2, peak + 3]].mean()
        ratios.append(lines[peak].mean() - near)
    return float(np.exp(np.mean(ratios)))


def _grain(pixels: Pixels, photo: Pixels) -> float:
    """Root mean square of the finest differences of a* and b* where ``photo`` is flat."""
    chroma = rgb2lab(pixels)[..., 1:]
    fine = chroma - gaussian_filter(chroma, (1, 1, 0))
    activity = uniform_filter(_gradient(_lightness(photo)), 9)
    flat = activity <= np.quantile(activity, _FLAT)
    return float(np.sqrt((fine[flat] ** 2).sum(1).mean()))


def _halo(pixels: Pixels, photo: Pixels) -> float:
    """Lightness 2 to 5 pixels beside strong edges over that 6 to 12 pixels away."""
    base = gaussian_filter(_lightness(photo), 1)
    slopes = np.stack([sobel(base, 0), sobel(base, 1)])
    steep = np.hypot(*slopes)
    rows, columns = np.nonzero(steep >= np.quantile(steep, _STRONG))
    normal = slopes[:, rows, columns] / steep[rows, columns]
    places = np.stack([rows, columns])[:, :, None] + normal[:, :, None] * np.arange(2, 13)
    before, after = (
        map_coordinates(_lightness(each), places, order=1, mode="nearest")
        for each in (photo, pixels)
    )
    flat = before.std(axis=1) < _EVEN
    rise = after[flat, :4].mean(1) - after[flat, 4:].mean(1)
    return float(np.median(rise)) if flat.any() else 0.0


def _border(pixels: Pixels) -> float:
    lab = rgb2lab(pixels)
    rows, columns = (np.minimum(np.arange(n), np.arange(n)[::-1]) for n in lab.shape[:2])
    depth = np.minimum(rows[:, None], columns)
    outer, next_ = lab[depth < 4], lab[(depth >= 4) & (depth < 12)]
    return float(np.linalg.norm(outer.mean(0) - next_.mean(0)))
