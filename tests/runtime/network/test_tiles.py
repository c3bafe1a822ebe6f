"""A picture in tiles: the same features, loss and gradient as of the whole."""

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
from nstrt.runtime.engines.onnx_engine import OnnxEngine
from nstrt.runtime.engines.targets import objective_for
from nstrt.runtime.engines.torch_engine import TorchEngine
from nstrt.runtime.kernels.convolution import Filter
from nstrt.runtime.loss.accumulate import ContentObserver, GramObserver
from nstrt.runtime.loss.objective import LossWeights, Objective, StyleTarget
from nstrt.runtime.model import LAYERS, layers_between, layers_through, stride_of
from nstrt.runtime.network import bands as bands_module
from nstrt.runtime.network.sections import CUT, deep_side, sections_of
from nstrt.runtime.network.tiles import Span, margin_of, tiles_of
from nstrt.runtime.network.vgg import ConvBlock, InputNormalization, TorchVGG, read_vgg
from nstrt.runtime.ort.session import open_session

from support.formulas import gram_matrix

if TYPE_CHECKING:
    from support import Crop, Network

DEFAULT = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "conv4_2", "relu5_1")
BEHIND = layers_between(CUT, LAYERS)
DEEPEST = ("relu1_1", "relu1_2", "pool1", "relu2_1", "relu3_1", "conv4_2", "relu5_1", "relu5_4")


def error(found: Tensor, expected: Tensor) -> float:
    """||found - expected|| / ||expected||."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


# Where tiles lie.


@pytest.mark.parametrize(
    ("layer", "pixels"),
    [
        ("conv1_1", 1),
        ("relu1_1", 1),
        ("relu1_2", 2),
        ("pool1", 2),
        ("relu2_1", 4),
        ("relu3_1", 12),
        ("relu3_4", 24),
        ("relu4_1", 32),
        ("conv4_2", 40),
        ("pool4", 64),
        ("relu5_1", 80),
        ("relu5_4", 128),
    ],
)
def test_margins_are_as_wide_as_edges_reach(layer: str, pixels: int) -> None:
    assert margin_of((layer,)) == pixels
    assert margin_of(("relu1_1", layer)) == pixels


@pytest.mark.parametrize(
    ("layer", "pixels"),
    [("conv4_1", 8), ("relu4_4", 32), ("pool4", 32), ("relu5_1", 48), ("relu5_4", 96)],
)
def test_margins_behind_a_cut_begin_anew(layer: str, pixels: int) -> None:
    assert margin_of((layer,), "pool3") == pixels


def places(span: Span, stride: int) -> range:
    """Where a span's core lies in a layer of the whole picture."""
    features = range(
        span.start // stride, span.start // stride + (span.stop - span.start) // stride
    )
    return features[span.core(stride)]


