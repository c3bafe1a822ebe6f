"""Enlarged strokes: the filter's formula, crisp borders, and no halos."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nstrt.runtime.pictures import resize, shock_filter
from nstrt.runtime.pictures.shock_filter import enlarge_strokes

RANDOM = np.random.default_rng(5)


def up(plane: np.ndarray, width: int, height: int) -> np.ndarray:
    return resize(plane.astype(np.float32), width, height, clip=False).astype(np.float64)


def at(plane: np.ndarray, i: int, j: int) -> float:
    """A value, or beyond the border the nearest one."""
    height, width = plane.shape
    return float(plane[min(max(i, 0), height - 1), min(max(j, 0), width - 1)])


def blurred(plane: np.ndarray) -> np.ndarray:
    weights = np.array([1, 4, 6, 4, 1]) / 16
    out = np.zeros(plane.shape)
    for i, j in np.ndindex(plane.shape):
        out[i, j] = sum(
            weights[k] * weights[m] * at(plane, i + k - 2, j + m - 2)
            for k in range(5)
            for m in range(5)
        )
    return out


def angles(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of twice the angle of the structure tensor's first eigenvector."""
    smooth = blurred(plane)
    tensor = np.zeros((*plane.shape, 2, 2))
    for i, j in np.ndindex(plane.shape):
        slope = np.array(
            [
                at(smooth, i, j + 1) - at(smooth, i, j - 1),
                at(smooth, i + 1, j) - at(smooth, i - 1, j),
            ]
        )
        tensor[i, j] = np.outer(slope, slope)
    for k, m in np.ndindex(2, 2):
        tensor[..., k, m] = blurred(blurred(tensor[..., k, m]))
    across = np.linalg.eigh(tensor)[1][..., 1]
    angle = np.arctan2(across[..., 1], across[..., 0])
    return np.cos(2 * angle), np.sin(2 * angle)


def second_derivative(y: np.ndarray, i: int, j: int, x_part: float, y_part: float) -> float:
    """Along the unit vector (x_part, y_part)."""
    here = at(y, i, j)
    xx = at(y, i, j + 1) - 2 * here + at(y, i, j - 1)
    yy = at(y, i + 1, j) - 2 * here + at(y, i - 1, j)
    xy = at(y, i + 1, j + 1) - at(y, i + 1, j - 1) - at(y, i - 1, j + 1) + at(y, i - 1, j - 1)
    return x_part**2 * xx + 2 * x_part * y_part * xy / 4 + y_part**2 * yy


def filtered_by_loops(y: np.ndarray, cosine: np.ndarray, sine: np.ndarray, t: float) -> np.ndarray:
    """Where an interpolated direction is shorter than 1, the rest counts in all directions."""
    angle, length = np.arctan2(sine, cosine) / 2, np.hypot(sine, cosine)

    def along(plane: np.ndarray, i: int, j: int, turn: float) -> float:
        x_part, y_part = math.cos(angle[i, j] + turn), math.sin(angle[i, j] + turn)
        directed = second_derivative(plane, i, j, x_part, y_part)
        both = second_derivative(plane, i, j, 1, 0) + second_derivative(plane, i, j, 0, 1)
        return float(length[i, j] * directed + (1 - length[i, j]) * both / 2)

    for _ in range(4):
        smooth, moved, after = blurred(y), np.zeros(y.shape), np.zeros(y.shape)
        for i, j in np.ndindex(y.shape):
            v = 300 * along(smooth, i, j, 0)
            sign = 1 if v < 0 else -1
            pairs = (((i, j - 1), (i, j + 1)), ((i - 1, j), (i + 1, j)))
            slope = math.hypot(
                *(max(0, *(sign * (at(y, *place) - y[i, j]) for place in pair)) for pair in pairs)
            )
            moved[i, j] = y[i, j] - t * v / (1 + abs(v)) * slope
        for i, j in np.ndindex(y.shape):
            after[i, j] = moved[i, j] + t / 2 * along(moved, i, j, math.pi / 2)
        y = after
    return y


def stripes(height: int, width: int) -> np.ndarray:
    """Slanted waves and noise: a direction everywhere, of all angles."""
    y, x = np.mgrid[:height, :width]
    waves = 0.5 + 0.3 * np.sin(0.9 * x + 0.02 * x * y) + 0.1 * RANDOM.random((height, width))
    return waves.astype(np.float32)


@pytest.mark.parametrize("factor", [1.5, 2.0, 3.0])
def test_the_filter_follows_its_formula(factor: float) -> None:
    small = stripes(12, 14)
    width, height = round(14 * factor), round(12 * factor)
    levels = [(width, height)]
    if factor > 2:
        levels.insert(0, (round(14 * factor**0.5), round(12 * factor**0.5)))
    expected = small.astype(np.float64)
    for size in levels:
        cosine, sine = (up(part, *size) for part in angles(expected))
        t = 0.4 * math.log2(factor) / len(levels)
        expected = filtered_by_loops(up(expected, *size), cosine, sine, t)
        expected += 0.5 * up(small - up(expected, 14, 12), *size)
    assert np.abs(enlarge_strokes(small, width, height) - expected).max() < 2e-4


def test_strips_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    small = stripes(40, 30)
    whole = enlarge_strokes(small, 100, 130)
    monkeypatch.setattr(shock_filter, "_STRIP_PIXELS", 700)
    assert np.array_equal(enlarge_strokes(small, 100, 130), whole)


@pytest.mark.parametrize("zoom", [2, 4])
@pytest.mark.parametrize("angle", [0, 30, 90])
def test_blurred_borders_become_crisp_without_halos(zoom: int, angle: int) -> None:
    y, x = np.mgrid[-24:24, -24:24] + 0.5
    distance = x * math.cos(math.radians(angle)) + y * math.sin(math.radians(angle))
    small = (0.5 + 0.3 * np.tanh(distance)).astype(np.float32)
    lanczos = resize(small, 48 * zoom, 48 * zoom, clip=False)
    crisp = enlarge_strokes(small, 48 * zoom, 48 * zoom)
    steepest = [np.hypot(*np.gradient(plane)).max() for plane in (lanczos, crisp)]
    assert steepest[1] > 1.4 * steepest[0]
    assert crisp.min() > lanczos.min() - 0.02
    assert crisp.max() < lanczos.max() + 0.02
    # The border stays where it is.
    middle = 12 * zoom, 36 * zoom
    inner = slice(*middle), slice(*middle)
    assert np.mean((crisp > 0.5)[inner] == (lanczos > 0.5)[inner]) > 0.97


def test_the_small_size_still_looks_the_same() -> None:
    small = stripes(60, 80)
    again = resize(enlarge_strokes(small, 320, 240), 80, 60, clip=False)
    assert np.sqrt(np.mean((again - small) ** 2)) < 0.2 * small.std()
    assert abs(again.mean() - small.mean()) < 0.01


def test_flat_planes_stay_flat_and_shrinking_is_lanczos() -> None:
    flat = np.full((20, 30), 0.4, np.float32)
    assert np.abs(enlarge_strokes(flat, 75, 50) - 0.4).max() < 1e-6
    small = stripes(40, 30)
    assert np.array_equal(enlarge_strokes(small, 20, 33), resize(small, 20, 33, clip=False))
    assert np.abs(enlarge_strokes(small.T, 90, 70).T - enlarge_strokes(small, 70, 90)).max() < 1e-4
