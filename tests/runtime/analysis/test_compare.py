"""Differences of two pictures against plain formulas, and losses against those of the run."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.color import deltaE_cie76, rgb2lab

from nstrt.runtime import OptionError, StyleTransfer, StylizeOptions, TooLargeError
from nstrt.runtime.analysis.compare import compare, losses_of
from nstrt.runtime.pictures import read_picture

from support import CAT, NIGHT, Capture
from support.command_line import nstrt


def pixels(name: Path, size: tuple[int, int] = (48, 32)) -> np.ndarray:
    return np.asarray(Image.open(name).convert("RGB").resize(size))


def test_the_difference_is_that_of_plain_formulas() -> None:
    a, b = pixels(CAT), pixels(NIGHT)
    difference = compare(a, b)
    x, y = a / 255, b / 255
    absolute = np.abs(x - y)
    assert not difference.equal
    assert (difference.width, difference.height) == (48, 32)
    assert difference.max == pytest.approx(absolute.max(), rel=1e-5)
    assert difference.mean == pytest.approx(absolute.mean(), rel=1e-5)
    assert difference.psnr == pytest.approx(-10 * math.log10((absolute**2).mean()), rel=1e-5)
    green = difference.channels["green"]
    assert green.max == pytest.approx(absolute[..., 1].max(), rel=1e-5)
    assert green.mean == pytest.approx(absolute[..., 1].mean(), rel=1e-5)
    assert green.psnr == pytest.approx(-10 * math.log10((absolute[..., 1] ** 2).mean()), rel=1e-5)
    color_difference = deltaE_cie76(rgb2lab(x), rgb2lab(y))
    assert difference.delta_e == pytest.approx(color_difference.mean(), rel=5e-3)
    assert difference.delta_e_max == pytest.approx(color_difference.max(), rel=1e-2)


def test_equal_pictures_have_no_difference() -> None:
    difference = compare(pixels(CAT), pixels(CAT))
    assert difference.equal
    assert difference.max == difference.mean == difference.delta_e == 0
    assert difference.psnr == math.inf
    facts = json.loads(json.dumps(difference.as_dict()))
    assert facts["psnr"] is None
    assert facts["channels"]["red"]["psnr"] is None


def test_one_level_in_one_channel_is_a_difference() -> None:
    a = pixels(CAT).copy()
    b = a.copy()
    b[5, 7, 2] ^= 1
    difference = compare(a, b)
    assert not difference.equal
    assert difference.channels["red"].max == 0
    assert 255 * difference.channels["blue"].max == pytest.approx(1, rel=1e-4)


def test_a_difference_in_transparency_is_a_difference() -> None:
    rgba = np.dstack([pixels(CAT), np.full((32, 48), 255, np.uint8)])
    clear = rgba.copy()
    clear[:16, :, 3] = 0
    assert not compare(rgba, clear).equal
    white = clear.copy()
    white[:16, :, :3] = 255
    # Nobody sees a colour that is wholly transparent.
    assert compare(clear, white).equal
    faint = clear.copy()
    faint[:16, :, 3] = 1
    assert not compare(clear, faint).equal


def test_pictures_of_two_sizes_need_a_size_to_compare_at() -> None:
    small, large = pixels(CAT), pixels(CAT, (96, 64))
    with pytest.raises(OptionError, match="name a size= to compare"):
        compare(small, large)
    difference = compare(small, large, size=48)
    assert (difference.width, difference.height) == (48, 32)
    assert 0 < difference.mean < 0.05
    with pytest.raises(OptionError, match="one shape"):
        compare(small, pixels(CAT, (48, 48)), size=48)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"strength": 0.8, "style_scale": 0.7, "style_layers": "relu1_1:3,relu3_1", "tv_weight": 2},
        {"relative": False, "gram_mean": False, "pooling": "avg", "padding": "zero"},
        {"color": "content"},
    ],
    ids=str,
)
def test_losses_equal_those_at_the_end_of_the_run(changes: dict[str, object]) -> None:
    options = StylizeOptions.of(
        size=64, scales=1, iterations=3, engine="torch", precision="fp32", **changes
    )
    result = StyleTransfer(options).stylize(CAT, NIGHT)
    photo = read_picture(CAT)
    painted, untouched = losses_of([result.picture, photo], CAT, NIGHT, options)
    for name in ("loss", "content", "style", "tv"):
        measured, reported = getattr(painted, name), getattr(result.terms, name)
        # --color content clips colours outside of sRGB, so that result differs from the image that
        # the run measured.
        if options.color == "style":
            assert measured == pytest.approx(reported, rel=2e-3), name
    assert (painted.width, painted.height) == (64, 43)
    layers = dict(options.style_layers)
    total = sum(layers.values()) if options.relative else 1
    assert painted.style == pytest.approx(
        sum(weight / total * painted.style_layers[name] for name, weight in layers.items())
    )
    # The photo has no content loss, and a high style loss.
    assert untouched.content == pytest.approx(0, abs=1e-9)
    assert untouched.style > painted.style


@pytest.mark.parametrize("loss", ["gram", "w2"])
def test_losses_of_a_part_of_a_painting_equal_those_of_the_run(loss: str) -> None:
    options = StylizeOptions.of(
        size=64, scales=1, iterations=3, engine="torch", precision="fp32", style_loss=loss
    )
    painting = np.pad(pixels(NIGHT, (90, 66)), ((6, 6), (10, 0), (0, 0)), constant_values=255)
    mask = np.zeros(painting.shape[:2], np.uint8)
    mask[:, :60] = 255
    cropped = replace(options, style_margin="crop")
    for each in (options, cropped):
        result = StyleTransfer(each).stylize(CAT, painting, style_mask=mask)
        (found,) = losses_of([result.picture], CAT, painting, each, style_mask=mask)
        for name in ("loss", "content", "style"):
            reported = getattr(result.terms, name)
            assert getattr(found, name) == pytest.approx(reported, rel=2e-3), name
    (other,) = losses_of([result.picture], CAT, painting, options)
    assert other.style_layers["relu4_1"] != pytest.approx(found.style_layers["relu4_1"], rel=1e-2)


def test_a_picture_is_measured_at_its_own_size() -> None:
    (losses,) = losses_of([pixels(CAT, (60, 40))], CAT, NIGHT)
    assert (losses.width, losses.height) == (60, 40)


def test_features_larger_than_the_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nstrt.runtime.analysis.compare.available_memory", lambda: 1000)
    with pytest.raises(TooLargeError, match=r"make size= at most \d+"):
        losses_of([pixels(CAT)], CAT, NIGHT)


def test_the_command_shows_differences_and_losses(tmp_path: Path, capsys: Capture) -> None:
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    Image.fromarray(pixels(CAT)).save(a)
    Image.fromarray(pixels(NIGHT)).save(b)
    assert nstrt("compare", a, a) == 0
    assert capsys.readouterr().out == "equal, 48x32 pixels\n"
    pair = ["--content", str(CAT), "--style", str(NIGHT)]
    assert nstrt("compare", a, b, *pair) == 0
    output = capsys.readouterr().out
    for words in ("different", "PSNR", "Delta E", "relu3_2", "relu5_1", "tv", "blue"):
        assert words in output
    assert nstrt("compare", a, b, *pair, "--size", "40", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["equal"] is False
    assert facts["width"] == 40
    assert facts["losses"]["a"]["content"] < facts["losses"]["b"]["content"]
    assert facts["losses"]["b"]["style"] < facts["losses"]["a"]["style"]
    assert set(facts["losses"]["a"]["style_layers"]) == {f"relu{n}_1" for n in range(1, 6)}


def test_incomplete_arguments_are_refused(capsys: Capture) -> None:
    assert nstrt("compare", CAT, CAT, "--content", CAT) == 2
    assert "--content and --style" in capsys.readouterr().err
    assert nstrt("compare", CAT, CAT, "--style-mask", CAT) == 2
    assert "--style-mask is of a painting" in capsys.readouterr().err
    assert nstrt("compare", CAT, "missing.png") == 2
    assert capsys.readouterr().err.count("\n") == 1
