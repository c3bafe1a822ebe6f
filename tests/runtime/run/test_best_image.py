"""The test that ends a scale, and the image that it leaves."""

from __future__ import annotations

import gc
import math
import weakref
from typing import Any

import pytest

from nstrt.runtime import StyleTransfer, StylizeOptions
from nstrt.runtime.run import optimize
from nstrt.runtime.run.best_image import BestImage, LossStall

from support import CAT, NIGHT


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


def test_a_finished_run_holds_no_images_of_the_optimiser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its object may live on, in a host, while the next run needs the memory."""
    images: list[weakref.ref[BestImage]] = []

    def recorded(**options: Any) -> BestImage:
        image = BestImage(**options)
        images.append(weakref.ref(image))
        return image

    monkeypatch.setattr(optimize, "BestImage", recorded)
    options = StylizeOptions.of(size=48, scales=1, iterations=2, engine="onnx", precision="fp32")
    run = StyleTransfer(options).run(CAT, NIGHT)
    run.result()
    gc.collect()
    assert images
    assert not any(image() for image in images)
    assert run.painting
