"""CIE76 colour difference of two pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.pictures.colors.lab import STRIP_PIXELS, to_lab
from nstrt.runtime.pictures.values import row_strips

__all__ = ["delta_e"]


def delta_e(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return delta E*ab (1976) of each pixel for two (height, width, 3) arrays of sRGB in 0..1.

    Delta E*ab is the Euclidean distance in CIE L*a*b*; 2.3 is just noticeable (Mahy, Van Eycken
    and Oosterlinck, 1994).
    """
    height, width = a.shape[:2]
    distances = np.empty((height, width), np.float32)
    for rows in row_strips(height, width, pixels=STRIP_PIXELS):
        difference = to_lab(np.clip(a[rows], 0, 1)) - to_lab(np.clip(b[rows], 0, 1))
        distances[rows] = np.linalg.norm(difference, axis=-1)
    return distances
