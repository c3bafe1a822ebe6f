"""Painting in lightness alone: formulas against scikit-image, and what holds of results."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.color import lab2rgb, rgb2lab

from nstrt.runtime import Picture, StyleTransfer, StylizeOptions
from nstrt.runtime.pictures import as_picture, gray_pair, resize, with_colours_of
from nstrt.runtime.pictures.lab import lightness

from support import EXAMPLES

CAT, EMBER = EXAMPLES / "cat.jpg", EXAMPLES / "ember.jpg"


def noise(height: int, width: int, low: float = 0, high: float = 1) -> NDArray[np.float32]:
    return np.random.default_rng(1).uniform(low, high, (height, width, 3)).astype(np.float32)


def test_lightness_is_that_of_cie_lab() -> None:
    values = noise(40, 50)
    np.testing.assert_allclose(lightness(values), rgb2lab(values)[..., 0], atol=0.02)


def test_grays_have_the_photo_s_mean_and_spread() -> None:
    photo = Picture(rgb=noise(40, 50, 0.3, 0.6))
    painting = Picture(rgb=noise(30, 60, 0.35, 0.9))
    gray, matched = gray_pair(photo, painting)
    for picture in (gray, matched):
        np.testing.assert_allclose(
            picture.rgb, picture.rgb.mean(2, keepdims=True).repeat(3, 2), atol=2e-4
        )
    of_photo, of_painting = lightness(gray.rgb), lightness(matched.rgb)
    np.testing.assert_allclose(of_photo, lightness(photo.rgb), atol=0.02)
    assert of_painting.mean() == pytest.approx(of_photo.mean(), abs=0.02)
    assert of_painting.std() == pytest.approx(of_photo.std(), abs=0.02)
    expected = lightness(painting.rgb)
    expected = (expected - expected.mean()) / expected.std() * of_photo.std() + of_photo.mean()
    np.testing.assert_allclose(of_painting, expected, atol=0.02)


def test_a_painting_of_one_tone_gives_no_nan() -> None:
    flat = Picture(rgb=np.full((20, 20, 3), 0.4, np.float32))
    _, matched = gray_pair(Picture(rgb=noise(20, 20)), flat)
    assert np.isfinite(matched.rgb).all()


def test_colours_come_from_the_photo_and_lightness_stays() -> None:
    painted = noise(24, 36, 0.4, 0.6)
    photo = noise(24, 36, 0.45, 0.55)
    found = with_colours_of(painted, photo)
    lab = np.concatenate([rgb2lab(painted)[..., :1], rgb2lab(photo)[..., 1:]], axis=2)
    np.testing.assert_allclose(found, lab2rgb(lab), atol=2e-3)


def test_colours_stay_the_photo_s_where_srgb_cannot_show_them_as_light_or_dark() -> None:
    photo = noise(60, 80)
    painted = np.random.default_rng(7).uniform(0, 1, (60, 80, 1)).astype(np.float32).repeat(3, 2)
    wanted, own = lightness(painted), rgb2lab(photo)
    found = rgb2lab(with_colours_of(painted, photo))
    np.testing.assert_allclose(found[..., 1:], own[..., 1:], atol=0.06)
    # Lightness gives way towards the photo's, and only where it has to.
    between = (np.minimum(wanted, own[..., 0]) - 0.05, np.maximum(wanted, own[..., 0]) + 0.05)
    assert ((found[..., 0] >= between[0]) & (found[..., 0] <= between[1])).all()
    moved = np.abs(found[..., 0] - wanted) > 0.5
    assert 0.05 < moved.mean() < 0.95
    nearer = found[moved]
    nearer[:, 0] += 0.5 * np.sign(wanted[moved] - nearer[:, 0])
    assert (np.abs(rgb2lab(lab2rgb(nearer)) - nearer).max(1) > 1e-2).all()


def test_a_result_with_the_photo_s_colours_has_them() -> None:
    options = StylizeOptions.of(size=96, scales=1, iterations=12, color="content", engine="onnx")
    result = StyleTransfer(options).stylize(CAT, EMBER)
    photo = resize(as_picture(CAT).rgb, result.picture.width, result.picture.height)
    saved = result.picture.to_array(np.uint8)
    off = np.hypot(*np.moveaxis(rgb2lab(saved)[..., 1:] - rgb2lab(photo)[..., 1:], 2, 0))
    # One unit is about what can be told apart; rounding to 8 bits takes half of that.
    assert off.mean() < 0.5
    assert off.max() < 1.5
    assert result.painted > 0.3
    # It was painted, not only kept.
    assert np.abs(lightness(result.picture.rgb) - lightness(photo)).mean() > 2


def test_what_is_transparent_does_not_count() -> None:
    photo, painting = noise(40, 50, 0.3, 0.6), noise(30, 60, 0.35, 0.9)
    alpha = np.zeros((40, 50), np.float32)
    alpha[:, :25] = 1
    hidden = photo.copy()
    hidden[:, 25:] = 1
    _, seen = gray_pair(Picture(rgb=hidden, alpha=alpha), Picture(rgb=painting))
    _, expected = gray_pair(Picture(rgb=photo[:, :25].copy()), Picture(rgb=painting))
    np.testing.assert_allclose(seen.rgb, expected.rgb, atol=2e-4)
