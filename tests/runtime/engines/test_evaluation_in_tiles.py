"""Evaluation in tiles: features, loss and gradient equal those of the whole picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nstrt.runtime.engines.evaluation import Evaluation
from nstrt.runtime.engines.loss_targets import objective_for
from nstrt.runtime.engines.onnx_engine import OnnxEngine
from nstrt.runtime.engines.torch_engine import TorchEngine
from nstrt.runtime.kernels.convolution import Filter
from nstrt.runtime.loss.content_and_style import ContentObserver
from nstrt.runtime.loss.moments import MomentObserver
from nstrt.runtime.loss.objective import LossWeights, Objective, style_target
from nstrt.runtime.model import LAYERS, layers_through, stride_of
from nstrt.runtime.network.tiles import tiles_of
from nstrt.runtime.network.vgg import ConvBlock, InputNormalization, TorchVGG, read_vgg
from nstrt.runtime.ort.session import open_session

from support.banded import small_bands
from support.errors import relative_error
from support.formulas import gram_matrix, gram_moments, target_grams
from support.observers import AssemblingObserver

if TYPE_CHECKING:
    from support import Crop, Network

pytestmark = pytest.mark.slow

DEFAULT = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "conv4_2", "relu5_1")
DEEPEST = ("relu1_1", "relu1_2", "pool1", "relu2_1", "relu3_1", "conv4_2", "relu5_1", "relu5_4")


def thin_vgg(pooling: str, padding: str, channels: int = 6) -> TorchVGG:
    """VGG19's blocks with few channels, in double precision, so that no ReLU mask flips."""
    generator = torch.Generator().manual_seed(4)
    blocks = []
    inputs = 3
    for number, name in enumerate(LAYERS):
        if not name.startswith("conv"):
            continue
        weight = torch.randn(channels, inputs, 3, 3, generator=generator, dtype=torch.float64)
        bias = torch.randn(channels, generator=generator, dtype=torch.float64) / 4
        after = LAYERS[number + 2] if number + 2 < len(LAYERS) else ""
        pool = after if after.startswith("pool") else None
        weights = Filter(weight * (2 / 9 / inputs) ** 0.5, bias)
        blocks.append(ConvBlock(weights, name, LAYERS[number + 1], pool, pooling == "avg"))
        inputs = channels
    mean = torch.full((1, 3, 1, 1), 0.4, dtype=torch.float64)
    normalization = InputNormalization(mean, mean / 2, replicate=padding == "replicate")
    return TorchVGG(normalization, blocks, taps=LAYERS)


