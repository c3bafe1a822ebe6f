"""The plan: which sizes, how many steps, and whether it fits."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nstrt.runtime import Scale, StylizeOptions
from nstrt.runtime.errors import OptionError
from nstrt.runtime.planning.plan import COARSEST, SCALE_RATIO, plan_scales

SIDES = st.integers(16, 6000)


def scales_of(
    photo: tuple[int, int], painting: tuple[int, int] = (300, 400), default: int = 512, **given: int
) -> tuple[Scale, ...]:
    return plan_scales(StylizeOptions.of(**given), photo=photo, painting=painting, default=default)


def test_512_pixels_are_reached_in_steps_of_the_square_root_of_two() -> None:
    scales = scales_of((1400, 916))
    assert [(s.width, s.height) for s in scales] == [
        (128, 84),
        (181, 118),
        (256, 167),
        (362, 237),
        (512, 335),
    ]


@given(width=SIDES, height=SIDES, size=st.none() | st.integers(64, 2000))
def test_sizes_hold_for_all_photos(width: int, height: int, size: int | None) -> None:
    try:
        scales = scales_of((width, height), size=size)
    except OptionError:
        assert min(width, height) * (size or 512) / max(width, height) < 16.5
        return
    finest = scales[-1]
    # A panorama's default is longer, so that its short side has 32 pixels if the photo has them.
    least = math.ceil(32 * max(width, height) / min(width, height))
    assert max(finest.width, finest.height) == (size or min(max(512, least), max(width, height)))
    for scale in scales:
        assert min(scale.width, scale.height) >= 16
        # A side is off its proportion by the rounding to whole pixels alone.
        assert abs(scale.width * height - scale.height * width) <= max(width, height)
        # The painting has the picture's area.
        assert math.prod(scale.styles[0]) == pytest.approx(
            scale.width * scale.height, rel=0.1, abs=64
        )
    for coarse, fine in itertools.pairwise(scales):
        assert max(fine.width, fine.height) == pytest.approx(
            SCALE_RATIO * max(coarse.width, coarse.height), abs=1.5
        )
    coarsest = max(scales[0].width, scales[0].height)
    assert coarsest >= min(COARSEST * 0.9, max(finest.width, finest.height))


def test_result_is_never_larger_than_the_photo_unless_requested() -> None:
    assert scales_of((200, 100))[-1].width == 200
    assert scales_of((200, 100), size=300)[-1].width == 300


def test_a_small_picture_is_painted_as_a_large_one_begins() -> None:
    photo, schedule = (1000, 1000), StylizeOptions.of().schedule
    large = scales_of(photo, size=1448)
    assert [s.iterations for s in large[: len(schedule)]] == list(schedule)
    assert {s.iterations for s in large[len(schedule) :]} == {schedule[-1]}
    for count, size in enumerate((128, 181, 256, 362, 512), 1):
        assert scales_of(photo, size=size) == large[:count]
    assert [s.iterations for s in scales_of(photo, iterations=7)] == [7] * 5
    listed = scales_of(photo, iterations=(30, 20, 10))  # type: ignore[arg-type]
    assert [s.iterations for s in listed] == [30, 20, 10]
    assert len(scales_of(photo, scales=1)) == 1


def test_style_scale_is_a_length() -> None:
    once = scales_of((800, 600))[-1]
    twice = scales_of((800, 600), style_scale=2)[-1]
    assert twice.styles[0][0] == pytest.approx(2 * once.styles[0][0], abs=1)


def test_too_many_scales_say_so() -> None:
    with pytest.raises(OptionError, match="make size= at least 725 or scales= at most 6"):
        scales_of((100, 100), scales=12)


@pytest.mark.parametrize(
    ("photo", "values"),
    [
        ((4000, 100), {"size": 512}),
        ((100, 4000), {"size": 64}),
        ((1000, 300), {"size": 300, "scales": 9}),
        ((101, 977), {"size": 200, "iterations": (5,) * 6}),
        ((300, 200), {"size": 32, "scales": 32}),
        ((300, 200), {"size": 256, "scales": 10, "square": True}),
    ],
)
def test_a_size_too_small_is_refused_with_one_that_does(
    photo: tuple[int, int], values: dict[str, Any]
) -> None:
    with pytest.raises(OptionError) as caught:
        scales_of(photo, **values)
    sentence = str(caught.value)
    size = re.search(r"size= at least (\d+)", sentence)
    scales = re.search(r"(scales|iterations)= at most (\d+)", sentence)
    assert size or scales
    if size:
        assert int(size[1]) > values["size"]
        scales_of(photo, **{**values, "size": int(size[1])})
    if scales:
        count = int(scales[2])
        with pytest.raises(OptionError):
            scales_of(photo, **{**values, **fewer(values, scales[1], count + 1)})
        scales_of(photo, **{**values, **fewer(values, scales[1], count)})


def fewer(values: dict[str, Any], name: str, count: int) -> dict[str, Any]:
    return {name: count if name == "scales" else values[name][:count]}


def test_a_panorama_that_no_size_suits_is_to_be_cropped() -> None:
    with pytest.raises(OptionError, match=r"1000x1 pixels.*; crop the photo"):
        scales_of((1_000_000, 16), size=1000)
