"""Gray pictures alone give a gray result, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nstrt.runtime import Step, StyleTransfer, StylizeOptions
from nstrt.runtime.pictures.colors.gray import is_gray

from support import EXAMPLES

pytestmark = pytest.mark.slow

CAT, NIGHT = EXAMPLES / "cat.jpg", EXAMPLES / "night.jpg"


def picture(path: Path, *, gray: bool = True) -> NDArray[np.uint8]:
    image = Image.open(path).resize((72, 48))
    return np.asarray(image.convert("L" if gray else "RGB").convert("RGB"))


def transfer(**given: Any) -> StyleTransfer:
    fixed = {"size": 48, "iterations": 4, "scales": 1, "engine": "torch", "precision": "fp32"}
    return StyleTransfer(StylizeOptions.of(**{**fixed, "seed": 1, **given}))


@pytest.mark.parametrize("engine", ["torch", "onnx", "graph"])
@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("init", ["content", "noise", "gray"])
def test_every_engine_optimiser_and_start_keeps_gray(
    engine: str, optimizer: str, init: str
) -> None:
    made = transfer(engine=engine, optimizer=optimizer, init=init)
    assert is_gray(made.stylize(picture(CAT), picture(NIGHT)).to_array())


@pytest.mark.parametrize(
    "given",
    [
        {"scales": 2, "iterations": (4, 3), "init": "noise"},
        {"original_size": True},
        {"color": "content"},
        {"color": "content", "original_size": True, "init": "noise"},
        {"color": "match-content"},
        {"color": "match-style", "color_match": "histogram"},
        {"optimizer": "adam", "average": False, "clamp": False, "init": "noise"},
    ],
    ids=str,
)
def test_every_option_keeps_gray(given: dict[str, Any]) -> None:
    assert is_gray(transfer(**given).stylize(picture(CAT), picture(NIGHT)).to_array())


def test_each_preview_and_a_gray_start_are_gray() -> None:
    run = transfer().run(picture(CAT), picture(NIGHT), start=picture(NIGHT))
    steps = [event.picture() for event in run if isinstance(event, Step)]
    assert len(steps) == 4
    assert all(map(is_gray, steps))


def test_the_photos_gray_wins_where_its_colours_are_asked_for() -> None:
    for color in ("content", "match-content"):
        made = transfer(color=color).stylize(picture(CAT), picture(NIGHT, gray=False))
        assert is_gray(made.to_array())


def test_one_coloured_picture_brings_colour() -> None:
    gray, colored = picture(CAT), picture(NIGHT, gray=False)
    assert not is_gray(transfer().stylize(gray, colored).to_array())
    assert not is_gray(transfer().stylize(colored, gray).to_array())
    assert not is_gray(transfer().run(gray, gray, start=colored).result().to_array())
    blended = transfer().stylize(gray, [gray, colored])
    assert not is_gray(blended.to_array())


def test_tiles_and_masks_keep_gray() -> None:
    mask = np.zeros((48, 72), np.uint8)
    mask[:, :36] = 255
    for given in ({}, {"rest": "photo"}):
        made = transfer(**given).stylize(picture(CAT), picture(NIGHT), regions=[(mask, None)])
        assert is_gray(made.to_array())


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "webp", "avif"])
def test_the_saved_file_is_gray(tmp_path: Path, suffix: str) -> None:
    result = transfer(iterations=2).stylize(picture(CAT), picture(NIGHT))
    path = tmp_path / f"out.{suffix}"
    result.save(path)
    assert is_gray(np.asarray(Image.open(path).convert("RGB")))
