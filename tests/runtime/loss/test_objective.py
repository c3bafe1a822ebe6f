"""The losses against loops that spell their formulas out, in double precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from nstrt.runtime.loss.content_and_style import ContentObserver, LossAccumulator
from nstrt.runtime.loss.layer_target import EPSILON
from nstrt.runtime.loss.moments import MomentObserver
from nstrt.runtime.loss.objective import (
    LossWeights,
    Objective,
    moment_observer,
    style_target,
)
from nstrt.runtime.loss.terms import LossTerms
from nstrt.runtime.loss.total_variation import add_total_variation_gradient, total_variation
from nstrt.runtime.network.feature_observer import ObserverGroup

from support.formulas import (
    content_loss,
    gram_matrix,
    gram_moments,
    style_loss,
    target_grams,
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


def looped_content(features: Tensor, target: Tensor, style: Tensor | None) -> float:
    difference = looped_difference(double(features), double(target), relative=False)
    if style is None:
        return difference
    energy = 1.0
    for picture in (target, style):
        squares = [float(value) ** 2 for value in double(picture).flat]
        energy *= (sum(squares) / len(squares)) ** 0.5
    return difference / max(energy, EPSILON)


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
def test_content_and_style_losses_are_mean_squares_over_the_targets_energy(
    shape: tuple[int, int, int], relative: bool
) -> None:
    features, target, style = (noise(*shape, seed=seed) for seed in range(3))
    expected = looped_content(features, target, style if relative else None)
    found = content_loss(features, target, style if relative else None)
    assert float(found) == pytest.approx(expected)
    gram, style = gram_matrix(features), gram_matrix(target)
    expected = looped_difference(double(gram), double(style), relative=relative)
    assert float(style_loss(gram, style, relative=relative)) == pytest.approx(expected)


@given(shapes)
@settings(max_examples=20, deadline=None)
def test_total_variation_is_the_mean_over_all_neighbouring_pairs(
    shape: tuple[int, int, int],
) -> None:
    image = noise(*shape)
    assert float(tv_loss(image)) == pytest.approx(looped_tv(double(image)))


@pytest.mark.parametrize("numbers", [1, 3 * 5 * 2, 3 * 5 * 3, 3 * 5 * 7])
def test_total_variation_does_not_depend_on_bands(
    numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one row, of two with one left over, of three, and of all seven."""
    image = noise(3, 7, 5)
    leaf = image.clone().requires_grad_()
    (expected,) = torch.autograd.grad(2.0 * tv_loss(leaf), leaf)
    monkeypatch.setattr("nstrt.runtime.arrays._BAND", numbers)
    assert float(total_variation(image)) == pytest.approx(looped_tv(double(image)))
    assert float(tv_loss(image)) == pytest.approx(looped_tv(double(image)))
    found = torch.zeros_like(image)
    add_total_variation_gradient(image, 2.0, found)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_total_variation_of_one_edge_is_counted_by_hand() -> None:
    image = torch.zeros(1, 3, 4, 4)
    image[..., 2:] = 0.5  # 4 pairs of 24 differ, by a half
    assert float(tv_loss(image)) == pytest.approx(4 * 0.25 / 24)


def test_a_zero_target_does_not_divide_by_zero() -> None:
    black = torch.zeros(1, 2, 3, 3)
    assert float(content_loss(black, black, black)) == 0
    assert float(style_loss(gram_matrix(black), gram_matrix(black))) == 0
    assert float(content_loss(black + 1e-3, black, black)) == pytest.approx(1e-6 / EPSILON)


@given(shapes)
@settings(max_examples=20, deadline=None)
def test_the_gram_gradient_is_that_of_the_matrix_product(shape: tuple[int, int, int]) -> None:
    features, weight = noise(*shape).requires_grad_(), noise(shape[0], shape[0], seed=2)[0]
    (found,) = torch.autograd.grad((gram_matrix(features) * weight).sum(), features)
    flat = features.double().flatten(2)[0]
    plain = (flat @ flat.T / flat.shape[1] * weight).sum()
    (expected,) = torch.autograd.grad(plain, features)
    assert torch.allclose(found, expected, atol=1e-5)


