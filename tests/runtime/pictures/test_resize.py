"""Resizing with a Lanczos filter, and upscaling with the photo's detail."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st

from nstrt.runtime.errors import OptionError
from nstrt.runtime.pictures import resize, upscale
from nstrt.runtime.pictures import values as values_module
from nstrt.runtime.pictures.shock_filter import enlarge_strokes

RANDOM = np.random.default_rng(5)
SIDES = st.integers(1, 70)


def photo(height: int = 256, width: int = 320) -> np.ndarray:
    """Return a part of scikit-image's astronaut."""
    whole = skimage.data.astronaut()[:height, 60 : 60 + width]
    return (whole / 255).astype(np.float32)


def psnr(one: np.ndarray, two: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((one.astype(np.float64) - two) ** 2)))


# Resizing


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from([(), (1,), (3,), (4,)]))
@settings(max_examples=60, deadline=None)
def test_resize_gives_the_exact_size_and_keeps_flat_areas(
    height: int, width: int, new_height: int, new_width: int, channels: tuple[int, ...]
) -> None:
    value = np.float32(0.3)
    flat = np.full((height, width, *channels), value, np.float32)
    resized = resize(flat, new_width, new_height)
    assert resized.shape == (new_height, new_width, *channels)
    assert resized.dtype == np.float32
    assert np.abs(resized - value).max() < 1e-6


@given(SIDES, SIDES)
@settings(max_examples=20, deadline=None)
def test_resize_to_the_same_size_changes_nothing(height: int, width: int) -> None:
    values = np.random.default_rng(height).random((height, width, 3), np.float32)
    assert np.array_equal(resize(values, width, height), values)
    assert np.array_equal(resize(values * 3 - 1, width, height, clip=False), values * 3 - 1)


@pytest.mark.parametrize("size", [(80, 64), (37, 91), (700, 500), (320, 11)])
def test_resize_keeps_the_mean(size: tuple[int, int]) -> None:
    values = photo()
    resized = resize(values, *size)
    assert np.abs(resized.mean(axis=(0, 1)) - values.mean(axis=(0, 1))).max() < 0.01


def test_shrinking_does_not_alias() -> None:
    stripes = np.tile(np.array([0, 1], np.float32), (64, 32))
    middle = resize(stripes, 16, 16)[:, 2:-2]
    assert np.abs(middle - 0.5).max() < 0.02


def test_enlarging_then_shrinking_restores_the_picture() -> None:
    values = photo()
    enlarged = resize(values, 640, 512, clip=False)
    assert psnr(resize(enlarged, 320, 256, clip=False), values) > 40


