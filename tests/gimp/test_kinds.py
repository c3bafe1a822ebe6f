"""The filter without windows paints every kind of image, and only adds a layer."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gimp import NIGHT, QUICK, Gimp, Photo, difference
from numpy.typing import NDArray

OpenPhoto = Callable[..., Photo]

KINDS: dict[str, dict[str, Any]] = {
    "rgb-u8": {},
    "rgb-u8-linear": {"precision": "u8-linear"},
    "rgb-u16": {"precision": "u16"},
    "rgb-half": {"precision": "half"},
    "rgb-float": {"precision": "float"},
    "gray-u8": {"gray": True},
    "gray-float": {"gray": True, "precision": "float"},
}


def paint(photo: Photo, drawable: int | None = None, **options: object) -> dict[str, Any]:
    """Stylize and return the new layer; all other layers must be unchanged."""
    drawable = drawable or photo.layer
    before = photo.layers()
    # A group's pixels change with its layers.
    group = next((layer["parent"] for layer in before if layer["id"] == drawable), None)
    kept = [layer["id"] for layer in before if layer["id"] != group]
    pixels = [photo.gimp.do("fingerprint", layer) for layer in kept]
    answer = photo.stylize(drawable, style=NIGHT, **{**QUICK, **options})
    assert (answer.status, answer.message) == ("success", "")
    after = photo.layers()
    known = [layer["id"] for layer in before]
    new = [layer for layer in after if layer["id"] not in known]
    assert len(new) == 1
    # GIMP numbers layers of equal names.
    assert re.fullmatch(r"Neural Style: night( #\d+)?", new[0]["name"])
    assert [layer["id"] for layer in after if layer["id"] in known] == known
    assert [photo.gimp.do("fingerprint", layer) for layer in kept] == pixels
    return new[0]


def geometry(layer: dict[str, Any]) -> tuple[int, int, int, int]:
    return layer["x"], layer["y"], layer["width"], layer["height"]


def in_range(pixels: NDArray[np.float32]) -> None:
    low, high = float(pixels.min()), float(pixels.max())
    assert -0.01 < low < high < 1.01


def looks_painted(photo: Photo, new: dict[str, Any], old: dict[str, Any]) -> None:
    """The new layer shows the motif of the old one, and is another picture."""
    painted = photo.gimp.pixels(new["id"])[..., :3]
    original = photo.gimp.pixels(old["id"])[..., :3]
    in_range(painted)
    assert difference(painted, original) > 0.01
    likeness = np.corrcoef(painted.mean(2).ravel(), original.mean(2).ravel())[0, 1]
    assert likeness > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_image_is_painted(open_photo: OpenPhoto, kind: str) -> None:
    """A layer of the same size above the original, without a mask; the original stays as it is."""
    photo = open_photo(**KINDS[kind])
    old = photo.layers()[0]
    new = paint(photo)
    assert photo.above(photo.layer) == new
    assert new["name"] == "Neural Style: night"
    assert geometry(new) == geometry(old)
    assert (new["mask"], new["opacity"], new["visible"]) == (None, 100.0, True)
    looks_painted(photo, new, old)
    if KINDS[kind].get("gray"):
        painted = photo.gimp.pixels(new["id"])
        np.testing.assert_allclose(painted[..., 0], painted[..., 2], atol=2e-3)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("rgb-")][1:])
def test_precision_does_not_change_the_picture(open_photo: OpenPhoto, kind: str) -> None:
    """The painting is equal in every precision, linear or not."""
    pictures = []
    for precision in ({}, KINDS[kind]):
        photo = open_photo(**precision)
        pictures.append(photo.gimp.pixels(paint(photo)["id"])[..., :3])
    # Linear 8 bits have few shades in shadows.
    assert difference(*pictures) < 0.02


def test_a_profile_with_more_colours_does_not_change_the_picture(
    console: Gimp, open_photo: OpenPhoto
) -> None:
    plain, wide = open_photo(), open_photo(precision="u16")
    console.do("to_adobe_rgb", wide.image)
    label = console.do("profile_of", wide.image)
    assert "Adobe" in label or "Compatible" in label, label
    pictures = [console.pixels(paint(photo)["id"])[..., :3] for photo in (plain, wide)]
    assert difference(*pictures) < 0.02


def test_colours_outside_the_range_are_no_harm(console: Gimp, open_photo: OpenPhoto) -> None:
    """A float image may have values far below black and above white."""
    photo = open_photo(precision="float")
    console.do("stretch_values", photo.layer, -2.0, 5.0)
    new = paint(photo)
    in_range(console.pixels(new["id"]))


@pytest.mark.parametrize("kind", ["rgb-u8", "rgb-float", "gray-u8"])
def test_transparency_stays(console: Gimp, open_photo: OpenPhoto, kind: str) -> None:
    photo = open_photo(**KINDS[kind])
    console.do("add_alpha_ramp", photo.layer)
    original = console.pixels(photo.layer)[..., 3]
    assert original.min() == 0
    assert original.max() == 1
    painted = console.pixels(paint(photo)["id"])[..., 3]
    np.testing.assert_allclose(painted, original, atol=0.5 / 255)


def test_colours_under_transparency_change_nothing(console: Gimp, open_photo: OpenPhoto) -> None:
    painted = []
    for level in (0, 255):
        photo = open_photo()
        console.do("cut_out", photo.layer, level)
        painted.append(console.pixels(paint(photo)["id"]))
    assert np.array_equal(*painted)


def test_a_layer_that_sticks_out_of_the_canvas(console: Gimp, open_photo: OpenPhoto) -> None:
    """The whole layer is painted, and the result has its offsets."""
    photo = open_photo()
    console.do("crop_canvas", photo.image, 300, 200, 80, 60)
    old = photo.layers()[0]
    assert geometry(old) == (-80, -60, 451, 300)
    new = paint(photo)
    assert geometry(new) == geometry(old)
    looks_painted(photo, new, old)


def test_a_layer_in_a_group(console: Gimp, open_photo: OpenPhoto) -> None:
    """The new layer is in the same group, right above."""
    photo = open_photo()
    copy = console.do("duplicate", photo.layer)
    group = console.do("add_group", photo.image, copy, photo.layer)
    new = paint(photo)
    assert new["parent"] == group
    assert photo.above(photo.layer) == new
    assert [layer["name"] for layer in photo.layers()].index(new["name"]) == 2


def test_a_group_is_painted_as_it_looks(console: Gimp, open_photo: OpenPhoto) -> None:
    """The new layer is above the group and has its size."""
    photo = open_photo()
    console.do("grow_canvas", photo.image, 600, 400, 40, 30)
    group = console.do("add_group", photo.image, photo.layer)
    new = paint(photo, group)
    assert photo.above(group) == new
    assert new["parent"] is None
    assert geometry(new) == (40, 30, 451, 300)


def test_a_mask_that_is_edited_means_its_layer(console: Gimp, open_photo: OpenPhoto) -> None:
    photo = open_photo()
    mask = console.do("add_mask", photo.layer)
    old = photo.layers()[0]
    new = paint(photo, mask)
    assert photo.above(photo.layer) == new
    assert geometry(new) == geometry(old)
    assert new["mask"] is None


def test_the_same_seed_gives_the_same_picture(console: Gimp, open_photo: OpenPhoto) -> None:
    photo = open_photo()
    first, second = (console.do("fingerprint", paint(photo)["id"]) for _ in range(2))
    assert first == second