def test_gram_of_half_precision_features_is_summed_in_single_precision() -> None:
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

every_kind = pytest.mark.parametrize(
    ("relative", "gram_mean"), [(True, True), (True, False), (False, True), (False, False)]
)

Pieces = Sequence[tuple[slice, slice]]
"""Rows and columns of each piece of a layer."""

WHOLE: Pieces = [(slice(0, None), slice(0, None))]
ROWS: Pieces = [(slice(top, top + 1), slice(0, None)) for top in range(5)]
WINDOWS: Pieces = [
    (slice(0, 2), slice(0, 1)),
    (slice(0, 2), slice(1, None)),
    (slice(2, None), slice(0, 2)),
    (slice(2, None), slice(2, None)),
]

in_any_pieces = pytest.mark.parametrize(
    "pieces", [WHOLE, ROWS, WINDOWS], ids=["whole", "rows", "windows"]
)


def objective_of(
    weights: LossWeights, content: Mapping[str, Tensor], style: Mapping[str, Tensor]
) -> Objective:
    return Objective(
        weights=weights,
        contents={name: content[name][0] for name in weights.content_layers},
        energies={name: style[name].double().square().mean() for name in weights.content_layers},
        styles=(
            style_target(
                weights,
                gram_moments(
                    {
                        name: gram_matrix(style[name], mean=weights.gram_mean).to(style[name].dtype)
                        for name in weights.style_layers
                    }
                ),
            ),
        ),
    )


def show(observer: Any, features: Mapping[str, Tensor], pieces: Pieces = WHOLE) -> None:
    for layer in observer.layers:
        for rows, columns in pieces:
            part = features[layer][0, :, rows, columns]
            if part.numel():
                observer.observe(layer, part, rows.start, columns.start)


def terms_of(objective: Objective, image: Tensor, features: Mapping[str, Tensor]) -> LossTerms:
    accumulator = LossAccumulator(objective)
    show(accumulator, features)
    return accumulator.terms(image)


@every_kind
@in_any_pieces
def test_total_loss_is_the_weighted_sum_of_its_terms(
    pieces: Pieces, relative: bool, gram_mean: bool
) -> None:
    weights = LossWeights(**WEIGHTS, relative=relative, gram_mean=gram_mean)
    accumulator = LossAccumulator(objective_of(weights, CONTENT, STYLE))
    show(accumulator, FEATURES, pieces)
    terms = accumulator.terms(IMAGE)

    content = sum(
        weight
        / (4.0 if relative else 1.0)
        * looped_content(FEATURES[name], CONTENT[name], STYLE[name] if relative else None)
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


def plainly(
    weights: LossWeights, image: Tensor, features: Mapping[str, Tensor], dtype: torch.dtype
) -> Tensor:
    """The loss by the public functions, for autograd; Grams in their own precision."""
    relative = weights.relative

    def gram(values: Tensor) -> Tensor:
        flat = values.to(dtype).flatten(2)[0]
        return flat @ flat.T / (flat.shape[1] if weights.gram_mean else 1)

    content = sum(
        weight
        * content_loss(features[name], CONTENT[name].to(dtype), STYLE[name] if relative else None)
        for name, weight in weights.normalized(weights.content_layers).items()
    )
    style = sum(
        weight * style_loss(gram(features[name]), gram(STYLE[name]), relative=relative)
        for name, weight in weights.normalized(weights.style_layers).items()
    )
    found = weights.content * content + weights.style * style + weights.tv * tv_loss(image)
    assert isinstance(found, Tensor)
    return found


@every_kind
@in_any_pieces
def test_gradient_at_features_matches_autograd(
    pieces: Pieces, relative: bool, gram_mean: bool
) -> None:
    weights = LossWeights(**WEIGHTS, relative=relative, gram_mean=gram_mean)
    leaves = {name: value.clone().requires_grad_() for name, value in FEATURES.items()}
    loss = plainly(weights, IMAGE, leaves, torch.float32)
    expected = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))

    accumulator = LossAccumulator(objective_of(weights, CONTENT, STYLE))
    show(accumulator, FEATURES)
    assert accumulator.terms(IMAGE).loss == pytest.approx(float(loss.detach()))
    for layer in accumulator.layers:
        before = noise(*FEATURES[layer].shape[1:], seed=6)[0]
        gradient, values = before.clone(), FEATURES[layer][0].clone()
        for rows, columns in pieces:
            part = gradient[:, rows, columns]
            if part.numel():
                seen = values[:, rows, columns]
                accumulator.add_gradient(layer, seen, part, rows.start, columns.start)
        # It is added to what was there.
        assert torch.allclose(gradient - before, expected[layer][0], rtol=1e-4, atol=1e-6), layer
        assert torch.equal(values, FEATURES[layer][0])


