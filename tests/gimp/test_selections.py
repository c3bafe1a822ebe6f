"""A selection becomes the mask of the new layer, which extends round it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gimp import NIGHT, QUICK, Gimp, Photo

OpenPhoto = Callable[..., Photo]

SELECTIONS: dict[str, tuple[str, tuple[float, ...]]] = {
    "rectangle": ("select_rectangle", (150, 100, 120, 80)),
    "feathered ellipse": ("select_ellipse", (100, 80, 200, 140, 30.0)),
    "over the edge": ("select_ellipse", (300, 150, 400, 400, 20.0)),
    "tiny": ("select_rectangle", (200, 120, 5, 5)),
    "tiny, in the corner": ("select_rectangle", (0, 0, 5, 5)),
    "all": ("select_rectangle", (0, 0, 451, 300)),
}


def painted(photo: Photo) -> dict[str, Any]:
    before = photo.gimp.do("fingerprint", photo.layer)
    selected = photo.selection()
    answer = photo.stylize(style=NIGHT, **QUICK)
    assert (answer.status, answer.message) == ("success", "")
    assert len(photo.layers()) == 2
    assert photo.gimp.do("fingerprint", photo.layer) == before
    np.testing.assert_array_equal(photo.selection(), selected)
    return photo.above(photo.layer)


def mask_is_selection(photo: Photo, new: dict[str, Any]) -> None:
    """The layer's mask is the selection; nothing else on the drawable is selected."""
    selected = photo.selection()
    height, width = selected.shape
    _, drawable = photo.layers()
    mask = photo.gimp.pixels(new["mask"], mask=True)[..., 0]
    x, y = new["x"], new["y"]
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + new["width"], width), min(y + new["height"], height)
    np.testing.assert_allclose(
        mask[top - y : bottom - y, left - x : right - x],
        selected[top:bottom, left:right],
        atol=0.5 / 255,
    )
    rest = selected.copy()
    rest[top:bottom, left:right] = 0
    left, top = max(drawable["x"], 0), max(drawable["y"], 0)
    right = drawable["x"] + drawable["width"]
    bottom = drawable["y"] + drawable["height"]
    assert not rest[top:bottom, left:right].any()


def within(new: dict[str, Any], drawable: dict[str, Any]) -> bool:
    return all(
        drawable[at] <= new[at] and new[at] + new[size] <= drawable[at] + drawable[size]
        for at, size in (("x", "width"), ("y", "height"))
    )


@pytest.mark.parametrize("name", SELECTIONS)
def test_the_selection_is_the_layers_mask(console: Gimp, open_photo: OpenPhoto, name: str) -> None:
    photo = open_photo()
    function, numbers = SELECTIONS[name]
    console.do(function, photo.image, *numbers)
    new = painted(photo)
    assert new["mask"]
    assert not new["edit_mask"]
    assert within(new, photo.layers()[1])
    mask_is_selection(photo, new)


@pytest.mark.parametrize("name", ["rectangle", "tiny"])
def test_there_is_context_around_the_selection(
    console: Gimp, open_photo: OpenPhoto, name: str
) -> None:
    photo = open_photo()
    function, numbers = SELECTIONS[name]
    console.do(function, photo.image, *numbers)
    new = painted(photo)
    x, y, width, height = numbers
    assert new["x"] < x
    assert new["y"] < y
    assert new["x"] + new["width"] > x + width
    assert new["y"] + new["height"] > y + height


@pytest.mark.parametrize("gray", [False, True])
def test_a_selection_on_a_float_image(console: Gimp, open_photo: OpenPhoto, gray: bool) -> None:
    photo = open_photo(precision="float", gray=gray)
    console.do("select_ellipse", photo.image, 100, 80, 200, 140, 30.0)
    new = painted(photo)
    mask_is_selection(photo, new)


def test_a_selection_on_a_layer_that_sticks_out(console: Gimp, open_photo: OpenPhoto) -> None:
    photo = open_photo()
    console.do("crop_canvas", photo.image, 300, 200, 80, 60)
    console.do("select_ellipse", photo.image, -40, -30, 150, 120, 12.0)
    new = painted(photo)
    assert within(new, photo.layers()[1])
    mask_is_selection(photo, new)


def test_a_selection_beside_a_layer_that_is_smaller_than_the_canvas(
    console: Gimp, open_photo: OpenPhoto
) -> None:
    """The part of the selection beyond the layer is ignored."""
    photo = open_photo()
    console.do("grow_canvas", photo.image, 700, 500, 100, 100)
    console.do("select_rectangle", photo.image, 50, 50, 200, 150)
    new = painted(photo)
    assert within(new, photo.layers()[1])
    mask_is_selection(photo, new)
