"""The Wasserstein loss against autograd through singular values, in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nstrt.runtime.arrays import PlainArrays
from nstrt.runtime.loss.content_and_style import LossAccumulator
from nstrt.runtime.loss.guidance import RegionGuidance
from nstrt.runtime.loss.moments import MomentObserver, Moments
from nstrt.runtime.loss.objective import LossWeights, Objective, style_target
from nstrt.runtime.loss.wasserstein import KEPT, SMOOTHING, WassersteinTarget

CHANNELS = 24


def features(positions: int, *, seed: int, rank: int = CHANNELS) -> Tensor:
    """Features like those behind a ReLU: correlated, of falling variance, with a mean."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(CHANNELS, rank, generator=generator, dtype=torch.float64)
    spread = torch.logspace(0, -1.5, rank, dtype=torch.float64)[:, None]
    drawn = torch.randn(rank, positions, generator=generator, dtype=torch.float64)
    return basis @ (spread * drawn) + torch.rand(CHANNELS, 1, generator=generator).double()


def moments_of(flat: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the columns, by their ``weights``."""
    if weights is None:
        weights = torch.ones(flat.shape[1], dtype=flat.dtype)
    weights = weights / weights.sum()
    mean = flat @ weights
    centred = flat - mean[:, None]
    return mean, (centred * weights) @ centred.T


def kept_root(covariance: Tensor) -> Tensor:
    """Root of the part of a covariance that the loss compares."""
    left, values, _ = torch.linalg.svd(covariance)
    count = int((values.cumsum(0) < KEPT * values.sum()).sum()) + 1
    root: Tensor = (left[:, :count] * values[:count].sqrt()) @ left[:, :count].T
    return root


def distance(
    flat: Tensor, style: Tensor, *, relative: bool = True, weights: Tensor | None = None
) -> Tensor:
    """The formula of the module, by the nuclear norm: tr (A A')^(1/2) sums A's singular values."""
    mean, covariance = moments_of(flat, weights)
    target_mean, target_covariance = moments_of(style)
    root = kept_root(target_covariance)
    weights = torch.ones(flat.shape[1]).double() if weights is None else weights
    centred = (flat - mean[:, None]) * (weights / weights.sum()).sqrt()
    wide = torch.cat([root @ centred, SMOOTHING**0.5 * root @ root], dim=1)
    variance = root.square().sum()
    w2 = (mean - target_mean).square().sum() + covariance.trace() + (1 + SMOOTHING) * variance
    w2 = w2 - 2 * torch.linalg.svdvals(wide).sum()
    return w2 / (target_mean.square().sum() + variance) if relative else w2


def target_of(style: Tensor, *, relative: bool = True) -> WassersteinTarget:
    return WassersteinTarget(raw_moments(style), relative=relative)


def raw_moments(flat: Tensor, weights: Tensor | None = None) -> Moments:
    weights = torch.ones(flat.shape[1], dtype=flat.dtype) if weights is None else weights
    weights = weights / weights.sum()
    return Moments(second=(flat * weights) @ flat.T, mean=flat @ weights)


def gradient_at(target: WassersteinTarget, flat: Tensor) -> Tensor:
    """The gradient at features, from factor and shift."""
    _, pull = target.loss_and_pull(raw_moments(flat))
    assert pull.shift is not None
    gradient: Tensor = (pull.factor @ flat + pull.shift[:, None]) / flat.shape[1]
    return gradient


RANKS = [1, 2, 5, CHANNELS - 1, CHANNELS]


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("style_rank", RANKS)
@pytest.mark.parametrize("relative", [True, False])
def test_value_and_gradient_match_autograd(rank: int, style_rank: int, relative: bool) -> None:
    flat = features(90, seed=1, rank=rank).requires_grad_()
    style = features(70, seed=2, rank=style_rank)
    expected = distance(flat, style, relative=relative)
    (gradient,) = torch.autograd.grad(expected, flat)
    seen = flat.detach()
    target = target_of(style, relative=relative)
    assert float(target.loss(raw_moments(seen))) == pytest.approx(
        float(expected.detach()), rel=1e-9
    )
    assert torch.allclose(gradient_at(target, seen), gradient, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("positions", [2, 7, CHANNELS, 400])
def test_fewer_positions_than_channels_match_autograd(positions: int) -> None:
    flat = features(positions, seed=3).requires_grad_()
    style = features(10, seed=4)
    expected = distance(flat, style)
    (gradient,) = torch.autograd.grad(expected, flat)
    target, seen = target_of(style), flat.detach()
    assert float(target.loss(raw_moments(seen))) == pytest.approx(
        float(expected.detach()), rel=1e-9
    )
    assert torch.allclose(gradient_at(target, seen), gradient, rtol=1e-6, atol=1e-9)


def test_value_matches_a_loop_over_the_distance_of_gaussians() -> None:
    """With commuting covariances, W2 is the distance of means and of standard deviations."""
    axes = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]).double().T
    image = torch.diag(torch.tensor([3.0, 0.5]).double()) @ axes + torch.tensor([[1.0], [2.0]])
    style = torch.diag(torch.tensor([2.0, 1.5]).double()) @ axes + torch.tensor([[0.0], [4.0]])
    expected = (1 - 0) ** 2 + (2 - 4) ** 2
    for spread, other in ((3.0, 2.0), (0.5, 1.5)):
        # A coordinate is spread, -spread, 0 and 0.
        variance = spread**2 / 2 + SMOOTHING * other**2 / 2
        expected += (variance**0.5 - (other**2 / 2) ** 0.5) ** 2
    found = target_of(style, relative=False).loss(raw_moments(image))
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_the_painting_itself_has_nearly_no_loss_and_no_pull() -> None:
    style = features(400, seed=5)
    target = target_of(style)
    assert 0 <= float(target.loss(raw_moments(style))) < 0.02  # the components that are left out
    assert float(target.loss(raw_moments(3 * style))) > 1
    near, far = gradient_at(target, style), gradient_at(target, 3 * style)
    assert near.norm() < 0.1 * far.norm()


@pytest.mark.parametrize("colour", [0.0, 0.7])
def test_a_painting_of_one_colour_has_a_finite_loss(colour: float) -> None:
    flat = features(50, seed=6)
    style = torch.full((CHANNELS, 30), colour, dtype=torch.float64)
    for image in (flat, style):
        found, pull = target_of(style).loss_and_pull(raw_moments(image))
        assert np.isfinite(float(found))
        assert torch.isfinite(pull.factor).all()
    # An image of one colour has no texture to begin with.
    found, pull = target_of(flat).loss_and_pull(raw_moments(style))
    assert torch.isfinite(pull.factor).all()


def test_single_precision_keeps_the_tolerances() -> None:
    for seed, positions in ((7, 900), (8, 20)):
        flat, style = features(positions, seed=seed), features(800, seed=9)
        expected = distance(leaf := flat.clone().requires_grad_(), style)
        (gradient,) = torch.autograd.grad(expected, leaf)
        target, single = target_of(style.float()), flat.float()
        found = float(target.loss(raw_moments(single)))
        assert found == pytest.approx(float(expected.detach()), rel=1e-5)
        ours = gradient_at(target, single)
        assert ours.dtype == torch.float32
        assert (ours - gradient).norm() < 1e-4 * gradient.norm()


def test_numpy_and_torch_agree() -> None:
    flat, style = features(60, seed=10), features(50, seed=11)
    found, pull = target_of(style).loss_and_pull(raw_moments(flat))
    plain = [
        Moments(second=each.second.numpy(), mean=np.asarray(each.mean))
        for each in map(raw_moments, (style, flat))
    ]
    other, other_pull = WassersteinTarget(plain[0], relative=True).loss_and_pull(plain[1])
    assert float(other) == pytest.approx(float(found), rel=1e-10)
    assert np.allclose(other_pull.factor, pull.factor.numpy(), atol=1e-9)
    assert pull.shift is not None
    assert np.allclose(other_pull.shift, pull.shift.numpy(), atol=1e-9)


def test_moments_by_pieces_are_those_of_all_positions() -> None:
    flat = features(6 * 7, seed=12)
    values = flat.view(CHANNELS, 6, 7)
    observer = MomentObserver(("one",), means=True)
    for rows in (slice(0, 2), slice(2, 6)):
        for columns in (slice(0, 3), slice(3, 7)):
            observer.observe("one", values[:, rows, columns], rows.start, columns.start)
    found, expected = observer.moments()["one"], raw_moments(flat)
    assert found.mean is not None
    assert expected.mean is not None
    assert torch.allclose(found.mean, expected.mean)
    assert torch.allclose(found.second, expected.second)


def test_blended_moments_are_those_of_both_paintings_positions() -> None:
    one, other = features(40, seed=13), features(40, seed=14)
    found = Moments.blend([raw_moments(one), raw_moments(other)], [3, 1])
    expected = raw_moments(torch.cat([one, one, one, other], dim=1))
    assert found.mean is not None
    assert expected.mean is not None
    assert torch.allclose(found.second, expected.second)
    assert torch.allclose(found.mean, expected.mean)


@pytest.mark.parametrize("numbers", [1, 1 << 22])
def test_loss_and_gradient_of_regions_match_autograd(
    numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two soft regions, in pieces: moments in which positions count by their masks."""
    monkeypatch.setattr("nstrt.runtime.loss.moments._GUIDED_NUMBERS", numbers)
    weights = LossWeights(
        content=0, style=5, tv=0, content_layers={}, style_layers={"one": 2.0}, style_loss="w2"
    )
    leaf = features(5 * 8, seed=15).view(CHANNELS, 5, 8).requires_grad_()
    styles = [features(50, seed=seed) for seed in (16, 17)]
    masks = [features(5 * 8, seed=seed)[0].view(5, 8).sigmoid() for seed in (18, 19)]
    shares = (0.7, 0.2)
    expected = sum(
        (
            share * distance(leaf.flatten(1), style, weights=mask.flatten())
            for share, style, mask in zip(shares, styles, masks, strict=True)
        ),
        torch.zeros(()),
    )
    (gradient,) = torch.autograd.grad(5 * expected, leaf)
    guides = [
        RegionGuidance(
            values={"one": mask.sqrt()}, energies={"one": float(mask.sum())}, share=share
        )
        for mask, share in zip(masks, shares, strict=True)
    ]
    objective = Objective(
        weights=weights,
        contents={},
        energies={},
        styles=tuple(
            style_target(weights, {"one": raw_moments(style)}, guide)
            for style, guide in zip(styles, guides, strict=True)
        ),
    )
    accumulator, seen = LossAccumulator(objective), leaf.detach()
    for rows in (slice(0, 2), slice(2, 5)):
        accumulator.observe("one", seen[:, rows], rows.start)
    assert accumulator.terms(torch.zeros(1, 3, 4, 4)).style == pytest.approx(
        float(expected.detach())
    )
    found: Any = torch.zeros_like(seen)
    for rows in (slice(0, 3), slice(3, 5)):
        for columns in (slice(0, 6), slice(6, 8)):
            part = found[:, rows, columns]
            accumulator.add_gradient("one", seen[:, rows, columns], part, rows.start, columns.start)
    assert torch.allclose(found, gradient, rtol=1e-6, atol=1e-9)


def test_numpy_arrays_decompose_as_torch_does() -> None:
    matrix = np.array([[2.0, 1.0], [1.0, 3.0]])
    values, vectors = PlainArrays().eigh(matrix)
    assert np.allclose(vectors @ np.diag(values) @ vectors.T, matrix)
    assert values[0] < values[1]