def test_gradient_does_not_depend_on_the_memory_it_is_added_to() -> None:
    accumulator = LossAccumulator(objective_of(LossWeights(**WEIGHTS), CONTENT, STYLE))
    show(accumulator, FEATURES)
    accumulator.terms(IMAGE)
    found = torch.zeros(3, 5, 4)
    accumulator.add_gradient("one", FEATURES["one"][0], found, 0)
    larger = torch.zeros(3, 9, 7)
    accumulator.add_gradient("one", FEATURES["one"][0], larger[:, 2:7, 1:5], 0)
    assert torch.allclose(larger[:, 2:7, 1:5], found)
    assert larger.count_nonzero() == found.count_nonzero()


@every_kind
def test_gradient_matches_finite_differences_in_double_precision(
    relative: bool, gram_mean: bool
) -> None:
    weights = LossWeights(**WEIGHTS, relative=relative, gram_mean=gram_mean)
    features, content, style = (
        {name: value.double() for name, value in each.items()}
        for each in (FEATURES, CONTENT, STYLE)
    )
    objective, image = objective_of(weights, content, style), IMAGE.double()
    accumulator = LossAccumulator(objective)
    show(accumulator, features)
    accumulator.terms(image)
    slope = 0.0
    direction = {name: noise(*value.shape[1:], seed=8).double() for name, value in features.items()}
    for layer, value in features.items():
        gradient = torch.zeros_like(value[0])
        accumulator.add_gradient(layer, value[0], gradient, 0)
        slope += float((gradient * direction[layer][0]).sum())
    step = 1e-5
    ends = [
        terms_of(objective, image, {n: v + sign * step * direction[n] for n, v in features.items()})
        for sign in (1, -1)
    ]
    assert (ends[0].loss - ends[1].loss) / (2 * step) == pytest.approx(slope, rel=1e-6)


@given(st.integers(1, 6), st.integers(2, 6), st.floats(0.1, 10))
@settings(max_examples=20, deadline=None)
def test_total_variation_gradient_is_added(height: int, width: int, weight: float) -> None:
    leaf = noise(3, height, width).requires_grad_()
    (expected,) = torch.autograd.grad(weight * tv_loss(leaf), leaf)
    before = noise(3, height, width, seed=1)
    found = before.clone()
    add_total_variation_gradient(leaf.detach(), weight, found)
    assert torch.allclose(found - before, expected, rtol=1e-4, atol=1e-5)


def test_zero_total_variation_weight_adds_no_gradient() -> None:
    found = torch.full_like(IMAGE, 3.0)
    add_total_variation_gradient(IMAGE, 0.0, found)
    assert torch.equal(found, torch.full_like(IMAGE, 3.0))


