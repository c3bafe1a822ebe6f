"""How far apart two pictures' colours look: CIE76."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.pictures.values import quantize
from nstrt.runtime.pictures.vips import from_samples, to_samples

__all__ = ["delta_e"]


def delta_e(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Delta E*ab of 1976 at each pixel, for two pictures of (height, width, 3) sRGB in 0..1.

    The Euclidean distance in CIE L*a*b*; 2.3 is just noticeable (Mahy, Van Eycken and Oosterlinck,
    1994).
    """
    found = to_samples(_lab(a).dE76(_lab(b)))
    assert found is not None
    return np.ascontiguousarray(found[..., 0], np.float32)


def _lab(rgb: NDArray[np.float32]) -> Any:
    samples = np.empty(rgb.shape, np.uint16)
    quantize(rgb, samples)
    return from_samples(samples, "rgb16").colourspace("lab")
