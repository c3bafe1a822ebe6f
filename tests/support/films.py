"""Frames for the tests of films."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from PIL import Image

from support import CAT

needs_opencv = pytest.mark.skipif(
    importlib.util.find_spec("cv2") is None, reason="OpenCV is not installed"
)

PAN = 3
"""Camera movement from frame to frame, in pixels to the right."""


def pan(count: int, size: tuple[int, int] = (96, 64)) -> list[np.ndarray]:
    """Frames of a pan over a photo: height x width x 3 in 0..1, for a ``size`` (width, height)."""
    photo = Image.open(CAT).convert("RGB").resize((192, 126), Image.Resampling.LANCZOS)
    whole = np.asarray(photo, np.float32) / 255
    width, height = size
    return [
        np.ascontiguousarray(whole[20 : 20 + height, 30 + PAN * n : 30 + PAN * n + width])
        for n in range(count)
    ]
