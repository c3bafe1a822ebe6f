"""Optical flow between two frames, by OpenCV, and where it can be trusted; what it moves along."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.errors import PackageMissingError
from nstrt.runtime.run.inputs import PreviousFrame

__all__ = ["check_flow", "consistency", "dense_flow", "moved", "warped"]

Flow = NDArray[np.float32]
"""height x width x 2: how far each pixel moves to the right and down, in pixels."""


def moved(
    painted: NDArray[np.float32], before: NDArray[np.float32], now: NDArray[np.float32]
) -> PreviousFrame:
    """The painting of the frame ``before`` as the frame ``now`` shows it; all of one size,
    height x width x 3 in 0..1."""
    backward = dense_flow(now, before)
    return PreviousFrame(
        warped=warped(painted, backward), weight=consistency(dense_flow(before, now), backward)
    )


def check_flow() -> None:
    """Raise :class:`PackageMissingError` where there is no OpenCV."""
    _cv2()


def dense_flow(source: NDArray[np.float32], target: NDArray[np.float32]) -> Flow:
    """Where each pixel of ``source`` is in ``target``; both height x width x 3 in 0..1.

    DIS flow: Kroeger, Timofte, Dai and Van Gool, "Fast Optical Flow using Dense Inverse Search",
    2016.
    """
    cv2 = _cv2()
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    gray = [
        cv2.cvtColor(np.rint(255 * np.clip(rgb, 0, 1)).astype(np.uint8), cv2.COLOR_RGB2GRAY)
        for rgb in (source, target)
    ]
    found: Flow = np.asarray(flow.calc(*gray, None), np.float32)
    return found


def warped(values: NDArray[np.float32], flow: Flow) -> NDArray[np.float32]:
    """``values`` (height x width, or x channels) taken from where ``flow`` points: out(x) =
    values(x + flow(x)).

    Bilinear between pixels; beyond the border, the border's own values.
    """
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
    found: NDArray[np.float32] = ((1 - down) * upper + down * lower).astype(np.float32)
    return found


def consistency(forward: Flow, backward: Flow) -> NDArray[np.float32]:
    """c of Ruder, Dosovitskiy and Brox ("Artistic Style Transfer for Videos", 2016, section 4.3):
    height x width, 1 where ``backward`` can be trusted and 0 elsewhere.

    ``forward`` leads from the earlier frame to the later, ``backward`` from the later to the
    earlier, whose pixels the result is about. With w~(x) = w(x + w^(x)) the forward flow seen from
    the later frame, pixels were hidden before where (equation 5)::

        |w~ + w^|^2 > 0.01 (|w~|^2 + |w^|^2) + 0.5

    and lie at a motion boundary where (equation 6)::

        |grad u^|^2 + |grad v^|^2 > 0.01 |w^|^2 + 0.002

    Pixels that come from beyond the earlier frame's border cannot be trusted either.
    """
    height, width = backward.shape[:2]
    seen = warped(forward, backward)
    hidden = _squared(seen + backward) > 0.01 * (_squared(seen) + _squared(backward)) + 0.5
    slopes = np.zeros((height, width), np.float32)
    for channel in range(2):
        for axis in (0, 1):
            slopes += np.square(np.gradient(backward[..., channel], axis=axis))
    boundary = slopes > 0.01 * _squared(backward) + 0.002
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x + backward[..., 0], y + backward[..., 1]
    outside = (x < 0) | (y < 0) | (x > width - 1) | (y > height - 1)
    trusted: NDArray[np.float32] = (~(hidden | boundary | outside)).astype(np.float32)
    return trusted


def _squared(flow: Flow) -> NDArray[np.float32]:
    found: NDArray[np.float32] = np.square(flow).sum(axis=-1)
    return found


def _cv2() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise PackageMissingError(
            'Frames are followed with OpenCV; install it with: pip install "nstrt[video]".'
        ) from error
    return cv2