@pytest.mark.parametrize("size", [(250, 333), (900, 700), (640, 256), (320, 77)])
def test_strips_leave_no_seams(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    values = photo()
    monkeypatch.setattr(values_module, "_STRIP_PIXELS", 2000)
    in_strips = resize(values, *size, clip=False)
    monkeypatch.setattr(values_module, "_STRIP_PIXELS", 1 << 30)
    assert np.abs(in_strips - resize(values, *size, clip=False)).max() < 1e-5


def test_resize_does_not_shift_pictures() -> None:
    ramp = np.broadcast_to(np.linspace(0.1, 0.9, 40, dtype=np.float32), (30, 40)).copy()
    for width in (20, 80, 77):
        centres = (np.arange(width) + 0.5) * 40 / width - 0.5
        expected = 0.1 + centres * 0.8 / 39
        inside = slice(width // 4, -width // 4)
        assert np.abs(resize(ramp, width, 30)[15] - expected)[inside].max() < 2e-3


def test_overshoot_is_clipped_by_default() -> None:
    edge = np.zeros((20, 20), np.float32)
    edge[:, 10:] = 1
    free = resize(edge, 60, 60, clip=False)
    assert free.min() < -0.01
    assert free.max() > 1.01
    assert np.array_equal(resize(edge, 60, 60), np.clip(free, 0, 1))


def test_resize_is_deterministic_and_does_not_change_its_input() -> None:
    values = photo()
    before = values.copy()
    assert np.array_equal(resize(values, 100, 333), resize(values, 100, 333))
    assert np.array_equal(values, before)
    values.setflags(write=False)
    resize(values[::-1], 50, 50)


@pytest.mark.parametrize(
    ("array", "width", "height"),
    [
        (np.zeros((20, 20), np.float64), 5, 5),
        (np.zeros((20, 20, 3), np.uint8), 5, 5),
        (np.zeros(20, np.float32), 5, 5),
        (np.zeros((20, 20), np.float32), 0, 5),
        (np.zeros((20, 20), np.float32), 5, -1),
    ],
)
def test_resize_refuses_other_arrays_and_sizes(array: np.ndarray, width: int, height: int) -> None:
    with pytest.raises(OptionError):
        resize(array, width, height)


# Upscaling

WEIGHTS = np.array([0.2126, 0.7152, 0.0722])


def gain_by_loops(result: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Compute equation 5 of He, Sun and Tang (2013) window by window in float64."""
    height, width = low.shape
    gain = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            window = slice(max(0, i - 4), i + 5), slice(max(0, j - 4), j + 5)
            x, y = low[window].ravel(), result[window].ravel()
            covariance = np.mean((x - x.mean()) * (y - y.mean()))
            gain[i, j] = np.clip(covariance / (np.mean((x - x.mean()) ** 2) + 4e-4), 0, 1)
    return gain


def local_mean_square(plane: np.ndarray) -> np.ndarray:
    """Mean of the squares over windows of 3 x 3 pixels of the small size."""
    squares = resize((plane**2).astype(np.float32), 26, 30, clip=False)
    height, width = squares.shape
    windows = np.empty(squares.shape)
    for i, j in np.ndindex(height, width):
        windows[i, j] = squares[max(0, i - 1) : i + 2, max(0, j - 1) : j + 2].mean()
    return windows.clip(0)


def test_upscale_follows_its_formula() -> None:
    large = photo(60, 52)
    small = np.clip(resize(large, 26, 30) * 0.7 + RANDOM.random((30, 26, 3)) * 0.2, 0, 1)
    small = small.astype(np.float32)
    low = resize(large, 26, 30, clip=False).astype(np.float64) @ WEIGHTS
    luminance = small.astype(np.float64) @ WEIGHTS

    def up(values: np.ndarray) -> np.ndarray:
        return resize(values.astype(np.float32), 52, 60, clip=False).astype(np.float64)

    strokes = enlarge_strokes(luminance.astype(np.float32), 52, 60) - up(luminance)
    detail = large.astype(np.float64) @ WEIGHTS - up(low)
    limit = 0.5 * np.sqrt(local_mean_square(strokes) / local_mean_square(detail))
    gain = np.minimum(gain_by_loops(luminance, low), limit)
    added = strokes + np.clip(up(gain), 0, 1) * detail
    expected = np.clip(up(small) + added[..., None], 0, 1)
    assert np.abs(upscale(small, large) - expected).max() < 5e-4
    assert np.abs(added - strokes).max() > 0.005


def detail_of_photo(small: np.ndarray, large: np.ndarray) -> np.ndarray:
    """What the photo adds: the difference from the result with a photo that has no detail."""
    return upscale(small, large) - upscale(small, np.full_like(large, 0.5))


def test_upscaling_the_shrunk_photo_restores_some_of_its_detail() -> None:
    large = photo()
    low = resize(large, 107, 85)
    plain = upscale(low, np.full_like(large, 0.5))
    assert psnr(upscale(low, large), large) > psnr(plain, large) + 1


def test_the_photo_adds_less_than_the_strokes() -> None:
    """A razor-sharp line of the photo is no sharper than half of what crisp strokes add."""
    large = np.full((256, 320, 3), 0.3, np.float32)
    large[:, 150:] = 0.7
    large[:, 100] = large[:, 200] = 0.1
    small = resize(large, 80, 64)
    strokes = upscale(small, np.full_like(large, 0.5)) - resize(small, 320, 256)
    added = detail_of_photo(small, large)
    assert 0.2 < np.sqrt(np.mean(added**2) / np.mean(strokes**2)) < 0.6


@pytest.mark.parametrize("kind", ["flat", "negative"])
def test_unrelated_results_get_no_detail_of_the_photo(kind: str) -> None:
    large = photo()
    low = resize(large, 107, 85)
    small = np.full_like(low, 0.5) if kind == "flat" else 0.9 - 0.8 * low
    assert np.abs(detail_of_photo(small, large)).max() < 1e-3
    if kind == "flat":
        assert np.abs(upscale(small, large) - 0.5).max() < 1e-3


def test_noise_gets_little_detail_of_the_photo() -> None:
    large = photo()
    low = resize(large, 107, 85)
    noise = (0.5 + 0.1 * RANDOM.standard_normal(low.shape)).clip(0, 1).astype(np.float32)
    detail = large - resize(low, 320, 256)
    added = detail_of_photo(noise, large)
    assert np.sqrt(np.mean(added**2)) < 0.25 * np.sqrt(np.mean(detail**2))


def test_flat_photos_add_no_grain() -> None:
    grain = (0.5 + 0.004 * RANDOM.standard_normal((200, 200, 3))).astype(np.float32)
    low = resize(grain, 50, 50)
    added = upscale(low, grain) - resize(low, 200, 200)
    assert np.abs(added).mean() < 0.1 * np.abs(grain - 0.5).mean()


@given(st.integers(16, 60), st.integers(16, 60), st.integers(16, 120), st.integers(16, 120))
@settings(max_examples=25, deadline=None)
def test_upscale_gives_the_size_of_any_photo(h: int, w: int, height: int, width: int) -> None:
    random = np.random.default_rng(h)
    large = random.random((height, width, 3), np.float32)
    upscaled = upscale(random.random((h, w, 3), np.float32), large)
    assert upscaled.shape == large.shape
    assert upscaled.dtype == np.float32
    assert upscaled.min() >= 0
    assert upscaled.max() <= 1


def test_upscale_to_the_same_size_changes_nothing() -> None:
    small, large = RANDOM.random((2, 40, 50, 3), np.float32)
    assert np.array_equal(upscale(small, large), small)


def test_upscale_accepts_read_only_inputs() -> None:
    large = photo()
    small = resize(large, 100, 80)
    for values in (large, small):
        values.setflags(write=False)
    assert upscale(small, large).flags.writeable


@pytest.mark.parametrize("wrong", [np.zeros((20, 20), np.float32), np.zeros((20, 20, 3))])
def test_upscale_refuses_other_arrays(wrong: np.ndarray) -> None:
    with pytest.raises(OptionError):
        upscale(wrong, photo())
