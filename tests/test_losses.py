"""The losses against loops that spell their formulas out, in double precision."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from nstrt.runtime.losses import (
    EPSILON,
    LossWeights,
    Objective,
    content_loss,
    gram_matrix,
    style_loss,
    tv_loss,
)

Array = NDArray[np.float64]

shapes = st.tuples(st.integers(1, 4), st.integers(2, 5), st.integers(2, 5))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))


def double(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()


def looped_gram(features: Array, *, mean: bool = True) -> Array:
    _, channels, height, width = features.shape
    gram = np.zeros((channels, channels))
    for i, j in product(range(channels), repeat=2):
        for y, x in product(range(height), range(width)):
            gram[i, j] += features[0, i, y, x] * features[0, j, y, x]
    return gram / (height * width) if mean else gram


def looped_difference(found: Array, target: Array, *, relative: bool) -> float:
    total = energy = 0.0
    for a, b in zip(found.ravel(), target.ravel(), strict=True):
        total += (a - b) ** 2 / found.size
        energy += b**2 / found.size
    return total / max(energy, EPSILON) if relative else total


def looped_tv(image: Array) -> float:
    _, channels, height, width = image.shape
    squares = []
    for c, y, x in product(range(channels), range(height), range(width)):
        if x + 1 < width:
            squares.append((image[0, c, y, x + 1] - image[0, c, y, x]) ** 2)
        if y + 1 < height:
            squares.append((image[0, c, y + 1, x] - image[0, c, y, x]) ** 2)
    return float(sum(squares) / len(squares))


@given(shapes, st.booleans())
@settings(max_examples=20, deadline=None)
def test_gram_is_the_product_of_channels_over_positions(
    shape: tuple[int, int, int], mean: bool
) -> None:
    features = noise(*shape)
    found = gram_matrix(features, mean=mean)
    assert np.allclose(double(found), looped_gram(double(features), mean=mean), atol=1e-5)


@given(shapes, st.booleans())
@settings(max_examples=20, deadline=None)
def test_content_and_style_are_mean_squares_over_the_targets(
    shape: tuple[int, int, int], relative: bool
) -> None:
    features, target = noise(*shape), noise(*shape, seed=1)
    expected = looped_difference(double(features), double(target), relative=relative)
    assert float(content_loss(features, target, relative=relative)) == pytest.approx(expected)
    gram, style = gram_matrix(features), gram_matrix(target)
    expected = looped_difference(double(gram), double(style), relative=relative)
    assert float(style_loss(gram, style, relative=relative)) == pytest.approx(expected)


@given(shapes)
@settings(max_examples=20, deadline=None)
def test_tv_is_the_mean_over_all_pairs_of_neighbours(shape: tuple[int, int, int]) -> None:
    image = noise(*shape)
    assert float(tv_loss(image)) == pytest.approx(looped_tv(double(image)))


def test_tv_of_one_edge_can_be_counted() -> None:
    image = torch.zeros(1, 3, 4, 4)
    image[..., 2:] = 0.5  # 4 pairs of 24 differ, by a half
    assert float(tv_loss(image)) == pytest.approx(4 * 0.25 / 24)


def test_a_target_of_nothing_does_not_divide_by_zero() -> None:
    black = torch.zeros(1, 2, 3, 3)
    assert float(content_loss(black, black)) == 0
    assert float(style_loss(gram_matrix(black), gram_matrix(black))) == 0
    assert float(content_loss(black + 1e-3, black)) == pytest.approx(1e-6 / EPSILON)


@given(shapes)
@settings(max_examples=20, deadline=None)
def test_the_grams_gradient_is_that_of_the_plain_product(shape: tuple[int, int, int]) -> None:
    features, weight = noise(*shape).requires_grad_(), noise(shape[0], shape[0], seed=2)[0]
    (found,) = torch.autograd.grad((gram_matrix(features) * weight).sum(), features)
    flat = features.double().flatten(2)[0]
    plain = (flat @ flat.T / flat.shape[1] * weight).sum()
    (expected,) = torch.autograd.grad(plain, features)
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_gram_of_half_precision_is_summed_in_single() -> None:
    features = torch.full((1, 2, 32, 32), 100.0, dtype=torch.float16)
    found = gram_matrix(features, mean=False)
    assert found.dtype == torch.float32
    assert found[0, 0] == pytest.approx(1e4 * 1024)  # far above half precision's 65504


WEIGHTS: dict[str, Any] = {
    "content": 3.0,
    "style": 5.0,
    "tv": 7.0,
    "content_layers": {"one": 1.0, "two": 3.0},
    "style_layers": {"one": 2.0, "three": 0.5},
}
FEATURES = {"one": noise(3, 5, 4), "two": noise(2, 3, 3), "three": noise(4, 2, 6)}
CONTENT = {name: noise(*value.shape[1:], seed=3) for name, value in FEATURES.items()}
STYLE = {name: noise(value.shape[1], 7, 5, seed=4) for name, value in FEATURES.items()}
IMAGE = noise(3, 6, 5, seed=5)


def objective_of(
    weights: LossWeights, content: dict[str, Tensor], style: dict[str, Tensor]
) -> Objective:
    return Objective.from_style(weights, style).with_content(content)


@pytest.mark.parametrize("gram_mean", [True, False])
@pytest.mark.parametrize("relative", [True, False])
def test_the_total_is_the_weighted_sum(relative: bool, gram_mean: bool) -> None:
    weights = LossWeights(**WEIGHTS, relative=relative, gram_mean=gram_mean)
    objective = objective_of(weights, CONTENT, STYLE)
    loss, terms = objective.terms(IMAGE, FEATURES)

    content = sum(
        weight
        / (4.0 if relative else 1.0)
        * looped_difference(double(FEATURES[name]), double(CONTENT[name]), relative=relative)
        for name, weight in WEIGHTS["content_layers"].items()
    )
    style = sum(
        weight
        / (2.5 if relative else 1.0)
        * looped_difference(
            looped_gram(double(FEATURES[name]), mean=gram_mean),
            looped_gram(double(STYLE[name]), mean=gram_mean),
            relative=relative,
        )
        for name, weight in WEIGHTS["style_layers"].items()
    )
    assert terms.content == pytest.approx(content)
    assert terms.style == pytest.approx(style)
    assert terms.tv == pytest.approx(looped_tv(double(IMAGE)))
    assert terms.loss == pytest.approx(3 * terms.content + 5 * terms.style + 7 * terms.tv)
    assert float(loss) == terms.loss


def test_relative_layer_weights_sum_to_one_and_raw_ones_stay() -> None:
    layers = {"one": 2.0, "two": 6.0}
    assert LossWeights(**WEIGHTS).normalized(layers) == {"one": 0.25, "two": 0.75}
    assert LossWeights(**WEIGHTS, relative=False).normalized(layers) == layers


def test_the_terms_gradient_reaches_features_and_image() -> None:
    objective = objective_of(LossWeights(**WEIGHTS), CONTENT, STYLE)
    image = IMAGE.clone().requires_grad_()
    features = {name: value.clone().requires_grad_() for name, value in FEATURES.items()}
    loss, _ = objective.terms(image, features)
    for gradient in torch.autograd.grad(loss, [image, *features.values()]):
        assert float(gradient.abs().max()) > 0


@pytest.mark.parametrize("factor", [3.0, 0.03])
def test_relative_losses_do_not_depend_on_the_scale_of_activations(factor: float) -> None:
    def terms(factor: float, relative: bool) -> tuple[float, float]:
        objective = objective_of(
            LossWeights(**WEIGHTS, relative=relative),
            {name: value * factor for name, value in CONTENT.items()},
            {name: value * factor for name, value in STYLE.items()},
        )
        found = objective.terms(IMAGE, {n: v * factor for n, v in FEATURES.items()})[1]
        return found.content, found.style

    assert terms(factor, True) == pytest.approx(terms(1, True), rel=1e-4)
    content, style = terms(1, False)
    assert terms(factor, False) == pytest.approx((content * factor**2, style * factor**4), rel=1e-4)


def test_relative_losses_do_not_depend_on_the_number_of_positions() -> None:
    def tiled(features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.tile(1, 1, 2, 3) for name, value in features.items()}

    weights = LossWeights(**WEIGHTS)
    one = objective_of(weights, CONTENT, STYLE).terms(IMAGE, FEATURES)[1]
    more = objective_of(weights, tiled(CONTENT), tiled(STYLE))
    found = more.terms(IMAGE, tiled(FEATURES))[1]
    assert (found.content, found.style) == pytest.approx((one.content, one.style), rel=1e-4)


def test_targets_are_copies() -> None:
    content = {name: value.clone() for name, value in CONTENT.items()}
    objective = objective_of(LossWeights(**WEIGHTS), content, STYLE)
    for value in content.values():
        value.zero_()  # as when an engine writes into its buffers again
    assert torch.equal(objective.contents["one"], CONTENT["one"])


def test_the_layers_of_an_objective_come_once_each() -> None:
    objective = objective_of(LossWeights(**WEIGHTS), CONTENT, STYLE)
    assert objective.layers == ("one", "two", "three")
