"""Invisible colours change nothing, and visible ones are resized as they look."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nstrt.plugins.worker.pixels import FORMATS, from_pixels
from nstrt.runtime.analysis.compare import compare
from nstrt.runtime.pictures import Picture, as_picture, read_picture, resize_visible, upscale
from nstrt.runtime.pictures.luminance import with_chroma_of
from nstrt.runtime.pictures.transparency import continue_colors

RANDOM = np.random.default_rng(5)
PHOTO = RANDOM.random((42, 57, 3), np.float32)
ROWS, COLUMNS = np.mgrid[:42, :57]
DISC = ((COLUMNS - 28) ** 2 + (ROWS - 20) ** 2 < 225).astype(np.float32)
SOFT = np.clip(1.5 - np.hypot(COLUMNS - 28, ROWS - 20) / 20, 0, 1).astype(np.float32)
LIGHT = np.array([0.98, 0.94, 0.9], np.float32)


def hiding(hidden: float, alpha: NDArray[np.float32], kind: str = "f4") -> NDArray[np.generic]:
    """A cut-out, height x width x 4, with the colour ``hidden`` where nobody sees it."""
    values = np.dstack([np.where(alpha[..., None] > 0, PHOTO, np.float32(hidden)), alpha])
    if kind == "f4":
        return values.astype(np.float32)
    return np.rint(values * np.iinfo(kind).max).astype(kind)


@pytest.mark.parametrize("alpha", [DISC, SOFT], ids=["disc", "soft"])
@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_arrays_of_equal_look_are_equal_pictures(alpha: NDArray[np.float32], kind: str) -> None:
    one, two = (Picture.from_array(hiding(hidden, alpha, kind)) for hidden in (0, 1))
    assert np.array_equal(one.to_array(), two.to_array())
    assert one.sha256 == two.sha256


@pytest.mark.parametrize("hidden", [np.nan, np.inf, -3.0, 7.0, -0.0])
def test_invisible_values_may_be_anything(hidden: float) -> None:
    plain = Picture.from_array(hiding(0, DISC))
    assert Picture.from_array(hiding(hidden, DISC)).sha256 == plain.sha256
    rgba = hiding(hidden, DISC)
    assert Picture(rgb=rgba[..., :3], alpha=DISC).sha256 == plain.sha256
    pixels = from_pixels(memoryview(rgba.tobytes()), width=57, height=42, format=FORMATS["rgbaf"])
    assert np.array_equal(pixels.to_array(), plain.to_array())


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_files_and_pillow_objects_of_equal_look_are_equal(tmp_path: Path, suffix: str) -> None:
    pictures = []
    for hidden in (0, 1):
        image = Image.fromarray(hiding(hidden, DISC, "u1"))
        lossless = {"lossless": True, "exact": True} if suffix == "webp" else {}
        path = tmp_path / f"{hidden}.{suffix}"
        image.save(path, **lossless)
        pictures += [read_picture(path), as_picture(image)]
    for other in pictures[1:]:
        assert np.array_equal(pictures[0].to_array(), other.to_array())
    assert compare(tmp_path / f"0.{suffix}", tmp_path / f"1.{suffix}").equal


def test_gray_with_transparency_stays_gray() -> None:
    gray = np.repeat(PHOTO[..., :1], 3, axis=2)
    picture = Picture(rgb=gray, alpha=SOFT)
    for rgb in (picture.rgb, picture.smoothed().rgb, resize_visible(gray, SOFT, 20, 15)):
        assert np.ptp(rgb, axis=2).max() == 0


def test_visible_colours_are_kept_and_the_rest_continues_them() -> None:
    rgb = np.where(DISC[..., None] > 0, LIGHT, np.float32(0))
    filled = continue_colors(rgb, DISC)
    assert np.array_equal(filled[DISC > 0], rgb[DISC > 0])
    assert np.abs(filled - LIGHT).max() < 1e-5
    assert continue_colors(filled, DISC) is not filled
    assert np.array_equal(continue_colors(filled, DISC), filled)
    assert continue_colors(rgb, np.ones_like(DISC)) is rgb


def test_the_continuation_has_no_edge() -> None:
    """A jump of 29 / 57 at the boundary becomes a few times the slope."""
    slope = np.repeat(COLUMNS[..., None] / 57, 3, axis=2).astype(np.float32)
    alpha = (COLUMNS < 30).astype(np.float32)
    filled = continue_colors(np.where(alpha[..., None] > 0, slope, np.float32(0)), alpha)
    assert np.abs(np.diff(filled[..., 0], axis=1)).max() < 5 / 57


def test_a_picture_without_a_visible_pixel_is_black() -> None:
    picture = Picture(rgb=PHOTO, alpha=np.zeros_like(DISC))
    assert picture.rgb.max() == 0


def test_values_of_the_caller_stay_as_they_are() -> None:
    rgb = hiding(0.3, DISC)[..., :3].copy()
    before = rgb.copy()
    Picture(rgb=rgb, alpha=DISC)
    Picture(rgb=rgb, alpha=np.ones_like(DISC))
    assert np.array_equal(rgb, before)
    assert rgb.flags.writeable


@pytest.mark.parametrize("size", [(20, 15), (57, 42), (90, 66)])
@pytest.mark.parametrize("hidden", [0.0, 1.0])
def test_a_light_cut_out_gets_no_dark_ring(size: tuple[int, int], hidden: float) -> None:
    rgb = np.where(DISC[..., None] > 0, LIGHT, np.float32(hidden))
    picture = Picture(rgb=rgb, alpha=DISC)
    resized = resize_visible(picture.rgb, picture.alpha, *size)
    assert np.abs(resized - LIGHT).max() < 1e-5


@pytest.mark.parametrize("size", [(20, 15), (29, 21)])
def test_resizing_keeps_the_look_over_any_background(size: tuple[int, int]) -> None:
    """Pillow's own resizing of RGBA, which weights by opacity, is the reference."""
    picture = Picture.from_array(hiding(0, SOFT, "u1"))
    reference = picture.to_pillow().resize(size, Image.Resampling.LANCZOS)
    expected = np.asarray(reference, np.float32) / 255
    resized = resize_visible(picture.rgb, picture.alpha, *size)
    seen = (resized - expected[..., :3]) * expected[..., 3:]
    assert np.abs(seen).max() < 6 / 255


