"""Gray pictures, whose three channels are equal to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["gray_like", "is_gray", "keep_gray"]

_ROUNDING = 64
"""Largest difference between channels, in 65535ths, that converting a gray causes.

It is a quarter of one of 255 levels; two steps through tables round up to 24."""


def is_gray(values: NDArray[Any]) -> bool:
    """Return True if all channels of (..., channels) are equal."""
    first = values[..., 0]
    return all(np.array_equal(first, values[..., other]) for other in range(1, values.shape[-1]))


def gray_like(rgb: NDArray[Any]) -> NDArray[Any]:
    """Return the second channel, green, in place of all three."""
    return np.repeat(rgb[..., 1:2], 3, axis=2)


def keep_gray(
    converted: NDArray[Any], samples: NDArray[Any], visible: NDArray[np.bool_] | None = None
) -> NDArray[Any]:
    """Undo the tints that converting gray ``samples`` to 16-bit sRGB causes by rounding.

    Pixels that are not ``visible`` do not count.
    """
    if converted is samples or converted.shape[2] != 3:
        return converted
    seen = ... if visible is None else visible
    if not is_gray(samples[seen]):
        return converted
    spread = np.ptp(converted[seen], axis=-1).max(initial=0)
    return gray_like(converted) if spread <= _ROUNDING else converted