def test_each_accumulator_counts_one_image() -> None:
    """Another tally of the same objective begins anew."""
    objective = objective_of(LossWeights(**WEIGHTS), CONTENT, STYLE)
    first = terms_of(objective, IMAGE, FEATURES)
    terms_of(objective, IMAGE, CONTENT)
    assert terms_of(objective, IMAGE, FEATURES) == first


def test_accumulating_does_not_write_into_targets() -> None:
    objective = objective_of(LossWeights(**WEIGHTS), CONTENT, STYLE)
    grams = {name: gram.clone() for name, gram in target_grams(objective.styles[0]).items()}
    accumulator = LossAccumulator(objective)
    show(accumulator, FEATURES)
    accumulator.terms(IMAGE)
    for layer in accumulator.layers:
        accumulator.add_gradient(layer, FEATURES[layer][0], torch.zeros_like(FEATURES[layer][0]), 0)
    assert all(
        torch.equal(target_grams(objective.styles[0])[name], gram) for name, gram in grams.items()
    )
    assert all(torch.equal(value, CONTENT[name][0]) for name, value in objective.contents.items())


def test_relative_layer_weights_sum_to_one_and_raw_ones_stay() -> None:
    layers = {"one": 2.0, "two": 6.0}
    assert LossWeights(**WEIGHTS).normalized(layers) == {"one": 0.25, "two": 0.75}
    assert LossWeights(**WEIGHTS, relative=False).normalized(layers) == layers


@pytest.mark.parametrize("factor", [3.0, 0.03])
def test_relative_losses_do_not_depend_on_the_scale_of_activations(factor: float) -> None:
    def terms(factor: float, relative: bool) -> tuple[float, float]:
        objective = objective_of(
            LossWeights(**WEIGHTS, relative=relative),
            {name: value * factor for name, value in CONTENT.items()},
            {name: value * factor for name, value in STYLE.items()},
        )
        found = terms_of(objective, IMAGE, {n: v * factor for n, v in FEATURES.items()})
        return found.content, found.style

    assert terms(factor, True) == pytest.approx(terms(1, True), rel=1e-4)
    content, style = terms(1, False)
    assert terms(factor, False) == pytest.approx((content * factor**2, style * factor**4), rel=1e-4)


def test_relative_losses_do_not_depend_on_the_number_of_positions() -> None:
    def tiled(features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.tile(1, 1, 2, 3) for name, value in features.items()}

    weights = LossWeights(**WEIGHTS)
    one = terms_of(objective_of(weights, CONTENT, STYLE), IMAGE, FEATURES)
    more = objective_of(weights, tiled(CONTENT), tiled(STYLE))
    found = terms_of(more, IMAGE, tiled(FEATURES))
    assert (found.content, found.style) == pytest.approx((one.content, one.style), rel=1e-4)


def test_zero_targets_do_not_divide_by_zero() -> None:
    black = {name: torch.zeros_like(value) for name, value in FEATURES.items()}
    objective = objective_of(LossWeights(**WEIGHTS), black, black)
    terms = terms_of(objective, torch.zeros_like(IMAGE), black)
    assert terms.loss == terms.content == terms.style == terms.tv == 0


@pytest.mark.parametrize("gram_mean", [True, False])
def test_style_loss_of_gram_matrices_matches_the_accumulated_one(gram_mean: bool) -> None:
    weights = LossWeights(**WEIGHTS, gram_mean=gram_mean)
    objective = objective_of(weights, CONTENT, STYLE)
    own = moment_observer(weights)
    show(own, FEATURES)
    found = objective.style_loss(own.moments())
    assert found == pytest.approx(terms_of(objective, IMAGE, FEATURES).style)


