"""Measure visible faults: a frame around the picture, and colored noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["border_ratio", "chroma_noise", "chroma_noise_ratio"]

BAND = 8
"""Width in pixels of the border band."""

# Chroma rows of the matrix from sRGB to YCbCr (BT.601).
_BLUE = np.array([-0.168736, -0.331264, 0.5], np.float32)
_RED = np.array([0.5, -0.418688, -0.081312], np.float32)


def border_ratio(result: NDArray[np.float32], photo: NDArray[np.float32]) -> float:
    """Compare the activity of the outer 8 pixels with the inside, relative to the photo.

    Activity is the mean absolute difference of neighbouring pixels. A ratio far above 1 indicates a
    frame. Both pictures are height x width x 3 in 0..1, of equal size.
    """
    return _band_over_inside(result) / _band_over_inside(photo)


def chroma_noise(picture: NDArray[np.float32]) -> float:
    """Return the root mean square of Cb and Cr minus their 3 x 3 means."""
    total = 0.0
    for axis in (_BLUE, _RED):
        channel = picture @ axis
        total += float(np.mean((channel - _mean3(channel))[1:-1, 1:-1] ** 2))
    return float(np.sqrt(total))


def chroma_noise_ratio(result: NDArray[np.float32], photo: NDArray[np.float32]) -> float:
    """Return the ratio of :func:`chroma_noise` of result and photo, of equal size."""
    return chroma_noise(result) / max(chroma_noise(photo), 1e-6)


def _band_over_inside(picture: NDArray[np.float32]) -> float:
    right = np.abs(np.diff(picture, axis=1)).mean(axis=2)[:-1]
    below = np.abs(np.diff(picture, axis=0)).mean(axis=2)[:, :-1]
    activity = right + below
    inside = np.zeros(activity.shape, bool)
    inside[BAND:-BAND, BAND:-BAND] = True
    return float(activity[~inside].mean() / max(activity[inside].mean(), 1e-9))


def _mean3(channel: NDArray[np.float32]) -> NDArray[np.float32]:
    padded = np.pad(channel, 1, mode="edge")
    height, width = channel.shape
    shifted = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return np.mean(shifted, axis=0, dtype=np.float32)