def test_opaque_transparency_resizes_as_none() -> None:
    opaque = resize_visible(PHOTO, np.ones_like(DISC), 20, 15)
    assert np.array_equal(opaque, resize_visible(PHOTO, None, 20, 15))


def test_nearly_invisible_colours_do_not_count() -> None:
    """Over any background, a pixel of opacity 1/255 shows its colour with at most one level."""
    rgb = np.where(DISC[..., None] > 0, LIGHT, np.float32([1, 0, 1]))
    faint = np.maximum(DISC, np.float32(1 / 255))
    picture = Picture(rgb=rgb, alpha=faint).smoothed()
    assert np.array_equal(picture.rgb[DISC > 0], rgb[DISC > 0])
    near = (DISC == 0) & (SOFT > 0.6)
    assert np.abs(picture.rgb - LIGHT)[near].max() < 0.25
    assert Picture(rgb=rgb, alpha=DISC).smoothed().alpha is DISC


@pytest.mark.parametrize("alpha", [DISC, SOFT], ids=["disc", "soft"])
def test_detail_and_chroma_of_hidden_colours_are_not_transferred(
    alpha: NDArray[np.float32],
) -> None:
    small = RANDOM.random((21, 28, 3), np.float32)
    one, two = (Picture.from_array(hiding(hidden, alpha)) for hidden in (0, 1))
    for transfer in (upscale, with_chroma_of):
        first, second = (transfer(small, photo.rgb, photo.alpha) for photo in (one, two))
        assert np.array_equal(first, second)


def test_a_result_hides_the_continuation_of_its_paint(tmp_path: Path) -> None:
    from nstrt.runtime.pictures import save

    content = io.BytesIO()
    save(Picture(rgb=PHOTO, alpha=DISC), tmp_path / "out.png", recipe=None, overwrite=False)
    content.write((tmp_path / "out.png").read_bytes())
    stored = np.asarray(Image.open(content), np.float32) / 255
    expected = continue_colors(PHOTO, DISC)
    assert np.abs(stored[..., :3] - expected).max() <= 0.5 / 255 + 1e-6
