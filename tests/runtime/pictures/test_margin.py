"""Margins of paintings: found where they were put, and nowhere else."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nstrt.runtime.pictures import read_picture
from nstrt.runtime.pictures.margin import Margin, find_margin

from support import EXAMPLES

PICTURES = sorted(EXAMPLES.glob("*.jpg"))
SMALL = 320, 240


def pixels(name: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(EXAMPLES / f"{name}.jpg").convert("RGB").resize(SMALL))


def framed(
    inside: NDArray[np.uint8],
    color: tuple[int, int, int],
    sides: tuple[int, int, int, int],
    *,
    noise: float = 0,
) -> NDArray[np.uint8]:
    """The picture with a margin of so many pixels left, above, right and below."""
    left, top, right, bottom = sides
    height, width = inside.shape[:2]
    shape = (height + top + bottom, width + left + right, 3)
    whole = np.random.default_rng(0).normal(color, noise, shape).clip(0, 255)
    whole[top : top + height, left : left + width] = inside
    return whole.astype(np.uint8)


def as_jpeg(picture: NDArray[np.uint8], quality: int = 80) -> NDArray[np.uint8]:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def found(picture: NDArray[np.uint8]) -> tuple[int, ...]:
    return tuple(vars(find_margin(picture.astype(np.float32) / 255)).values())


def assert_near(sides: tuple[int, ...], expected: tuple[int, ...], most: int) -> None:
    """At most ``most`` pixels more than there are: the soft edge belongs to the margin."""
    assert all(0 <= side - there <= most for side, there in zip(sides, expected, strict=True)), (
        sides
    )


@pytest.mark.parametrize("name", ["ember", "garden", "scream", "starry_night"])
@pytest.mark.parametrize(
    ("color", "noise", "sides"),
    [
        ((255, 255, 255), 0, (9, 9, 9, 9)),
        ((236, 228, 210), 4, (17, 9, 23, 31)),
        ((0, 0, 0), 1, (0, 40, 0, 40)),
        ((250, 250, 250), 2, (14, 0, 0, 0)),
        ((4, 3, 3), 2, (12, 20, 12, 20)),
    ],
    ids=["white", "paper", "bars", "one side", "frame"],
)
def test_a_margin_is_found_on_the_sides_where_it_is(
    name: str, color: tuple[int, int, int], noise: float, sides: tuple[int, int, int, int]
) -> None:
    picture = framed(pixels(name), color, sides, noise=noise)
    assert_near(found(picture), sides, 0 if noise == 0 else 1)
    assert_near(found(as_jpeg(picture)), sides, 3)


def test_margins_inside_each_other_are_found_together() -> None:
    mounted = framed(framed(pixels("garden"), (20, 20, 22), (4,) * 4), (255,) * 3, (10,) * 4)
    assert found(mounted) == (14,) * 4


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_pictures_without_a_margin_have_none(path: Any) -> None:
    """Neither whole nor cut: a piece of a sky has one colour along its border."""
    rgb = read_picture(path).rgb
    assert not find_margin(rgb)
    height, width = rgb.shape[:2]
    for seed in range(12):
        random = np.random.default_rng(seed)
        rows, columns = random.integers(height // 4, height), random.integers(width // 4, width)
        top = random.integers(0, height - rows + 1)
        left = random.integers(0, width - columns + 1)
        assert not find_margin(rgb[top : top + rows, left : left + columns])


def sky() -> NDArray[np.float64]:
    """A gradient that is flat at the top."""
    rows = np.linspace(0, 1, 240) ** 3
    return np.broadcast_to(rows[:, None, None] * [120, 100, 40] + [60, 100, 200], (240, 320, 3))


def portrait() -> NDArray[np.float64]:
    """A lit figure before a black ground."""
    y, x = np.mgrid[:240, :320]
    light = np.exp(-((((x - 160) / 60) ** 2 + ((y - 130) / 80) ** 2) ** 2))
    return light[..., None] * [220, 180, 150] + 6


def horizon() -> NDArray[np.float64]:
    """Two flat halves."""
    return np.repeat(np.where(np.arange(240) < 120, 30.0, 200.0), 320 * 3).reshape(240, 320, 3)


@pytest.mark.parametrize("picture", [sky(), portrait(), horizon(), np.full((240, 320, 3), 9.0)])
def test_skies_and_dark_grounds_are_no_margins(picture: NDArray[np.float64]) -> None:
    grain = np.random.default_rng(0).normal(0, 1.5, picture.shape)
    assert found((picture + grain).clip(0, 255).astype(np.uint8)) == (0, 0, 0, 0)


def test_the_corners_of_a_turned_scan_are_no_margin() -> None:
    turned = Image.fromarray(pixels("garden")).rotate(2.5, expand=True, fillcolor=(240, 240, 235))
    assert found(np.asarray(turned)) == (0, 0, 0, 0)


def test_words_and_places() -> None:
    margin = Margin(left=12, bottom=3)
    assert margin.words() == "12 pixels left, 3 bottom"
    assert margin.inside(20, 40) == (slice(0, 17), slice(12, 40))
    assert not Margin()
