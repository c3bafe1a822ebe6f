"""Optical flow between two frames by OpenCV, its consistency, and warping along it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.run.inputs import PreviousFrame
from nstrt.runtime.system.memory import import_failure

__all__ = ["check_opencv", "consistency", "dense_flow", "warp", "warp_previous"]

Flow = NDArray[np.float32]
"""height x width x 2: the displacement of each pixel to the right and down, in pixels."""


def warp_previous(
    painting: NDArray[np.float32], before: NDArray[np.float32], now: NDArray[np.float32]
) -> PreviousFrame:
    """The painting of the frame ``before``, warped to the frame ``now``.

    All three are height x width x 3 in 0..1, of one size.
    """
    backward = dense_flow(now, before)
    return PreviousFrame(
        warped=warp(painting, backward), weight=consistency(dense_flow(before, now), backward)
    )


def check_opencv() -> None:
    """Raise :class:`PackageMissingError` if OpenCV is not installed."""
    _cv2()


def dense_flow(source: NDArray[np.float32], target: NDArray[np.float32]) -> Flow:
    """The displacement of each pixel of ``source`` in ``target``; height x width x 3 in 0..1.

    DIS flow: Kroeger, Timofte, Dai and Van Gool, "Fast Optical Flow using Dense Inverse Search",
    2016.
    """
    cv2 = _cv2()
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    gray = [
        cv2.cvtColor(np.rint(255 * np.clip(rgb, 0, 1)).astype(np.uint8), cv2.COLOR_RGB2GRAY)
        for rgb in (source, target)
    ]
    flow: Flow = np.asarray(dis.calc(*gray, None), np.float32)
    return flow


def warp(values: NDArray[np.float32], flow: Flow) -> NDArray[np.float32]:
    """``values`` (height x width, or x channels) sampled along ``flow``.

    out(x) = values(x + flow(x)), bilinear between pixels. Beyond the border, the values of the
    border are repeated.
    """
    # cv2.remap would change the pixels of films: OpenCV 4 rounds positions to 1/32 pixel, and the
    # results of OpenCV 5 differ in the last bits.
    height, width = flow.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x = np.clip(x + flow[..., 0], 0, values.shape[1] - 1)
    y = np.clip(y + flow[..., 1], 0, values.shape[0] - 1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right = np.minimum(left + 1, values.shape[1] - 1)
    bottom = np.minimum(top + 1, values.shape[0] - 1)
    across, down = x - left, y - top
    if values.ndim == 3:
        across, down = across[..., None], down[..., None]
    upper = (1 - across) * values[top, left] + across * values[top, right]
    lower = (1 - across) * values[bottom, left] + across * values[bottom, right]
    warped: NDArray[np.float32] = ((1 - down) * upper + down * lower).astype(np.float32)
    return warped


def consistency(forward: Flow, backward: Flow) -> NDArray[np.float32]:
    """The weight c of Ruder, Dosovitskiy and Brox (2016), section 4.3: height x width, 0 or 1.

    ``forward`` leads from the earlier frame to the later one, ``backward`` from the later one to
    the earlier. c belongs to the later frame; it is 0 where ``backward`` is not reliable.

    With w~(x) = w(x + w^(x)), the forward flow warped to the later frame, a pixel is disoccluded
    where (equation 5)::

        |w~ + w^|^2 > 0.01 (|w~|^2 + |w^|^2) + 0.5

    and lies on a motion boundary where (equation 6)::

        |grad u^|^2 + |grad v^|^2 > 0.01 |w^|^2 + 0.002

    c is also 0 where a pixel comes from beyond the border of the earlier frame.
    """
    height, width = backward.shape[:2]
    warped = warp(forward, backward)
    disoccluded = _squared(warped + backward) > 0.01 * (_squared(warped) + _squared(backward)) + 0.5
    slopes = np.zeros((height, width), np.float32)
    for channel in range(2):
        for axis in (0, 1):
            slopes += np.square(np.gradient(backward[..., channel], axis=axis))
    boundary = slopes > 0.01 * _squared(backward) + 0.002
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x + backward[..., 0], y + backward[..., 1]
    outside = (x < 0) | (y < 0) | (x > width - 1) | (y > height - 1)
    weight: NDArray[np.float32] = (~(disoccluded | boundary | outside)).astype(np.float32)
    return weight


def _squared(flow: Flow) -> NDArray[np.float32]:
    """Squared length of each displacement."""
    lengths: NDArray[np.float32] = np.square(flow).sum(axis=-1)
    return lengths


def _cv2() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise import_failure(
            error, 'Frames are followed with OpenCV; install it with: pip install "nstrt[video]".'
        ) from error
    return cv2
