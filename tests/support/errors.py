"""Distance of an array from the expected one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["relative_error"]


def relative_error(actual: Any, expected: Any) -> float:
    """||actual - expected|| / ||expected|| in double precision, of NumPy arrays or torch tensors.

    The error is absolute if all expected values are zero.
    """
    result, reference = _double(actual), _double(expected)
    return float(np.linalg.norm(result - reference)) / (float(np.linalg.norm(reference)) or 1.0)


def _double(values: Any) -> NDArray[np.float64]:
    plain = values.detach().double().numpy() if hasattr(values, "detach") else values
    return np.asarray(plain, np.float64).ravel()