def assembling_observer(
    layers: Sequence[str], height: int, width: int, channels: int = 6
) -> AssemblingObserver:
    """An observer for a thin network and a picture of ``height`` x ``width`` pixels."""
    shapes = {
        layer: (channels, height // stride_of(layer), width // stride_of(layer)) for layer in layers
    }
    return AssemblingObserver(shapes, torch.float64)


def random_picture(height: int, width: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, height, width, generator=generator, dtype=torch.float64)


def thin_objective(engine: TorchEngine, photo: Tensor, layers: Sequence[str]) -> Objective:
    """An objective with every second layer for the content and the others for the style."""
    weights = LossWeights(
        content=1.0,
        style=10.0,
        tv=0.3,
        content_layers=dict.fromkeys(layers[1::2], 1.0),
        style_layers=dict.fromkeys(layers[::2], 1.0),
    )
    content, style = (assembling_observer(layers, *photo.shape[2:]) for _ in range(2))
    Evaluation(engine).extract_features(photo, content)
    Evaluation(engine).extract_features(photo.flip(2).square(), style)
    grams = {}
    for name in weights.style_layers:
        flat = style.values[name].flatten(1)
        grams[name] = flat @ flat.T / flat.shape[1]
    contents = {name: content.values[name] for name in weights.content_layers}
    return Objective(
        weights=weights,
        contents=contents,
        energies={name: values.square().mean() for name, values in contents.items()},
        styles=(style_target(weights, gram_moments(grams)),),
    )


KINDS = [("max", "replicate"), ("avg", "zero"), ("max", "zero"), ("avg", "replicate")]

TILINGS = [
    # Height, width, side of tiles, layers.
    (300, 420, 256, DEFAULT),
    (301, 219, 112, DEFAULT),
    (301, 219, 228, DEFAULT),
    (257, 90, 177, DEFAULT),
    (90, 263, 200, ("pool4", "relu2_2", "conv1_1", "pool3", "relu4_1")),
    (97, 131, 60, ("relu3_1", "conv2_2", "pool1")),
    (65, 64, 16, ("relu2_1", "relu1_2")),
    (33, 47, 20, ("conv1_1", "relu1_1")),
    (40, 40, 1, ("pool1", "conv1_2")),
    (150, 163, 146, ("relu4_4",)),
    (291, 30, 272, DEEPEST),
]

each_tiling = pytest.mark.parametrize(
    ("kind", "tiling"),
    # Each tiling with max and average pooling.
    [
        (KINDS[number % 4 - shift], tiling)
        for number, tiling in enumerate(TILINGS)
        for shift in (0, 1)
    ],
)


@each_tiling
def test_features_in_tiles_equal_those_of_the_whole_picture(
    kind: tuple[str, str], tiling: tuple[int, int, int, tuple[str, ...]]
) -> None:
    engine = TorchEngine(thin_vgg(*kind))
    height, width, side, layers = tiling
    image = random_picture(height, width)
    assert len(tiles_of(height, width, side, layers)) > 1
    whole, tiled = (assembling_observer(layers, height, width) for _ in range(2))
    Evaluation(engine).extract_features(image, whole)
    Evaluation(engine, tile=side).extract_features(image, tiled)
    for layer in layers:
        assert torch.allclose(tiled.values[layer], whole.values[layer], rtol=1e-12, atol=1e-12)


@each_tiling
def test_loss_and_gradient_in_tiles_equal_those_of_the_whole_picture(
    kind: tuple[str, str], tiling: tuple[int, int, int, tuple[str, ...]]
) -> None:
    engine = TorchEngine(thin_vgg(*kind))
    height, width, side, layers = tiling
    objective = thin_objective(engine, random_picture(height, width, seed=2), layers)
    image = random_picture(height, width)
    terms, gradient = Evaluation(engine).loss_and_gradient(image, objective)
    evaluation = Evaluation(engine, tile=side)
    tiled_terms, tiled_gradient = evaluation.loss_and_gradient(image, objective)
    assert tiled_terms.loss == pytest.approx(terms.loss, rel=1e-10)
    assert tiled_terms.content == pytest.approx(terms.content, rel=1e-10)
    assert tiled_terms.style == pytest.approx(terms.style, rel=1e-10)
    assert tiled_terms.tv == terms.tv
    assert relative_error(tiled_gradient, gradient) < 1e-9
    assert evaluation.loss(image, objective) == tiled_terms


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_bands_in_tiles_do_not_change_loss_and_gradient(pooling: str) -> None:
    """Some bands begin or end within a margin, or lie in it as a whole."""
    engine = TorchEngine(thin_vgg(pooling, "replicate"))
    objective = thin_objective(engine, random_picture(131, 150, seed=2), DEFAULT[:5])
    image = random_picture(131, 150)
    terms, gradient = Evaluation(engine).loss_and_gradient(image, objective)
    with small_bands(300):
        tiled_terms, tiled_gradient = Evaluation(engine, tile=110).loss_and_gradient(
            image, objective
        )
    assert tiled_terms.loss == pytest.approx(terms.loss, rel=1e-10)
    assert relative_error(tiled_gradient, gradient) < 1e-9


@given(
    height=st.integers(16, 220),
    width=st.integers(16, 90),
    side=st.integers(40, 80),
    layers=st.lists(
        st.sampled_from(layers_through(("relu5_1",))), min_size=1, max_size=4, unique=True
    ),
    pooling=st.sampled_from(["max", "avg"]),
)
@settings(max_examples=20)
def test_any_tiles_of_any_picture_give_its_loss_and_gradient(
    height: int, width: int, side: int, layers: list[str], pooling: str
) -> None:
    engine = TorchEngine(thin_vgg(pooling, "replicate"))
    objective = thin_objective(engine, random_picture(height, width, seed=2), layers)
    if len(layers) == 1:
        weights = replace(objective.weights, content=0.0)
        objective = replace(objective, weights=weights)
    image = random_picture(height, width)
    terms, gradient = Evaluation(engine).loss_and_gradient(image, objective)
    tiled_terms, tiled_gradient = Evaluation(engine, tile=side).loss_and_gradient(image, objective)
    assert tiled_terms.loss == pytest.approx(terms.loss, rel=1e-9)
    assert relative_error(tiled_gradient, gradient) < 1e-8


def test_a_step_in_sections_does_not_depend_on_the_one_before() -> None:
    engine = TorchEngine(thin_vgg("max", "replicate"))
    objective = thin_objective(engine, random_picture(131, 150, seed=2), DEFAULT)
    evaluation = Evaluation(engine, tile=100)
    first, second = (random_picture(131, 150, seed=seed) for seed in (1, 3))
    _, gradient = evaluation.loss_and_gradient(second, objective)
    evaluation.loss_and_gradient(first, objective)
    evaluation.loss(first, objective)
    _, again = evaluation.loss_and_gradient(second, objective)
    assert torch.equal(again, gradient)


# VGG19, in both engines.

WEIGHTS = LossWeights(
    content=1.0,
    style=20.0,
    tv=0.5,
    content_layers={"conv4_2": 1.0, "conv3_1": 0.5},
    style_layers={"relu1_1": 1, "relu2_1": 1, "relu3_1": 1, "relu4_1": 1, "relu5_1": 1},
)
SHALLOW = replace(
    WEIGHTS,
    content_layers={"conv3_1": 1.0, "relu2_1": 1.0},
    style_layers={"relu1_1": 1, "relu2_1": 1, "relu3_1": 1},
)


def engine_of(network: Network, name: str) -> TorchEngine:
    vgg = read_vgg(network.path)
    if name == "torch":
        return TorchEngine(vgg)
    return OnnxEngine(vgg, open_session(network.path, provider="cpu"))


def mirrored(crop: Crop, height: int, width: int) -> Tensor:
    """A picture larger than the tests' own, extended by reflection."""
    one = crop(160, 160)
    upper = torch.cat([one, one.flip(3)], dim=3)
    return torch.cat([upper, upper.flip(2)], dim=2)[:, :, :height, :width].contiguous()


@pytest.mark.parametrize("loss", ["gram", "w2"])
@pytest.mark.parametrize("name", ["torch", "onnx"])
def test_shallow_losses_in_tiles_equal_those_of_the_whole_picture(
    network: Network, name: str, loss: str, photo: Crop, painting: Crop
) -> None:
    weights = replace(SHALLOW, style_loss=loss)
    assert_tiles_equal_whole(engine_of(network, name), (131, 157), 80, weights, photo, painting)


@pytest.mark.parametrize("loss", ["gram", "w2"])
@pytest.mark.parametrize("name", ["torch", "onnx"])
def test_deep_losses_in_tiles_equal_those_of_the_whole_picture(
    default_network: Network, name: str, loss: str, photo: Crop, painting: Crop
) -> None:
    weights = replace(WEIGHTS, style_loss=loss)
    assert_tiles_equal_whole(
        engine_of(default_network, name), (99, 271), 256, weights, photo, painting
    )


def assert_tiles_equal_whole(
    engine: TorchEngine,
    size: tuple[int, int],
    side: int,
    weights: LossWeights,
    photo: Crop,
    painting: Crop,
) -> None:
    height, width = size
    assert len(tiles_of(height, width, side, weights.layers)) > 2
    whole, tiled = Evaluation(engine), Evaluation(engine, tile=side)
    picture, style = mirrored(photo, height, width), mirrored(painting, height + 9, width - 5)
    objective, before = objective_for(whole, weights, picture, style)
    tiled_objective, tiled_before = objective_for(tiled, weights, picture, style)
    assert tiled_before == pytest.approx(before, rel=1e-5)
    for layer, target in objective.contents.items():
        assert relative_error(tiled_objective.contents[layer], target) < 1e-5, layer
    tiled_grams = target_grams(tiled_objective.styles[0])
    for layer, gram in target_grams(objective.styles[0]).items():
        assert relative_error(tiled_grams[layer], gram) < 1e-5, layer

    image = (picture * 0.7 + 0.1).clamp(0, 1)
    terms, gradient = whole.loss_and_gradient(image, objective)
    tiled_terms, tiled_gradient = tiled.loss_and_gradient(image, tiled_objective)
    for part in ("loss", "content", "style", "tv"):
        assert getattr(tiled_terms, part) == pytest.approx(getattr(terms, part), rel=1e-5), part
    # Tiles may use other algorithms than the whole picture. A mask that flips by their rounding
    # changes the gradient by 1e-3; in double precision, above, none flips.
    assert relative_error(tiled_gradient, gradient) < 1e-2
    assert tiled.loss(image, objective).loss == pytest.approx(terms.loss, rel=1e-5)


def test_targets_equal_the_pictures_features_and_gram_matrices(
    default_network: Network, photo: Crop, painting: Crop
) -> None:
    engine = engine_of(default_network, "torch")
    picture, style = photo(75, 101), painting(67, 90)
    for gram_mean in (True, False):
        weights = replace(WEIGHTS, gram_mean=gram_mean)
        objective, before = objective_for(Evaluation(engine), weights, picture, style)
        copies = ContentObserver(default_network.spec.taps, 75, 101)
        Evaluation(engine).extract_features(picture, copies)
        style_features = ContentObserver(default_network.spec.taps, 67, 90)
        Evaluation(engine).extract_features(style, style_features)
        assert set(objective.contents) == set(weights.content_layers)
        for layer, target in objective.contents.items():
            assert torch.equal(target, copies.values[layer])
        expected = {
            layer: gram_matrix(style_features.values[layer][None], mean=gram_mean)
            for layer in weights.style_layers
        }
        photo_grams = {
            layer: gram_matrix(copies.values[layer][None], mean=gram_mean)
            for layer in weights.style_layers
        }
        for layer, gram in expected.items():
            assert relative_error(target_grams(objective.styles[0])[layer], gram) < 1e-5, layer
        assert before == pytest.approx(
            sum(
                float((photo_grams[layer] - gram).square().mean() / gram.square().mean()) / 5
                for layer, gram in expected.items()
            ),
            rel=1e-4,
        )
        # The content loss of the photo is zero.
        terms = Evaluation(engine).loss(picture, objective)
        assert terms.content == 0
        assert terms.style == pytest.approx(before, rel=1e-5)


def test_a_later_step_does_not_overwrite_the_gradient(
    default_network: Network, photo: Crop, painting: Crop
) -> None:
    for name, tile in product(("torch", "onnx"), (None, 64)):
        evaluation = Evaluation(engine_of(default_network, name), tile=tile)
        weights = replace(SHALLOW, content_layers={"conv3_1": 1.0})
        objective, _ = objective_for(evaluation, weights, photo(96, 80), painting(96, 80))
        _, gradient = evaluation.loss_and_gradient(painting(96, 80), objective)
        before = gradient.clone()
        evaluation.loss_and_gradient(photo(96, 80), objective)
        assert torch.equal(gradient, before)


def test_gram_matrices_in_tiles_equal_those_of_the_whole_picture(
    default_network: Network, painting: Crop
) -> None:
    engine = engine_of(default_network, "onnx")
    whole, tiled = MomentObserver(("relu2_1", "relu3_1")), MomentObserver(("relu2_1", "relu3_1"))
    Evaluation(engine).extract_features(painting(123, 145), whole)
    Evaluation(engine, tile=64).extract_features(painting(123, 145), tiled)
    for layer, moments in whole.moments().items():
        assert tiled.positions(layer) == whole.positions(layer)
        assert relative_error(tiled.moments()[layer].second, moments.second) < 1e-5
