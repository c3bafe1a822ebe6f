"""The temporal loss and its gradient, against a loop in double precision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nstrt.runtime.loss.temporal import TemporalLoss
from nstrt.runtime.loss.terms import LossTerms


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_the_temporal_loss_is_the_weighted_mean_square(kind: str) -> None:
    """The loss equals mean(c (x - omega)^2), and the gradient its central differences."""
    random = np.random.default_rng(2)
    image, target = (random.random((1, 3, 5, 7)) for _ in range(2))
    weight = random.random((5, 7)) * (random.random((5, 7)) > 0.3)

    def looped_loss(x: np.ndarray) -> float:
        indices = np.ndindex(3, 5, 7)
        total = sum(weight[i[1:]] * (x[0][i] - target[0][i]) ** 2 for i in indices)
        return float(total / x.size)

    place = torch.tensor if kind == "torch" else np.array
    loss = TemporalLoss(weight=3.0, target=place(target), root=place(np.sqrt(weight)))
    before = random.random(image.shape)
    gradient = place(before)
    others = LossTerms(loss=0.5, content=0.1, style=0.2, tv=0.3)
    terms = loss.added(others, place(image), gradient)
    assert terms.temporal == pytest.approx(looped_loss(image), rel=1e-9)
    assert terms == replace(others, loss=0.5 + 3 * terms.temporal, temporal=terms.temporal)
    assert loss.added(others, place(image)) == terms
    for index in [(0, 0, 1, 2), (0, 1, 4, 6), (0, 2, 0, 0)]:
        step = np.zeros(image.shape)
        step[index] = 1e-4
        slope = 3 * (looped_loss(image + step) - looped_loss(image - step)) / 2e-4
        assert float(gradient[index]) - before[index] == pytest.approx(slope, abs=1e-8)
