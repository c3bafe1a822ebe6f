"""Color transfer: formulas against plain loops, and properties of any pair of pictures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from skimage.color import lab2rgb, rgb2lab

from nstrt.runtime import Picture, StyleTransfer, StylizeOptions
from nstrt.runtime.options.choices import MATCHES
from nstrt.runtime.pictures import match_colors, read_picture
from nstrt.runtime.pictures.color_transfer import histogram_map, linear_map, transport_matrix
from nstrt.runtime.pictures.colors.lab import from_lab, map_to_gamut, to_lab

from support import CAT, EMBER


def random_colors(
    height: int, width: int, centre: tuple[float, ...], spread: float, seed: int = 1
) -> NDArray[np.float32]:
    """Random colours with correlated channels, well inside 0..1."""
    random = np.random.default_rng(seed)
    mixing = np.eye(3) + random.uniform(-0.4, 0.4, (3, 3))
    mixed = random.normal(size=(height, width, 3)) @ mixing * spread
    return np.clip(np.array(centre) + np.clip(mixed, -0.2, 0.2), 0, 1).astype(np.float32)


def moments(rgb: NDArray[np.float32], weights: NDArray[np.float32] | None = None) -> tuple:
    """Compute mean and covariance by loops in double precision."""
    pixels = rgb.reshape(-1, 3).astype(np.float64)
    each = [1.0] * len(pixels) if weights is None else weights.reshape(-1).astype(float).tolist()
    mean, covariance = np.zeros(3), np.zeros((3, 3))
    for pixel, weight in zip(pixels, each, strict=True):
        mean += weight * pixel / sum(each)
    for pixel, weight in zip(pixels, each, strict=True):
        for row in range(3):
            for column in range(3):
                product = (pixel[row] - mean[row]) * (pixel[column] - mean[column])
                covariance[row, column] += weight * product / sum(each)
    return mean, covariance


def test_lab_agrees_with_scikit_image_and_round_trips() -> None:
    values = np.random.default_rng(2).uniform(0, 1, (40, 50, 3)).astype(np.float32)
    lab = to_lab(values)
    np.testing.assert_allclose(lab, rgb2lab(values.astype(np.float64)), atol=0.03)
    np.testing.assert_allclose(from_lab(lab), lab2rgb(rgb2lab(values)), atol=2e-4)
    np.testing.assert_allclose(from_lab(lab), values, atol=2e-5)
    gray = np.linspace(0, 1, 256, dtype=np.float32)[None, :, None].repeat(3, 2)
    np.testing.assert_allclose(to_lab(gray)[..., 1:], 0, atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(lightness=st.floats(-10, 110), a=st.floats(-150, 150), b=st.floats(-150, 150))
def test_gamut_mapping_keeps_lightness_and_hue(lightness: float, a: float, b: float) -> None:
    requested = np.array([[[lightness, a, b]]], np.float32)
    shown = map_to_gamut(requested)[0, 0]
    assert shown[0] == pytest.approx(min(100, max(0, lightness)), abs=0.01)
    assert abs(shown[1] * b - shown[2] * a) < 1e-2 * (1 + math.hypot(a, b))
    assert math.hypot(*shown[1:]) <= math.hypot(a, b) + 1e-3
    # The colour lies inside sRGB: no channel is clipped in the round trip.
    np.testing.assert_allclose(to_lab(from_lab(shown[None, None]))[0, 0], shown, atol=0.1)


def test_gamut_mapping_keeps_colors_inside_and_stops_at_the_edge() -> None:
    inside = to_lab(random_colors(20, 20, (0.5, 0.4, 0.6), 0.1))
    np.testing.assert_array_equal(map_to_gamut(inside), inside)
    requested = np.array([[[50.0, 120.0, 0.0]]], np.float32)
    shown = map_to_gamut(requested)[0, 0]
    chromas = np.arange(0, 121, 0.05)
    line = np.stack([np.full_like(chromas, 50), chromas, np.zeros_like(chromas)], 1)[None]
    back = rgb2lab(lab2rgb(line))
    most = chromas[np.abs(back - line).max(2)[0] < 0.05].max()
    assert shown[1] == pytest.approx(most, abs=0.2)


def test_covariance_matching_gives_the_target_mean_and_covariance() -> None:
    photo = random_colors(30, 40, (0.45, 0.5, 0.55), 0.03, seed=1)
    painting = random_colors(25, 35, (0.55, 0.45, 0.5), 0.04, seed=3)
    matched = match_colors(Picture(rgb=photo), Picture(rgb=painting), "covariance").rgb
    assert matched.min() > 0.02
    assert matched.max() < 0.98
    for actual, expected in zip(moments(matched), moments(painting), strict=True):
        np.testing.assert_allclose(actual, expected, atol=2e-5)


def test_transport_matrix_is_symmetric_and_minimises_color_changes() -> None:
    _, source = moments(random_colors(20, 20, (0.5, 0.5, 0.5), 0.03, seed=1))
    _, target = moments(random_colors(20, 20, (0.5, 0.5, 0.5), 0.05, seed=3))
    actual = transport_matrix(source, target)
    root, inverse = sqrtm(source), np.linalg.inv(sqrtm(source))
    np.testing.assert_allclose(actual, inverse @ sqrtm(root @ target @ root) @ inverse, rtol=1e-6)
    np.testing.assert_allclose(actual, actual.T, atol=1e-12)
    np.testing.assert_allclose(actual @ source @ actual.T, target, atol=1e-10)
    # The choice of Gatys et al. gives the same covariance with equal or larger changes.
    theirs = sqrtm(target) @ inverse
    np.testing.assert_allclose(theirs @ source @ theirs.T, target, atol=1e-10)

    def mean_change(matrix: NDArray[np.float64]) -> float:
        change = matrix - np.eye(3)
        return float(np.trace(change @ source @ change.T))

    assert mean_change(actual) <= mean_change(theirs)


@pytest.mark.parametrize("method", MATCHES)
def test_matching_a_picture_with_itself_changes_little(method: str) -> None:
    photo = Picture(rgb=random_colors(40, 40, (0.5, 0.4, 0.6), 0.05))
    difference = np.abs(match_colors(photo, photo, method).rgb - photo.rgb)
    # The smoothed histogram map deviates where colours are rare.
    assert difference.mean() < 1e-3
    assert difference.max() < (1e-4 if method == "covariance" else 0.06)


def test_histogram_matching_is_closer_than_covariance_matching() -> None:
    photo, painting = read_picture(CAT), read_picture(EMBER)
    shares = (np.arange(200) + 0.5) / 200

    def quantile_distance(picture: Picture) -> float:
        """Return the mean distance of the quantiles of L*, a* and b*."""
        actual, requested = (
            np.quantile(rgb2lab(each.rgb).reshape(-1, 3), shares, axis=0)
            for each in (picture, painting)
        )
        return float(np.abs(actual - requested).mean())

    by_covariance = quantile_distance(match_colors(photo, painting, "covariance"))
    by_histogram = quantile_distance(match_colors(photo, painting, "histogram"))
    assert by_histogram < 0.75 * by_covariance < 0.75 * 0.6 * quantile_distance(photo)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), skew=st.floats(0.2, 5), weighted=st.booleans())
def test_histogram_map_is_monotone_with_limited_slopes(
    seed: int, skew: float, weighted: bool
) -> None:
    random = np.random.default_rng(seed)
    values, target = random.uniform(0, 50, 500), 100 * random.uniform(0, 1, 400) ** skew
    weights = random.uniform(0, 1, 500) if weighted else None
    knots, mapped = histogram_map(values, target, weights)
    slopes = np.diff(mapped) / np.diff(knots)
    assert slopes.min() > 0
    assert slopes.max() <= 2 + 1e-9
    actual = np.interp(values, knots, mapped)
    assert np.average(actual, weights=weights) == pytest.approx(target.mean(), abs=1e-6)


def test_histogram_map_of_squares_is_the_square() -> None:
    # The squares of uniform values: h(x) = x² where its slope 2x lies within the limits.
    values = np.linspace(0, 1, 2001)
    knots, mapped = histogram_map(values, values**2)
    inner = (knots > 0.25) & (knots < 0.9)
    np.testing.assert_allclose(mapped[inner], knots[inner] ** 2, atol=0.02)


def flat(level: float) -> NDArray[np.float32]:
    return np.full((24, 24, 3), level, np.float32)


DEGENERATE = {
    "black": flat(0),
    "white": flat(1),
    "middle": flat(0.4),
    "one color": np.tile(np.array([0.9, 0.1, 0.2], np.float32), (24, 24, 1)),
    "gray": np.random.default_rng(1).uniform(0, 1, (24, 24, 1)).astype(np.float32).repeat(3, 2),
    "two colors": np.where(np.arange(24)[:, None, None] < 12, flat(0), np.float32([1, 0, 0])),
    "colors": random_colors(24, 24, (0.5, 0.3, 0.7), 0.1),
}


@pytest.mark.parametrize("method", MATCHES)
@pytest.mark.parametrize("one", DEGENERATE)
@pytest.mark.parametrize("other", DEGENERATE)
def test_degenerate_pictures_give_finite_values(method: str, one: str, other: str) -> None:
    photo, painting = (Picture(rgb=DEGENERATE[name]) for name in (one, other))
    with np.errstate(all="raise"):
        matched = match_colors(photo, painting, method).rgb
    assert matched.dtype == np.float32
    assert np.isfinite(matched).all()
    assert matched.min() >= 0
    assert matched.max() <= 1


@pytest.mark.parametrize("method", MATCHES)
def test_matching_a_gray_target_gives_gray(method: str) -> None:
    target = Picture(rgb=DEGENERATE["gray"])
    matched = match_colors(Picture(rgb=DEGENERATE["colors"]), target, method).rgb
    assert np.abs(matched - matched.mean(2, keepdims=True)).max() < 2e-3
    assert matched.mean() == pytest.approx(target.rgb.mean(), abs=0.05)


@pytest.mark.parametrize("method", MATCHES)
def test_matching_keeps_smooth_gradients(method: str) -> None:
    across = np.linspace(0, 1, 4096, dtype=np.float32)[None, :, None]
    sky = np.float32([0.35, 0.5, 0.7]) + across * np.float32([0.2, 0.15, 0.1])
    sky = sky.repeat(16, 0)
    matched = match_colors(Picture(rgb=sky, depth=16), read_picture(EMBER), method)
    assert matched.depth == 16
    lab = to_lab(matched.rgb)
    # Lightness covers more than 40 units in steps of a tenth of a visible difference.
    assert np.ptp(lab[..., 0]) > 40
    assert np.abs(np.diff(lab, axis=1)).max() < 0.1
    levels = [len(np.unique(np.rint(matched.rgb[..., c] * 65535))) for c in range(3)]
    assert min(levels) > 256


@pytest.mark.parametrize("method", MATCHES)
def test_transparent_pixels_do_not_affect_matching(method: str) -> None:
    photo = random_colors(30, 40, (0.4, 0.5, 0.6), 0.03)
    painting = random_colors(30, 40, (0.6, 0.5, 0.4), 0.03, seed=3)
    alpha = np.zeros((30, 40), np.float32)
    alpha[:, :20] = 1
    hidden = photo.copy()
    hidden[:, 20:] = [1, 0, 0]
    of_half = Picture(rgb=photo[:, :20].copy())
    matched = match_colors(Picture(rgb=hidden, alpha=alpha), Picture(rgb=painting), method)
    expected = match_colors(of_half, Picture(rgb=painting), method)
    np.testing.assert_allclose(matched.rgb[:, :20], expected.rgb, atol=1e-5)
    np.testing.assert_array_equal(matched.alpha, alpha)
    matched = match_colors(Picture(rgb=painting), Picture(rgb=hidden, alpha=alpha), method)
    expected = match_colors(Picture(rgb=painting), of_half, method)
    np.testing.assert_allclose(matched.rgb, expected.rgb, atol=1e-5)


def test_linear_map_weights_pixels_by_opacity() -> None:
    values, target = (
        random_colors(12, 12, (0.5, 0.5, 0.5), 0.03),
        random_colors(9, 9, (0.5, 0.5, 0.5), 0.05),
    )
    alpha = np.random.default_rng(5).uniform(0, 1, (12, 12)).astype(np.float32)
    mean, covariance = moments(values, alpha)
    target_mean, target_covariance = moments(target)
    matrix, shift = linear_map(
        values.reshape(-1, 3).astype(float),
        target.reshape(-1, 3).astype(float),
        alpha.reshape(-1).astype(float),
    )
    np.testing.assert_allclose(matrix @ mean + shift, target_mean, atol=1e-9)
    np.testing.assert_allclose(matrix @ covariance @ matrix.T, target_covariance, atol=1e-9)


def distance(rgb: NDArray[np.float32], palette: NDArray[np.float32]) -> float:
    """Return the distance of two pictures' mean colours in L*a*b*."""
    means = [rgb2lab(each).reshape(-1, 3).mean(0) for each in (rgb, palette)]
    return float(np.linalg.norm(means[0] - means[1]))


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_results_have_the_palette_of_their_target(engine: str) -> None:
    photo, painting = read_picture(CAT), read_picture(EMBER)
    common = {"size": 96, "scales": 1, "iterations": 8, "strength": 0.0, "engine": engine}
    results = {
        color: StyleTransfer(StylizeOptions.of(color=color, **common)).stylize(photo, painting)
        for color in ("style", "match-style", "match-content")
    }
    from_photo = {c: distance(r.picture.rgb, photo.rgb) for c, r in results.items()}
    from_painting = {c: distance(r.picture.rgb, painting.rgb) for c, r in results.items()}
    assert from_photo["match-content"] < from_photo["style"] / 3
    assert from_painting["match-style"] < from_painting["style"] / 2


def test_original_size_adds_detail_of_the_matched_photo() -> None:
    photo, painting = read_picture(CAT), read_picture(EMBER)
    options = StylizeOptions.of(
        size=64, scales=1, iterations=4, color="match-style", original_size=True, engine="torch"
    )
    result = StyleTransfer(options).stylize(photo, painting)
    assert result.picture.size == photo.size
    assert distance(result.picture.rgb, painting.rgb) < distance(photo.rgb, painting.rgb) / 2
    assert result.recipe["options"]["color_match"] == "covariance"
