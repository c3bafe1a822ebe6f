"""Optical flow: warping, the consistency of the published equations, and moving scenes."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from nstrt.runtime import PackageMissingError
from nstrt.runtime.video.optical_flow import (
    check_opencv,
    consistency,
    dense_flow,
    warp,
    warp_previous,
)

from support.films import PAN, needs_opencv, pan


def test_warp_samples_values_along_the_flow() -> None:
    values = np.random.default_rng(0).random((9, 12, 3), np.float32)
    flow = np.zeros((9, 12, 2), np.float32)
    assert np.array_equal(warp(values, flow), values)
    flow[..., 0], flow[..., 1] = 2, -1
    warped = warp(values, flow)
    assert np.allclose(warped[1:, :-2], values[:-1, 2:])
    # Beyond the border, the border is repeated.
    assert np.allclose(warped[0, :-2], values[0, 2:])
    flow[..., 0], flow[..., 1] = 0.25, 0
    between = 0.75 * values[:, :-1] + 0.25 * values[:, 1:]
    assert np.allclose(warp(values, flow)[:, :-1], between, atol=1e-6)
    assert warp(values[..., 0], flow).shape == (9, 12)


def test_consistency_is_that_of_the_equations() -> None:
    """Ruder, Dosovitskiy and Brox (2016), section 4.3, pixel by pixel."""
    random = np.random.default_rng(1)
    height, width = 12, 15
    smooth = np.linspace(-1, 1, width)[None, :, None] * np.ones((height, 1, 2))
    backward = (smooth * 0.3 + 0.02 * random.standard_normal((height, width, 2))).astype(np.float32)
    forward = (-backward + 0.6 * random.standard_normal(backward.shape)).astype(np.float32)
    backward[4:8, 5:9] += 2
    warped = warp(forward, backward)
    expected = np.ones((height, width))
    slopes = [np.gradient(backward[..., c].astype(float), axis=a) for c in (0, 1) for a in (0, 1)]
    for y in range(height):
        for x in range(width):
            w, v = warped[y, x].astype(float), backward[y, x].astype(float)
            if ((w + v) ** 2).sum() > 0.01 * ((w**2).sum() + (v**2).sum()) + 0.5:
                expected[y, x] = 0
            if sum(slope[y, x] ** 2 for slope in slopes) > 0.01 * (v**2).sum() + 0.002:
                expected[y, x] = 0
            if not (0 <= x + v[0] <= width - 1 and 0 <= y + v[1] <= height - 1):
                expected[y, x] = 0
    weight = consistency(forward, backward)
    assert np.array_equal(weight, expected)
    assert 0 < weight.mean() < 1


@needs_opencv
def test_the_flow_of_a_pan_is_consistent_except_where_pixels_come_in() -> None:
    before, now = pan(2)
    flow = dense_flow(now, before)
    inner = flow[8:-8, 8:-16]
    assert np.abs(np.median(inner[..., 0]) - PAN) < 0.5
    assert np.abs(np.median(inner[..., 1])) < 0.5
    target = warp_previous(before, before, now)
    # The pixels at the right border were not in the frame before.
    assert target.weight[:, -1].mean() < 0.2
    assert target.weight[8:-8, 8:-16].mean() > 0.7
    mask = target.weight > 0
    assert np.abs(target.warped - now)[mask].mean() < 0.5 * np.abs(before - now)[mask].mean()


@needs_opencv
def test_disoccluded_pixels_are_not_consistent() -> None:
    random = np.random.default_rng(3)
    background = Image.fromarray(random.integers(0, 255, (32, 48, 3), dtype=np.uint8))
    block = Image.fromarray(random.integers(0, 255, (12, 12, 3), dtype=np.uint8))
    frames = []
    for x in (30, 40):
        frame = background.resize((144, 96), Image.Resampling.BICUBIC)
        frame.paste(block.resize((36, 36), Image.Resampling.BICUBIC), (x, 30))
        frames.append(np.asarray(frame, np.float32) / 255)
    weight = warp_previous(frames[0], *frames).weight
    disoccluded, still = weight[34:62, 31:38], weight[5:20]
    # The limits are wide: flow is not exact at edges.
    assert still.mean() > 0.9
    assert disoccluded.mean() < 0.7


def test_a_missing_opencv_is_an_error_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(PackageMissingError, match=r"nstrt\[video\]"):
        check_opencv()