def test_a_loss_may_lack_style_or_content() -> None:
    only_content = LossWeights(**{**WEIGHTS, "style_layers": {}, "style": 0.0})
    terms = terms_of(objective_of(only_content, CONTENT, STYLE), IMAGE, FEATURES)
    assert (terms.style, terms.content > 0) == (0, True)
    only_style = LossWeights(**{**WEIGHTS, "content_layers": {}, "content": 0.0})
    objective = objective_of(only_style, CONTENT, STYLE)
    terms = terms_of(objective, IMAGE, FEATURES)
    assert (terms.content, terms.style > 0) == (0, True)
    assert objective_of(only_content, CONTENT, STYLE).style_loss({}) == 0


def test_objective_lists_each_layer_once() -> None:
    objective = objective_of(LossWeights(**WEIGHTS), CONTENT, STYLE)
    assert objective.layers == LossAccumulator(objective).layers == ("one", "two", "three")


@in_any_pieces
@pytest.mark.parametrize("mean", [True, False])
def test_moment_observer_sums_pieces(pieces: Pieces, mean: bool) -> None:
    grams = MomentObserver(("one", "three"), raw=not mean)
    show(grams, FEATURES, pieces)
    found = {name: each.second for name, each in grams.moments().items()}
    assert set(found) == {"one", "three"}
    for name, gram in found.items():
        assert np.allclose(double(gram), looped_gram(double(FEATURES[name]), mean=mean), atol=1e-5)
        assert grams.positions(name) == FEATURES[name][0, 0].numel()


def test_moment_observer_matches_the_matrix_product_over_many_positions() -> None:
    """They are added up in pieces; the last one is shorter."""
    features = noise(6, 71, 67)
    grams = MomentObserver(("one",), raw=True)
    grams.observe("one", features[0], 0)
    flat = features.double()[0].flatten(1)
    assert torch.allclose(grams.moments()["one"].second.double(), flat @ flat.T, rtol=1e-5)


def test_moment_observer_sums_half_precision_in_single() -> None:
    grams = MomentObserver(("one",), raw=True)
    grams.observe("one", torch.full((2, 32, 32), 100.0, dtype=torch.float16), 0)
    found = grams.moments()["one"].second
    assert found.dtype == torch.float32
    assert found[0, 0] == pytest.approx(1e4 * 1024)  # far above half precision's 65504


@in_any_pieces
def test_content_observer_copies_features(pieces: Pieces) -> None:
    values = {"relu3_1": noise(256, 5, 4)}
    contents = ContentObserver(("relu3_1",), 23, 19)
    show(contents, values, pieces)
    expected = values["relu3_1"][0].clone()
    values["relu3_1"].zero_()  # as when an engine writes into its buffers again
    assert torch.equal(contents.values["relu3_1"], expected)


def test_content_observer_keeps_half_precision_in_single() -> None:
    contents = ContentObserver(("relu1_1",), 5, 4)
    contents.observe("relu1_1", noise(64, 5, 4)[0].half(), 0)
    assert contents.values["relu1_1"].dtype == torch.float32
    contents = ContentObserver(("relu1_1",), 5, 4)
    contents.observe("relu1_1", noise(64, 5, 4)[0].double(), 0)
    assert contents.values["relu1_1"].dtype == torch.float64


def test_observer_group_passes_each_layer_to_its_observers() -> None:
    values = {"relu1_1": noise(64, 5, 4), "relu2_1": noise(128, 2, 2)}
    contents, grams = ContentObserver(("relu2_1",), 5, 4), MomentObserver(("relu1_1", "relu2_1"))
    together = ObserverGroup(contents, grams)
    assert together.layers == ("relu2_1", "relu1_1")
    show(together, values)
    assert set(contents.values) == {"relu2_1"}
    assert torch.equal(contents.values["relu2_1"], values["relu2_1"][0])
    found = {name: each.second for name, each in grams.moments().items()}
    for name, value in values.items():
        assert torch.allclose(found[name], gram_matrix(value), rtol=1e-4, atol=1e-6)
    gradient = torch.zeros(64, 5, 4)
    for observer in (contents, grams, together):
        observer.add_gradient("relu1_1", values["relu1_1"][0], gradient, 0)
    assert not gradient.any()