@given(
    height=st.integers(16, 400),
    width=st.integers(16, 400),
    side=st.integers(1, 420),
    layers_after=st.one_of(
        st.tuples(st.lists(st.sampled_from(LAYERS), min_size=1, max_size=3), st.none()),
        st.tuples(st.lists(st.sampled_from(BEHIND), min_size=1, max_size=3), st.just(CUT)),
    ),
)
@settings(max_examples=230)
def test_every_position_of_every_layer_is_in_one_core(
    height: int, width: int, side: int, layers_after: tuple[list[str], str | None]
) -> None:
    layers, after = layers_after
    tiles = tiles_of(height, width, side, layers, after)
    rows, columns = (
        list(dict.fromkeys(spans))
        for spans in zip(*((t.rows, t.columns) for t in tiles), strict=True)
    )
    assert [(tile.rows, tile.columns) for tile in tiles] == list(product(rows, columns))
    margin = margin_of(layers, after)
    step = max(stride_of(name) for name in layers_through(layers))
    for spans, length in ((rows, height), (columns, width)):
        for name in layers_between(after, layers):
            stride = stride_of(name)
            found = [place for span in spans for place in places(span, stride)]
            assert found == list(range(length // stride)), name
        for span in spans:
            assert 0 <= span.start <= span.core_start < span.stop <= length
            # Poolings' windows lie as in the whole, and margins are whole but at its edges.
            assert span.start % step == 0
            assert span.core_start - span.start >= margin or span.start == 0
            stop = length if span.core_stop is None else span.core_stop
            assert span.stop - stop >= margin or span.stop == length
            assert span.stop - span.start <= max(side, 2 * margin + 2 * step)
    if side >= 2 * margin + step:
        stride = stride_of(after) if after else 1
        assert all(stride * max(tile.size) <= side for tile in tiles)


def test_no_side_and_a_small_picture_are_one_tile() -> None:
    for side in (None, 300, 1000):
        (tile,) = tiles_of(200, 300, side, DEFAULT)
        assert tile.size == (200, 300)
        image = torch.rand(1, 3, 200, 300)
        assert torch.equal(tile.crop(image), image)


def test_cores_are_about_equally_large() -> None:
    """A last sliver would cost a margin of its own."""
    spans = [tile.rows for tile in tiles_of(1000, 16, 560, ("relu5_1",))]
    assert [span.core_start for span in spans] == [0, 336, 672]
    assert [(span.start, span.stop) for span in spans] == [(0, 416), (256, 752), (592, 1000)]


# The network in sections.


def test_the_network_is_cut_where_tiles_would_need_wide_margins() -> None:
    first, second = sections_of(900, 700, 300, DEFAULT, in_two=True)
    assert (first.until, second.until) == (CUT, None)
    assert {tile.after for tile in first.tiles} == {None}
    assert {tile.after for tile in second.tiles} == {CUT}
    assert {tile.layers for tile in first.tiles} == {("relu1_1", "relu2_1", "relu3_1", CUT)}
    assert {tile.layers for tile in second.tiles} == {("relu4_1", "conv4_2", "relu5_1")}
    assert max(max(tile.size) for tile in first.tiles) <= 300
    # In pixels of the picture, tiles behind the cut may be half as large again.
    assert 300 < 8 * max(max(tile.size) for tile in second.tiles) <= 450
    assert len(first.tiles) > len(second.tiles) > 4
    everywhere = torch.arange(900 * 700).view(1, 1, 900, 700)
    assert first.tiles[1].crop(everywhere).shape[2:] == first.tiles[1].size
    # Some tiles behind the cut end with the picture, at a layer that leaves out odd pixels.
    features = everywhere[:, :, : 900 // 8, : 700 // 8]
    for tile in second.tiles:
        assert tile.crop(features).shape[2:] == tile.size


@pytest.mark.parametrize("deepest", ["conv4_1", "relu5_1", "relu5_4"])
def test_small_tiles_have_cores_behind_the_cut_too(deepest: str) -> None:
    first, second = sections_of(900, 700, 112, ("relu1_1", deepest), in_two=True)
    assert len(second.tiles) <= len(first.tiles)
    most = deep_side(112, (deepest,))
    assert all(8 * max(tile.size) <= most for tile in second.tiles)


@pytest.mark.parametrize(
    ("side", "layers", "in_two"),
    [(None, DEFAULT, True), (900, DEFAULT, True), (300, DEFAULT, False), (300, (CUT,), True)],
    ids=["whole", "one tile", "an engine that cannot", "nothing behind"],
)
def test_else_it_is_one_section(side: int | None, layers: tuple[str, ...], in_two: bool) -> None:
    (section,) = sections_of(900, 700, side, layers, in_two=in_two)
    assert section.until is None
    assert section.tiles == tiles_of(900, 700, side, layers)


def test_nothing_is_left_at_the_cut_from_the_step_before() -> None:
    engine = TorchEngine(thin_vgg("max", "replicate"))
    objective = thin_objective(engine, random_picture(131, 150, seed=2), DEFAULT)
    evaluation = Evaluation(engine, tile=100)
    first, second = (random_picture(131, 150, seed=seed) for seed in (1, 3))
    _, gradient = evaluation.loss_and_gradient(second, objective)
    evaluation.loss_and_gradient(first, objective)
    evaluation.loss(first, objective)
    _, again = evaluation.loss_and_gradient(second, objective)
    assert torch.equal(again, gradient)


# What is computed in them.


def thin_vgg(pooling: str, padding: str, channels: int = 6) -> TorchVGG:
    """VGG19's stages with few channels, in double precision, where no mask flips."""
    generator = torch.Generator().manual_seed(4)
    stages = []
    inputs = 3
    for number, name in enumerate(LAYERS):
        if not name.startswith("conv"):
            continue
        weight = torch.randn(channels, inputs, 3, 3, generator=generator, dtype=torch.float64)
        bias = torch.randn(channels, generator=generator, dtype=torch.float64) / 4
        after = LAYERS[number + 2] if number + 2 < len(LAYERS) else ""
        pool = after if after.startswith("pool") else None
        weights = Filter(weight * (2 / 9 / inputs) ** 0.5, bias)
        stages.append(ConvBlock(weights, name, LAYERS[number + 1], pool, pooling == "avg"))
        inputs = channels
    mean = torch.full((1, 3, 1, 1), 0.4, dtype=torch.float64)
    head = InputNormalization(mean, mean / 2, replicate=padding == "replicate")
    return TorchVGG(head, stages, taps=LAYERS)


class Assembled:
    """Puts features together from pieces, each of which has to come once."""

    def __init__(self, layers: Sequence[str], height: int, width: int, channels: int = 6) -> None:
        self.layers = tuple(layers)
        self.values = {
            layer: torch.full(
                (channels, height // stride_of(layer), width // stride_of(layer)),
                torch.nan,
                dtype=torch.float64,
            )
            for layer in layers
        }

    def observe(self, layer: str, values: Tensor, top: int, left: int = 0) -> None:
        place = self.values[layer][:, top : top + values.shape[1], left : left + values.shape[2]]
        assert place.isnan().all(), layer
        place.copy_(values)

    def add_gradient(
        self, layer: str, values: Tensor, gradient: Tensor, top: int, left: int = 0
    ) -> None:
        raise AssertionError("nobody goes back")


def random_picture(height: int, width: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, height, width, generator=generator, dtype=torch.float64)


def thin_objective(engine: TorchEngine, photo: Tensor, layers: Sequence[str]) -> Objective:
    """Half of the layers hold the content, the others the style, of pictures of noise."""
    weights = LossWeights(
        content=1.0,
        style=10.0,
        tv=0.3,
        content_layers=dict.fromkeys(layers[1::2], 1.0),
        style_layers=dict.fromkeys(layers[::2], 1.0),
    )
    content, style = (Assembled(layers, *photo.shape[2:]) for _ in range(2))
    Evaluation(engine).extract_features(photo, content)
    Evaluation(engine).extract_features(photo.flip(2).square(), style)
    grams = {}
    for name in weights.style_layers:
        flat = style.values[name].flatten(1)
        grams[name] = flat @ flat.T / flat.shape[1]
    contents = {name: content.values[name] for name in weights.content_layers}
    return Objective(weights=weights, contents=contents, styles=(StyleTarget(grams=grams),))


KINDS = [("max", "replicate"), ("avg", "zero"), ("max", "zero"), ("avg", "replicate")]

TILINGS = [
    # Height, width, side, layers.
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

kinds_in_turn = pytest.mark.parametrize(
    ("kind", "tiling"),
    # Each tiling with two kinds, of which one has maxima and the other means.
    [
        (KINDS[number % 4 - shift], tiling)
        for number, tiling in enumerate(TILINGS)
        for shift in (0, 1)
    ],
)


@kinds_in_turn
def test_features_in_tiles_are_those_of_the_whole(
    kind: tuple[str, str], tiling: tuple[int, int, int, tuple[str, ...]]
) -> None:
    engine = TorchEngine(thin_vgg(*kind))
    height, width, side, layers = tiling
    image = random_picture(height, width)
    assert len(tiles_of(height, width, side, layers)) > 1
    whole, tiled = (Assembled(layers, height, width) for _ in range(2))
    Evaluation(engine).extract_features(image, whole)
    Evaluation(engine, tile=side).extract_features(image, tiled)
    for layer in layers:
        assert torch.allclose(tiled.values[layer], whole.values[layer], rtol=1e-12, atol=1e-12)


@kinds_in_turn
def test_loss_and_gradient_in_tiles_are_those_of_the_whole(
    kind: tuple[str, str], tiling: tuple[int, int, int, tuple[str, ...]]
) -> None:
    engine = TorchEngine(thin_vgg(*kind))
    height, width, side, layers = tiling
    objective = thin_objective(engine, random_picture(height, width, seed=2), layers)
    image = random_picture(height, width)
    terms, gradient = Evaluation(engine).loss_and_gradient(image, objective)
    evaluation = Evaluation(engine, tile=side)
    found_terms, found = evaluation.loss_and_gradient(image, objective)
    assert found_terms.loss == pytest.approx(terms.loss, rel=1e-10)
    assert found_terms.content == pytest.approx(terms.content, rel=1e-10)
    assert found_terms.style == pytest.approx(terms.style, rel=1e-10)
    assert found_terms.tv == terms.tv
    assert error(found, gradient) < 1e-9
    assert evaluation.loss(image, objective) == found_terms


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_tiles_in_bands_are_the_same(pooling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands that begin or end in the middle of a margin, and lie wholly within one."""
    engine = TorchEngine(thin_vgg(pooling, "replicate"))
    objective = thin_objective(engine, random_picture(131, 150, seed=2), DEFAULT[:5])
    image = random_picture(131, 150)
    terms, gradient = Evaluation(engine).loss_and_gradient(image, objective)
    monkeypatch.setattr(bands_module, "_BAND_BYTES", 0)
    monkeypatch.setattr(bands_module, "_BAND_PIXELS", 300)
    found_terms, found = Evaluation(engine, tile=110).loss_and_gradient(image, objective)
    assert found_terms.loss == pytest.approx(terms.loss, rel=1e-10)
    assert error(found, gradient) < 1e-9


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
def test_any_picture_in_any_tiles_has_its_gradient(
    height: int, width: int, side: int, layers: list[str], pooling: str
) -> None:
    engine = TorchEngine(thin_vgg(pooling, "replicate"))
    objective = thin_objective(engine, random_picture(height, width, seed=2), layers)
    if len(layers) == 1:
        weights = replace(objective.weights, content=0.0)
        objective = replace(objective, weights=weights)
    image = random_picture(height, width)
    terms, gradient = Evaluation(engine).loss_and_gradient(image, objective)
    found_terms, found = Evaluation(engine, tile=side).loss_and_gradient(image, objective)
    assert found_terms.loss == pytest.approx(terms.loss, rel=1e-9)
    assert error(found, gradient) < 1e-8


# VGG19 itself, in both engines.

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


def large(crop: Crop, height: int, width: int) -> Tensor:
    """More of a picture than the tests have: the same again, turned."""
    one = crop(160, 160)
    above = torch.cat([one, one.flip(3)], dim=3)
    return torch.cat([above, above.flip(2)], dim=2)[:, :, :height, :width].contiguous()


@pytest.mark.parametrize("name", ["torch", "onnx"])
def test_both_engines_evaluate_in_tiles(
    network: Network, name: str, photo: Crop, painting: Crop
) -> None:
    tiles_are_the_whole(engine_of(network, name), (131, 157), 80, SHALLOW, photo, painting)


@pytest.mark.parametrize("name", ["torch", "onnx"])
def test_all_of_vgg19_is_evaluated_in_tiles(
    default_network: Network, name: str, photo: Crop, painting: Crop
) -> None:
    tiles_are_the_whole(engine_of(default_network, name), (99, 271), 256, WEIGHTS, photo, painting)


def tiles_are_the_whole(
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
    picture, style = large(photo, height, width), large(painting, height + 9, width - 5)
    objective, before = objective_for(whole, weights, picture, style)
    found, found_before = objective_for(tiled, weights, picture, style)
    assert found_before == pytest.approx(before, rel=1e-5)
    for layer, target in objective.contents.items():
        assert error(found.contents[layer], target) < 1e-5, layer
    for layer, gram in objective.styles[0].grams.items():
        assert error(found.styles[0].grams[layer], gram) < 1e-5, layer

    image = (picture * 0.7 + 0.1).clamp(0, 1)
    terms, gradient = whole.loss_and_gradient(image, objective)
    found_terms, found_gradient = tiled.loss_and_gradient(image, found)
    for part in ("loss", "content", "style", "tv"):
        assert getattr(found_terms, part) == pytest.approx(getattr(terms, part), rel=1e-5), part
    # A tile's algorithms may be others than the whole picture's: a mask that flips under their
    # rounding moves the gradient by 1e-3. In double precision, above, none does.
    assert error(found_gradient, gradient) < 1e-2
    assert tiled.loss(image, objective).loss == pytest.approx(terms.loss, rel=1e-5)


def test_targets_are_the_features_and_grams_of_the_pictures(
    default_network: Network, photo: Crop, painting: Crop
) -> None:
    engine = engine_of(default_network, "torch")
    picture, style = photo(75, 101), painting(67, 90)
    for gram_mean in (True, False):
        weights = replace(WEIGHTS, gram_mean=gram_mean)
        objective, before = objective_for(Evaluation(engine), weights, picture, style)
        copies = ContentObserver(default_network.spec.taps, 75, 101)
        Evaluation(engine).extract_features(picture, copies)
        of_style = ContentObserver(default_network.spec.taps, 67, 90)
        Evaluation(engine).extract_features(style, of_style)
        assert set(objective.contents) == set(weights.content_layers)
        for layer, target in objective.contents.items():
            assert torch.equal(target, copies.values[layer])
        expected = {
            layer: gram_matrix(of_style.values[layer][None], mean=gram_mean)
            for layer in weights.style_layers
        }
        own = {
            layer: gram_matrix(copies.values[layer][None], mean=gram_mean)
            for layer in weights.style_layers
        }
        for layer, gram in expected.items():
            assert error(objective.styles[0].grams[layer], gram) < 1e-5, layer
        assert before == pytest.approx(
            sum(
                float((own[layer] - gram).square().mean() / gram.square().mean()) / 5
                for layer, gram in expected.items()
            ),
            rel=1e-4,
        )
        # The photo itself has no content loss.
        terms = Evaluation(engine).loss(picture, objective)
        assert terms.content == 0
        assert terms.style == pytest.approx(before, rel=1e-5)


def test_the_gradient_is_the_callers_own(
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


def test_only_grams_are_looked_at_in_tiles_of_another_picture(
    default_network: Network, painting: Crop
) -> None:
    engine = engine_of(default_network, "onnx")
    whole, tiled = GramObserver(("relu2_1", "relu3_1")), GramObserver(("relu2_1", "relu3_1"))
    Evaluation(engine).extract_features(painting(123, 145), whole)
    Evaluation(engine, tile=64).extract_features(painting(123, 145), tiled)
    for layer, gram in whole.matrices(mean=True).items():
        assert tiled.positions(layer) == whole.positions(layer)
        assert error(tiled.matrices(mean=True)[layer], gram) < 1e-5
