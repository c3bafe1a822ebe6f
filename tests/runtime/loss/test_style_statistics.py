"""Statistics of a painting: of the whole, of the part that a mask leaves, of several together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nstrt.runtime.loss.guidance import RegionGuidance
from nstrt.runtime.loss.objective import LossWeights
from nstrt.runtime.loss.style_statistics import StyleObserver, StyleStatistics

LAYERS = {"content_layers": {"two": 1.0}, "style_layers": {"one": 1.0}}
WEIGHTS = LossWeights(content=1, style=1, tv=0, style_loss="w2", **LAYERS)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def observed(weights: LossWeights, guide: RegionGuidance | None, **features: Any) -> Any:
    observer = StyleObserver(weights, guide)
    for layer, values in features.items():
        for rows in (slice(0, 2), slice(2, None)):
            observer.observe(layer, torch.tensor(values[:, rows]), rows.start)
    return observer.statistics()


def masked(mask: np.ndarray) -> RegionGuidance:
    return RegionGuidance(
        values={name: torch.tensor(np.sqrt(mask)) for name in ("one", "two")},
        energies={name: float(mask.sum()) for name in ("one", "two")},
        share=float(mask.mean()),
    )


def test_energies_are_mean_squares_and_count_what_the_mask_leaves() -> None:
    one, two = noise(3, 5, 4), noise(2, 5, 4, seed=1)
    found = observed(WEIGHTS, None, one=one, two=two)
    assert float(found.energies["two"]) == pytest.approx((two**2).mean())
    assert set(found.energies) == {"two"}
    assert set(found.moments) == {"one"}
    mask = np.random.default_rng(2).random((5, 4))
    found = observed(WEIGHTS, masked(mask), one=one, two=two)
    expected = (mask * two**2).sum() / (mask.sum() * 2)
    assert float(found.energies["two"]) == pytest.approx(expected)
    mean = (mask * one).sum((1, 2)) / mask.sum()
    assert np.allclose(found.moments["one"].mean, mean)
    second = np.einsum("cyx,dyx,yx->cd", one, one, mask) / mask.sum()
    assert np.allclose(found.moments["one"].second, second)


def test_a_masked_part_is_as_a_painting_of_that_part_alone() -> None:
    """Raw sums, too: as many positions as the whole painting has."""
    one, two = noise(3, 6, 4), noise(2, 6, 4, seed=1)
    mask = np.zeros((6, 4))
    mask[:3] = 1
    raw = LossWeights(content=1, style=1, tv=0, gram_mean=False, relative=False, **LAYERS)
    for weights, factor in ((WEIGHTS, 1), (raw, 2)):
        part = observed(weights, masked(mask), one=one, two=two)
        alone = observed(weights, None, one=one[:, :3], two=two[:, :3])
        assert np.allclose(part.moments["one"].second, factor * alone.moments["one"].second)
        assert float(part.energies["two"]) == pytest.approx(float(alone.energies["two"]))


def test_blended_statistics_are_those_of_all_positions_together() -> None:
    pictures = [(noise(3, 4, 4, seed=s), noise(2, 4, 4, seed=s + 5)) for s in (0, 1, 2)]
    parts = [observed(WEIGHTS, None, one=one, two=two) for one, two in pictures]
    blended = StyleStatistics.blend(parts, (2, 1, 1))
    together = [pictures[0], *pictures]
    one, two = (np.concatenate([each[k] for each in together], axis=1) for k in (0, 1))
    whole = observed(WEIGHTS, None, one=one, two=two)
    assert np.allclose(blended.moments["one"].second, whole.moments["one"].second)
    assert np.allclose(blended.moments["one"].mean, whole.moments["one"].mean)
    assert float(blended.energies["two"]) == pytest.approx(float(whole.energies["two"]))
    assert StyleStatistics.blend(parts[:1], (3,)) is parts[0]
    assert parts[0].nbytes == parts[0].moments["one"].nbytes > 0
