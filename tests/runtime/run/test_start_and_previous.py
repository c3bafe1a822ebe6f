"""Runs with a start picture, and with the painting of a film's previous frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nstrt.runtime import OptionError, Result, Step, StyleTransfer, StylizeOptions
from nstrt.runtime.errors import CheckpointError
from nstrt.runtime.pictures import Picture, to_gray
from nstrt.runtime.run.inputs import PreviousFrame

from support import CAT, NIGHT
from support.films import pan

OPTIONS = {"size": 64, "scales": 1, "engine": "onnx", "precision": "fp32"}


@pytest.mark.parametrize("engine", ["torch", "onnx", "graph"])
def test_the_temporal_loss_pulls_to_the_previous_frame_where_it_has_weight(engine: str) -> None:
    photo = pan(1, (64, 48))[0]
    weight = np.zeros((48, 64), np.float32)
    weight[:, :32] = 1
    previous = PreviousFrame(warped=np.ascontiguousarray(photo[::-1]), weight=weight)
    options = StylizeOptions.of(
        **{**OPTIONS, "engine": engine, "iterations": 20}, temporal_weight=300
    )
    transfer = StyleTransfer(options)
    pulled = transfer.run(photo, NIGHT, previous=previous).result()
    free = transfer.run(photo, NIGHT).result()

    def distance(result: Result, columns: slice) -> float:
        difference = result.picture.rgb[:, columns] - previous.warped[:, columns]
        return float(np.square(difference).mean())

    assert distance(pulled, slice(0, 32)) < 0.1 * distance(free, slice(0, 32))
    assert distance(pulled, slice(40, 64)) > 0.7 * distance(free, slice(40, 64))
    assert free.terms.temporal == 0
    # The reported loss is that of the result, but for its clipping.
    assert pulled.terms.temporal == pytest.approx(distance(pulled, slice(0, 32)) / 2, rel=1e-3)
    losses = pulled.recipe["losses"]
    assert losses["temporal"] == pulled.terms.temporal
    expected = options.effective_content_weight * losses["content"] + losses["style"] + losses["tv"]
    assert losses["loss"] == pytest.approx(expected + 300 * losses["temporal"], rel=1e-5)


def test_a_checkpoint_resumes_only_with_an_equal_previous_frame(tmp_path: Path) -> None:
    photo = pan(1, (64, 48))[0]
    first, second = (
        PreviousFrame(warped=photo, weight=np.full((48, 64), weight, np.float32))
        for weight in (1, 0.5)
    )
    transfer = StyleTransfer(StylizeOptions.of(**OPTIONS, iterations=3))
    file = tmp_path / "checkpoint"
    run = transfer.run(photo, NIGHT, previous=first, checkpoint=file, checkpoint_seconds=0)
    for event in run:
        if isinstance(event, Step):
            run.stop()
    with pytest.raises(CheckpointError, match="frame before"):
        transfer.run(photo, NIGHT, previous=second, checkpoint=file, resume=True).result()
    transfer.run(photo, NIGHT, previous=first, checkpoint=file, resume=True).result()


def test_a_previous_frame_needs_one_weight_per_pixel() -> None:
    with pytest.raises(OptionError, match="height x width"):
        PreviousFrame(warped=np.zeros((4, 5, 3), np.float32), weight=np.zeros((5, 4), np.float32))


def test_a_run_starts_from_the_start_picture() -> None:
    transfer = StyleTransfer(StylizeOptions.of(**OPTIONS, iterations=1))
    start = pan(1, (64, 48))[0][::-1].copy()
    run = transfer.run(CAT, NIGHT, start=start)
    first = next(event for event in run if isinstance(event, Step))
    # The best picture of the first step is the start itself, in the photo's shape.
    resized = np.asarray(Image.fromarray((255 * start).astype(np.uint8)).resize((64, 43)), float)
    assert np.abs(255 * first.picture() - resized).mean() < 3
    result = run.result()
    assert result.recipe["init"]["name"] == ""
    assert result.recipe["options"]["init"] == "content"


def test_color_content_starts_from_the_grays_of_the_start_picture() -> None:
    """A coloured start and its own grays have equal losses."""
    transfer = StyleTransfer(StylizeOptions.of(**OPTIONS, iterations=1, color="content"))
    colored = Picture(rgb=pan(1, (64, 43))[0])
    losses = []
    for start in (colored, to_gray(colored), Picture(rgb=colored.rgb[::-1].copy())):
        run = transfer.run(CAT, NIGHT, start=start)
        losses.append(next(event.terms for event in run if isinstance(event, Step)).loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0] != pytest.approx(losses[2], rel=1e-3)
