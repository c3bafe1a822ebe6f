"""Frames of a film: flow is checked as published, and paintings keep to what they show."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nstrt.plugins.cli.app import run
from nstrt.runtime import (
    OptionError,
    PackageMissingError,
    Result,
    Step,
    StyleTransfer,
    StylizeOptions,
)
from nstrt.runtime.errors import CheckpointError
from nstrt.runtime.loss.temporal import TemporalLoss
from nstrt.runtime.loss.terms import LossTerms
from nstrt.runtime.pictures import Picture, gray
from nstrt.runtime.run.inputs import PreviousFrame
from nstrt.runtime.video.frames import FilmPainter, flicker, frame_options
from nstrt.runtime.video.optical_flow import check_flow, consistency, dense_flow, moved, warped

from support import EXAMPLES

CAT, NIGHT = EXAMPLES / "cat.jpg", EXAMPLES / "night.jpg"
SMALL = {"size": 96, "scales": 1, "iterations": 8, "engine": "onnx", "precision": "fp32"}
FLAGS = ["--size", "64", "--scales", "1", "--iterations", "2", "--engine", "onnx"]

needs_opencv = pytest.mark.skipif(
    importlib.util.find_spec("cv2") is None, reason="OpenCV is not installed"
)

PAN = 3
"""Pixels that the camera moves from frame to frame."""


def pan(count: int, size: tuple[int, int] = (96, 64)) -> list[np.ndarray]:
    """A camera that moves to the right over a photo: height x width x 3 in 0..1."""
    photo = Image.open(CAT).convert("RGB").resize((192, 126), Image.Resampling.LANCZOS)
    whole = np.asarray(photo, np.float32) / 255
    width, height = size
    return [
        np.ascontiguousarray(whole[20 : 20 + height, 30 + PAN * n : 30 + PAN * n + width])
        for n in range(count)
    ]


def test_warping_takes_values_from_where_the_flow_points() -> None:
    values = np.random.default_rng(0).random((9, 12, 3), np.float32)
    flow = np.zeros((9, 12, 2), np.float32)
    assert np.array_equal(warped(values, flow), values)
    flow[..., 0], flow[..., 1] = 2, -1
    found = warped(values, flow)
    assert np.allclose(found[1:, :-2], values[:-1, 2:])
    # Beyond the border, the border.
    assert np.allclose(found[0, :-2], values[0, 2:])
    flow[..., 0], flow[..., 1] = 0.25, 0
    between = 0.75 * values[:, :-1] + 0.25 * values[:, 1:]
    assert np.allclose(warped(values, flow)[:, :-1], between, atol=1e-6)
    assert warped(values[..., 0], flow).shape == (9, 12)


def test_consistency_is_that_of_the_equations() -> None:
    """Ruder, Dosovitskiy and Brox (2016), section 4.3, written out pixel by pixel."""
    random = np.random.default_rng(1)
    height, width = 12, 15
    smooth = np.linspace(-1, 1, width)[None, :, None] * np.ones((height, 1, 2))
    backward = (smooth * 0.3 + 0.02 * random.standard_normal((height, width, 2))).astype(np.float32)
    forward = (-backward + 0.6 * random.standard_normal(backward.shape)).astype(np.float32)
    backward[4:8, 5:9] += 2
    seen = warped(forward, backward)
    expected = np.ones((height, width))
    slopes = [np.gradient(backward[..., c].astype(float), axis=a) for c in (0, 1) for a in (0, 1)]
    for y in range(height):
        for x in range(width):
            w, v = seen[y, x].astype(float), backward[y, x].astype(float)
            if ((w + v) ** 2).sum() > 0.01 * ((w**2).sum() + (v**2).sum()) + 0.5:
                expected[y, x] = 0
            if sum(slope[y, x] ** 2 for slope in slopes) > 0.01 * (v**2).sum() + 0.002:
                expected[y, x] = 0
            if not (0 <= x + v[0] <= width - 1 and 0 <= y + v[1] <= height - 1):
                expected[y, x] = 0
    found = consistency(forward, backward)
    assert np.array_equal(found, expected)
    assert 0 < found.mean() < 1


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_the_temporal_loss_is_the_weighted_mean_square(kind: str) -> None:
    """Against a loop in double precision, and the gradient against differences of it."""
    random = np.random.default_rng(2)
    image, target = (random.random((1, 3, 5, 7)) for _ in range(2))
    trust = random.random((5, 7)) * (random.random((5, 7)) > 0.3)

    def loop(x: np.ndarray) -> float:
        places = np.ndindex(3, 5, 7)
        total = sum(trust[p[1:]] * (x[0][p] - target[0][p]) ** 2 for p in places)
        return float(total / x.size)

    place = torch.tensor if kind == "torch" else np.array
    held = TemporalLoss(weight=3.0, target=place(target), root=place(np.sqrt(trust)))
    before = random.random(image.shape)
    gradient = place(before)
    given = LossTerms(loss=0.5, content=0.1, style=0.2, tv=0.3)
    terms = held.added(given, place(image), gradient)
    assert terms.temporal == pytest.approx(loop(image), rel=1e-9)
    assert terms == replace(given, loss=0.5 + 3 * terms.temporal, temporal=terms.temporal)
    assert held.added(given, place(image)) == terms
    for index in [(0, 0, 1, 2), (0, 1, 4, 6), (0, 2, 0, 0)]:
        step = np.zeros(image.shape)
        step[index] = 1e-4
        slope = 3 * (loop(image + step) - loop(image - step)) / 2e-4
        assert float(gradient[index]) - before[index] == pytest.approx(slope, abs=1e-8)


@pytest.mark.parametrize("engine", ["torch", "onnx", "graph"])
def test_a_run_is_held_to_the_painting_of_the_frame_before(engine: str, tmp_path: Path) -> None:
    """Where it is trusted, and nowhere else, with any engine."""
    photo = pan(1, (64, 48))[0]
    weight = np.zeros((48, 64), np.float32)
    weight[:, :32] = 1
    target = PreviousFrame(warped=np.ascontiguousarray(photo[::-1]), weight=weight)
    options = StylizeOptions.of(
        **{**SMALL, "size": 64, "engine": engine, "iterations": 5}, temporal_weight=300
    )
    transfer = StyleTransfer(options)
    held = transfer.run(photo, NIGHT, moved=target).result()
    free = transfer.run(photo, NIGHT).result()

    def distance(result: Result, columns: slice) -> float:
        difference = result.picture.rgb[:, columns] - target.warped[:, columns]
        return float(np.square(difference).mean())

    assert distance(held, slice(0, 32)) < 0.1 * distance(free, slice(0, 32))
    assert distance(held, slice(40, 64)) > 0.7 * distance(free, slice(40, 64))
    assert free.terms.temporal == 0
    # The picture kept is the one whose loss is told, up to its clipping.
    assert held.terms.temporal == pytest.approx(distance(held, slice(0, 32)) / 2, rel=1e-3)
    losses = held.recipe["losses"]
    assert losses["temporal"] == held.terms.temporal
    expected = options.effective_content_weight * losses["content"] + losses["style"] + losses["tv"]
    assert losses["loss"] == pytest.approx(expected + 300 * losses["temporal"], rel=1e-5)


def test_a_checkpoint_is_of_its_frame_before(tmp_path: Path) -> None:
    photo = pan(1, (64, 48))[0]
    targets = [
        PreviousFrame(warped=photo, weight=np.full((48, 64), weight, np.float32))
        for weight in (1, 0.5)
    ]
    transfer = StyleTransfer(StylizeOptions.of(**{**SMALL, "size": 64, "iterations": 3}))
    file = tmp_path / "checkpoint"
    run_ = transfer.run(photo, NIGHT, moved=targets[0], checkpoint=file, checkpoint_seconds=0)
    for event in run_:
        if isinstance(event, Step):
            run_.stop()
    with pytest.raises(CheckpointError, match="frame before"):
        transfer.run(photo, NIGHT, moved=targets[1], checkpoint=file, resume=True).result()
    transfer.run(photo, NIGHT, moved=targets[0], checkpoint=file, resume=True).result()


def test_a_painting_moved_along_has_one_weight_for_each_pixel() -> None:
    with pytest.raises(OptionError, match="height x width"):
        PreviousFrame(warped=np.zeros((4, 5, 3), np.float32), weight=np.zeros((5, 4), np.float32))


@needs_opencv
def test_a_pan_is_followed_and_what_comes_in_is_not_trusted() -> None:
    before, now = pan(2)
    flow = dense_flow(now, before)
    inside = flow[8:-8, 8:-16]
    assert np.abs(np.median(inside[..., 0]) - PAN) < 0.5
    assert np.abs(np.median(inside[..., 1])) < 0.5
    target = moved(before, before, now)
    # What comes in at the right was not there before.
    assert target.weight[:, -1].mean() < 0.2
    assert target.weight[8:-8, 8:-16].mean() > 0.7
    trusted = target.weight > 0
    assert np.abs(target.warped - now)[trusted].mean() < 0.5 * np.abs(before - now)[trusted].mean()


@needs_opencv
def test_what_was_hidden_is_not_trusted() -> None:
    random = np.random.default_rng(3)
    ground = Image.fromarray(random.integers(0, 255, (32, 48, 3), dtype=np.uint8))
    thing = Image.fromarray(random.integers(0, 255, (12, 12, 3), dtype=np.uint8))
    frames = []
    for x in (30, 40):
        frame = ground.resize((144, 96), Image.Resampling.BICUBIC)
        frame.paste(thing.resize((36, 36), Image.Resampling.BICUBIC), (x, 30))
        frames.append(np.asarray(frame, np.float32) / 255)
    weight = moved(frames[0], *frames).weight
    uncovered, still = weight[34:62, 31:38], weight[5:20]
    # Flow is not exact at edges, so neither is this.
    assert still.mean() > 0.9
    assert uncovered.mean() < 0.7


@needs_opencv
def test_followed_frames_flicker_less_than_frames_alone() -> None:
    frames = pan(3, (64, 48))
    # From noise, or it would say more of the photo, which hardly changes, than of the painting.
    given = {**SMALL, "size": 64, "scales": 2, "iterations": (24, 10), "init": "noise"}
    film = list(FilmPainter(NIGHT, StylizeOptions.of(**given)).paint(frames))
    transfer = StyleTransfer()
    alone = [
        transfer.with_options(StylizeOptions.of(**given, seed=seed)).stylize(frame, NIGHT)
        for seed, frame in enumerate(frames)
    ]
    # The first has nothing to follow.
    assert np.array_equal(film[0].picture.rgb, alone[0].picture.rgb)
    followed = flicker([result.picture for result in film], frames)
    independent = flicker([result.picture for result in alone], frames)
    print(f"flicker: followed {followed:.4f}, independent {independent:.4f}")
    assert followed < 0.5 * independent
    # They are painted as well as frames alone are, and not dragged along.
    for mine, other in zip(film, alone, strict=True):
        held = mine.options.temporal_weight * mine.terms.temporal
        assert mine.terms.loss - held < 1.1 * other.terms.loss


@needs_opencv
def test_frames_of_another_size_are_refused() -> None:
    painter = FilmPainter(NIGHT, StylizeOptions.of(**{**SMALL, "size": 48, "iterations": 1}))
    with pytest.raises(OptionError, match="one size"):
        list(painter.paint([pan(1)[0], pan(1, (64, 64))[0]]))


def test_a_run_starts_from_the_picture_that_it_is_given() -> None:
    transfer = StyleTransfer(StylizeOptions.of(**{**SMALL, "size": 64, "iterations": 1}))
    start = pan(1, (64, 48))[0][::-1].copy()
    run_ = transfer.run(CAT, NIGHT, start=start)
    first = next(event for event in run_ if isinstance(event, Step))
    # Before its first step, the picture is the start, at the photo's shape.
    given = np.asarray(Image.fromarray((255 * start).astype(np.uint8)).resize((64, 43)), float)
    assert np.abs(255 * first.picture() - given).mean() < 3
    result = run_.result()
    assert result.recipe["init"]["name"] == ""
    assert result.recipe["options"]["init"] == "content"


def test_with_the_photo_s_colours_it_starts_from_grays() -> None:
    """The network sees grays there: a coloured start and its own grays are one."""
    options = StylizeOptions.of(**{**SMALL, "size": 64, "iterations": 1}, color="content")
    transfer = StyleTransfer(options)
    coloured = Picture(rgb=pan(1, (64, 43))[0])
    losses = []
    for start in (coloured, gray(coloured), Picture(rgb=coloured.rgb[::-1].copy())):
        run_ = transfer.run(CAT, NIGHT, start=start)
        losses.append(next(event.terms for event in run_ if isinstance(event, Step)).loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0] != pytest.approx(losses[2], rel=1e-3)


def test_later_frames_are_painted_at_the_finest_scale() -> None:
    options = frame_options(StylizeOptions.of("balanced"))
    assert options.scales == 1
    assert options.schedule == (35,)
    assert frame_options(options) == options


def test_flicker_takes_two_frames() -> None:
    with pytest.raises(OptionError, match="two frames"):
        flicker(pan(1), pan(1))


def test_without_opencv_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(PackageMissingError, match=r"nstrt\[video\]"):
        check_flow()
    with pytest.raises(PackageMissingError, match=r"nstrt\[video\]"):
        FilmPainter(NIGHT)


@needs_opencv
def test_a_batch_of_frames_goes_on_where_it_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, frame in enumerate(pan(3)):
        Image.fromarray((255 * frame).astype(np.uint8)).save(tmp_path / f"f{number}.png")
    out = tmp_path / "out"
    arguments = ["batch", str(tmp_path / "f*.png"), "--style", str(NIGHT), "--out-dir", str(out)]
    arguments += [*FLAGS, "--frames"]

    def painted(expected: int, *more: str) -> dict[str, Any]:
        assert run([*arguments, "--json", *more]) == expected
        return json.loads(capsys.readouterr().out.splitlines()[-1])  # type: ignore[no-any-return]

    counts = painted(0)
    assert counts["done"] == 3
    last = (out / "f2.png").read_bytes()
    # A start from the last result is another picture than a start from the frame.
    assert run([*arguments[:-1], "--force", "-q"]) == 0
    assert (out / "f2.png").read_bytes() != last
    assert painted(0, "--force")["done"] == 3
    assert painted(0)["skipped"] == 3
    (out / "f2.png").unlink()
    counts = painted(0)
    assert (counts["skipped"], counts["done"]) == (2, 1)
    # As if it had not been interrupted.
    (tmp_path / "kept.png").write_bytes(last)
    again, kept = (np.asarray(Image.open(path)) for path in (out / "f2.png", tmp_path / "kept.png"))
    assert np.array_equal(again, kept)
    # Behind a frame that is painted anew, what is there is of no use.
    (out / "f0.png").unlink()
    counts = painted(1)
    assert (counts["done"], counts["failed"]) == (1, 2)
    assert run([*arguments, "--jobs", "2"]) == 2
    assert "--jobs" in capsys.readouterr().err
