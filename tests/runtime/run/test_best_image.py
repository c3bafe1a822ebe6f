"""The test that ends a scale, and the image that it leaves."""

from __future__ import annotations

import math

import pytest

from nstrt.runtime.run.best_image import LossStall


@pytest.mark.parametrize(
    ("losses", "reached"),
    [
        ([1.0] * 10, False),
        ([1.0] * 11, True),
        ([0.9**step for step in range(30)], False),
        ([1.0] * 5 + [math.nan] * 6, True),
        ([math.nan] * 11, True),
    ],
    ids=["too-few", "flat", "falling", "becomes-nan", "nan"],
)
def test_a_loss_stalls_after_ten_steps_without_gain(losses: list[float], reached: bool) -> None:
    stall = LossStall(0.002)
    assert [stall.reached(loss) for loss in losses][-1] is reached


def test_no_tolerance_never_stalls() -> None:
    stall = LossStall(0.0)
    assert not any(stall.reached(1.0) for _ in range(50))
