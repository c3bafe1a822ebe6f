"""Two pictures side by side: the numbers are those of plain formulas and of the run itself."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.color import deltaE_cie76, rgb2lab

from nstrt.plugins.cli.app import run
from nstrt.runtime import OptionError, StyleTransfer, StylizeOptions, TooLargeError
from nstrt.runtime.analysis.compare import compare, losses_of
from nstrt.runtime.pictures import read_picture

from support import EXAMPLES

CAT, NIGHT = EXAMPLES / "cat.jpg", EXAMPLES / "night.jpg"

Capture = pytest.CaptureFixture[str]


def pixels(name: Path, size: tuple[int, int] = (48, 32)) -> np.ndarray:
    return np.asarray(Image.open(name).convert("RGB").resize(size))


def test_the_difference_is_that_of_plain_formulas() -> None:
    a, b = pixels(CAT), pixels(NIGHT)
    found = compare(a, b)
    x, y = a / 255, b / 255
    apart = np.abs(x - y)
    assert not found.equal
    assert (found.width, found.height) == (48, 32)
    assert found.max == pytest.approx(apart.max(), rel=1e-5)
    assert found.mean == pytest.approx(apart.mean(), rel=1e-5)
    assert found.psnr == pytest.approx(-10 * math.log10((apart**2).mean()), rel=1e-5)
    green = found.channels["green"]
    assert green.max == pytest.approx(apart[..., 1].max(), rel=1e-5)
    assert green.mean == pytest.approx(apart[..., 1].mean(), rel=1e-5)
    assert green.psnr == pytest.approx(-10 * math.log10((apart[..., 1] ** 2).mean()), rel=1e-5)
    colours = deltaE_cie76(rgb2lab(x), rgb2lab(y))
    assert found.delta_e == pytest.approx(colours.mean(), rel=5e-3)
    assert found.delta_e_max == pytest.approx(colours.max(), rel=1e-2)


def test_equal_pictures_have_no_difference() -> None:
    found = compare(pixels(CAT), pixels(CAT))
    assert found.equal
    assert found.max == found.mean == found.delta_e == 0
    assert found.psnr == math.inf
    facts = json.loads(json.dumps(found.as_dict()))
    assert facts["psnr"] is None
    assert facts["channels"]["red"]["psnr"] is None


def test_one_level_in_one_channel_is_seen() -> None:
    a = pixels(CAT).copy()
    b = a.copy()
    b[5, 7, 2] ^= 1
    found = compare(a, b)
    assert not found.equal
    assert found.channels["red"].max == 0
    assert 255 * found.channels["blue"].max == pytest.approx(1, rel=1e-4)


def test_transparency_counts() -> None:
    rgba = np.dstack([pixels(CAT), np.full((32, 48), 255, np.uint8)])
    clear = rgba.copy()
    clear[:16, :, 3] = 0
    assert not compare(rgba, clear).equal
    white = clear.copy()
    white[:16, :, :3] = 255
    # Under transparent parts nothing shows, but the files differ.
    assert compare(clear, white).max == 0
    assert not compare(clear, white).equal


def test_other_sizes_need_one_to_compare_at() -> None:
    small, large = pixels(CAT), pixels(CAT, (96, 64))
    with pytest.raises(OptionError, match="--size"):
        compare(small, large)
    found = compare(small, large, size=48)
    assert (found.width, found.height) == (48, 32)
    assert 0 < found.mean < 0.05
    with pytest.raises(OptionError, match="one shape"):
        compare(small, pixels(CAT, (48, 48)), size=48)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"strength": 0.8, "style_scale": 0.7, "style_layers": "relu1_1:3,relu3_1", "tv_weight": 2},
        {"relative": False, "gram_mean": False, "pooling": "avg", "padding": "zero"},
        {"color": "content"},
    ],
    ids=str,
)
def test_losses_are_those_that_the_run_ended_with(given: dict[str, object]) -> None:
    options = StylizeOptions.of(
        size=64, scales=1, iterations=3, engine="torch", precision="fp32", **given
    )
    result = StyleTransfer(options).stylize(CAT, NIGHT)
    photo = read_picture(CAT)
    painted, untouched = losses_of([result.picture, photo], CAT, NIGHT, options)
    for name in ("loss", "content", "style", "tv"):
        measured, reported = getattr(painted, name), getattr(result.terms, name)
        # The photo's colours at a new lightness are clipped where sRGB does not have them, so
        # those pictures are near to what was painted, not equal.
        if options.color == "style":
            assert measured == pytest.approx(reported, rel=2e-3), name
    assert (painted.width, painted.height) == (64, 43)
    layers = dict(options.style_layers)
    total = sum(layers.values()) if options.relative else 1
    assert painted.style == pytest.approx(
        sum(weight / total * painted.style_layers[name] for name, weight in layers.items())
    )
    # The photo is its own content, and no painting.
    assert untouched.content == pytest.approx(0, abs=1e-9)
    assert untouched.style > painted.style


def test_a_picture_is_measured_at_its_own_size() -> None:
    (found,) = losses_of([pixels(CAT, (60, 40))], CAT, NIGHT)
    assert (found.width, found.height) == (60, 40)


def test_what_memory_cannot_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nstrt.runtime.analysis.compare.available_memory", lambda: 1000)
    with pytest.raises(TooLargeError, match="--size"):
        losses_of([pixels(CAT)], CAT, NIGHT)


def test_the_command_shows_both(tmp_path: Path, capsys: Capture) -> None:
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    Image.fromarray(pixels(CAT)).save(a)
    Image.fromarray(pixels(NIGHT)).save(b)
    assert run(["compare", str(a), str(a)]) == 0
    assert capsys.readouterr().out == "equal, 48x32 pixels\n"
    pair = ["--content", str(CAT), "--style", str(NIGHT)]
    assert run(["compare", str(a), str(b), *pair]) == 0
    said = capsys.readouterr().out
    for words in ("different", "PSNR", "Delta E", "relu3_2", "relu5_1", "tv", "blue"):
        assert words in said
    assert run(["compare", str(a), str(b), *pair, "--size", "40", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["equal"] is False
    assert facts["width"] == 40
    assert facts["losses"]["a"]["content"] < facts["losses"]["b"]["content"]
    assert facts["losses"]["b"]["style"] < facts["losses"]["a"]["style"]
    assert set(facts["losses"]["a"]["style_layers"]) == {f"relu{n}_1" for n in range(1, 6)}


def test_half_a_question_is_refused(capsys: Capture) -> None:
    assert run(["compare", str(CAT), str(CAT), "--content", str(CAT)]) == 2
    assert "--content and --style" in capsys.readouterr().err
    assert run(["compare", str(CAT), "missing.png"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
