"""Runs of pictures that look the same give the same pixels, whatever lies under transparency."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nstrt.runtime import Preview, StyleTransfer, StylizeOptions
from nstrt.runtime.errors import OptionError
from nstrt.runtime.run.inputs import InputSources, read_inputs

from support import EXAMPLES

CAT, NIGHT = EXAMPLES / "cat.jpg", EXAMPLES / "night.jpg"
SIZE = 64, 48
ROWS, COLUMNS = np.mgrid[: SIZE[1], : SIZE[0]]
SOFT = np.clip(2 - np.hypot(COLUMNS - 32, ROWS - 24) / 12, 0, 1)


def cut_out(hidden: int, source: Path = CAT) -> NDArray[np.uint8]:
    """A picture with a soft edge, and the gray level ``hidden`` where nobody sees it."""
    rgb = np.asarray(Image.open(source).convert("RGB").resize(SIZE))
    alpha = np.rint(SOFT * 255).astype(np.uint8)[..., None]
    return np.concatenate([np.where(alpha > 0, rgb, np.uint8(hidden)), alpha], axis=2)


def transfer(**given: Any) -> StyleTransfer:
    fixed = {"size": 40, "iterations": 3, "scales": 1, "engine": "torch", "precision": "fp32"}
    return StyleTransfer(StylizeOptions.of(**{**fixed, "seed": 1, **given}))


@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"size": 64},
        {"color": "content"},
        {"color": "match-style"},
        {"color": "match-content", "color_match": "histogram"},
        {"original_size": True},
        {"original_size": True, "color": "content"},
    ],
    ids=str,
)
def test_hidden_colours_of_the_photo_change_nothing(given: dict[str, Any]) -> None:
    results = [transfer(**given).stylize(cut_out(hidden), NIGHT).to_array() for hidden in (0, 255)]
    assert np.array_equal(*results)


@pytest.mark.slow
def test_hidden_colours_of_other_pictures_change_nothing(tmp_path: Path) -> None:
    """Paintings, starts, masks, the photo that stays around a region, and previews."""
    made: list[list[NDArray[np.float32]]] = []
    for hidden in (0, 255):
        start = tmp_path / f"{hidden}.png"
        Image.fromarray(cut_out(hidden, NIGHT)).save(start)
        photo, mask = cut_out(hidden), cut_out(hidden)
        mask[..., :3] = np.where(mask[..., 3:] > 0, 255, mask[..., :3])
        shapes: list[NDArray[np.float32]] = []
        shapes.append(transfer().stylize(CAT, cut_out(hidden, NIGHT)).to_array())
        shapes.append(transfer(init=str(start)).stylize(photo, NIGHT).to_array())
        shapes.append(transfer().stylize(photo, NIGHT, protect=mask).to_array())
        staying = transfer(rest="photo").stylize(photo, NIGHT, regions=[(mask, None)])
        shapes.append(staying.to_array())
        run = transfer().run(photo, NIGHT, preview_steps=2)
        shapes += [event.rgb for event in run if isinstance(event, Preview)]
        made.append(shapes)
    for one, two in zip(*made, strict=True):
        assert np.array_equal(one, two)


@pytest.mark.slow
@pytest.mark.parametrize("color", ["style", "content", "match-style", "match-content"])
def test_opaque_transparency_changes_nothing(color: str) -> None:
    rgb = np.asarray(Image.open(CAT).convert("RGB").resize(SIZE))
    rgba = np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])
    one, two = (transfer(color=color).stylize(photo, NIGHT).to_array() for photo in (rgb, rgba))
    assert np.array_equal(one, two[..., :3])


@pytest.mark.slow
def test_starting_from_the_photo_file_is_starting_from_the_photo() -> None:
    photo = cut_out(0)
    one = transfer().stylize(photo, NIGHT).to_array()
    two = transfer(init="noise").run(photo, NIGHT, start=photo).result().to_array()
    assert np.array_equal(one, two)


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"original_size": True}, {"color": "content"}], ids=str)
def test_a_light_cut_out_stays_light_to_its_edge(more: dict[str, Any]) -> None:
    light = np.zeros((160, 160, 4), np.uint8)
    light[30:130, 30:130] = [250, 240, 230, 255]
    made = transfer(strength=0, **more).stylize(light, NIGHT).to_array(np.uint8)
    seen = made[made[..., 3] > 40][:, :3]
    assert seen.min() > 190


@pytest.mark.parametrize("role", ["content", "style", "region"])
def test_a_picture_with_nothing_to_see_is_refused(role: str) -> None:
    nothing = np.zeros((32, 32, 4), np.uint8)
    given: dict[str, Any] = {"content": CAT, "style": NIGHT}
    if role == "region":
        given["regions"] = [(np.full((48, 72), 255, np.uint8), nothing)]
    else:
        given[role] = nothing
    with pytest.raises(OptionError, match="transparent all over"):
        read_inputs(InputSources.of(**given), StylizeOptions())
