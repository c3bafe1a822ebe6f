"""Lightness and chroma: formulas against scikit-image, and results in the photo's colors."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.color import lab2rgb, rgb2lab

from nstrt.runtime import Picture, StyleTransfer, StylizeOptions
from nstrt.runtime.pictures import as_picture, resize, to_gray_pair, with_chroma_of
from nstrt.runtime.pictures.colors.lab import lightness

from support import CAT, EMBER


def noise(height: int, width: int, low: float = 0, high: float = 1) -> NDArray[np.float32]:
    return np.random.default_rng(1).uniform(low, high, (height, width, 3)).astype(np.float32)


def test_lightness_agrees_with_scikit_image() -> None:
    values = noise(40, 50)
    np.testing.assert_allclose(lightness(values), rgb2lab(values)[..., 0], atol=0.02)


def test_gray_style_has_the_photo_mean_and_deviation() -> None:
    photo = Picture(rgb=noise(40, 50, 0.3, 0.6))
    painting = Picture(rgb=noise(30, 60, 0.35, 0.9))
    gray, matched = to_gray_pair(photo, painting)
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


def test_style_of_one_tone_gives_finite_values() -> None:
    flat = Picture(rgb=np.full((20, 20, 3), 0.4, np.float32))
    _, matched = to_gray_pair(Picture(rgb=noise(20, 20)), flat)
    assert np.isfinite(matched.rgb).all()


def test_with_chroma_of_keeps_lightness_and_takes_the_photo_chroma() -> None:
    painted = noise(24, 36, 0.4, 0.6)
    photo = noise(24, 36, 0.45, 0.55)
    actual = with_chroma_of(painted, photo)
    lab = np.concatenate([rgb2lab(painted)[..., :1], rgb2lab(photo)[..., 1:]], axis=2)
    np.testing.assert_allclose(actual, lab2rgb(lab), atol=2e-3)


def test_out_of_gamut_colors_keep_chroma_and_move_in_lightness() -> None:
    photo = noise(60, 80)
    painted = np.random.default_rng(7).uniform(0, 1, (60, 80, 1)).astype(np.float32).repeat(3, 2)
    requested, photo_lab = lightness(painted), rgb2lab(photo)
    actual = rgb2lab(with_chroma_of(painted, photo))
    np.testing.assert_allclose(actual[..., 1:], photo_lab[..., 1:], atol=0.06)
    # Lightness moves towards the photo's, and only outside the gamut.
    between = (
        np.minimum(requested, photo_lab[..., 0]) - 0.05,
        np.maximum(requested, photo_lab[..., 0]) + 0.05,
    )
    assert ((actual[..., 0] >= between[0]) & (actual[..., 0] <= between[1])).all()
    changed = np.abs(actual[..., 0] - requested) > 0.5
    assert 0.05 < changed.mean() < 0.95
    nearer = actual[changed]
    nearer[:, 0] += 0.5 * np.sign(requested[changed] - nearer[:, 0])
    assert (np.abs(rgb2lab(lab2rgb(nearer)) - nearer).max(1) > 1e-2).all()


def test_results_in_the_photo_colors_have_its_chroma() -> None:
    options = StylizeOptions.of(size=96, scales=1, iterations=12, color="content", engine="onnx")
    result = StyleTransfer(options).stylize(CAT, EMBER)
    photo = resize(as_picture(CAT).rgb, result.picture.width, result.picture.height)
    saved = result.picture.to_array(np.uint8)
    distances = np.hypot(*np.moveaxis(rgb2lab(saved)[..., 1:] - rgb2lab(photo)[..., 1:], 2, 0))
    # One unit is about the smallest visible difference; rounding to 8 bits takes half of it.
    assert distances.mean() < 0.5
    assert distances.max() < 1.5
    assert result.painted > 0.3
    # The result differs from the photo.
    assert np.abs(lightness(result.picture.rgb) - lightness(photo)).mean() > 2


def test_transparent_pixels_do_not_affect_lightness() -> None:
    photo, painting = noise(40, 50, 0.3, 0.6), noise(30, 60, 0.35, 0.9)
    alpha = np.zeros((40, 50), np.float32)
    alpha[:, :25] = 1
    hidden = photo.copy()
    hidden[:, 25:] = 1
    _, matched = to_gray_pair(Picture(rgb=hidden, alpha=alpha), Picture(rgb=painting))
    _, expected = to_gray_pair(Picture(rgb=photo[:, :25].copy()), Picture(rgb=painting))
    np.testing.assert_allclose(matched.rgb, expected.rgb, atol=2e-4)
