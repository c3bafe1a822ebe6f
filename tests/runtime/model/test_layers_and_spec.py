"""Layer names, and the specification of a model and its key."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
import torchvision
from hypothesis import given
from hypothesis import strategies as st

from nstrt.runtime.errors import LayerNameError, OptionError, WeightsError
from nstrt.runtime.model import (
    LAYERS,
    STEP_VARIANTS,
    VARIANTS,
    ModelSpec,
    check_layer,
    in_network_order,
    layers_through,
    stride_of,
    taps_for_gradient,
)
from nstrt.runtime.options.options import StylizeOptions

SPEC = ModelSpec(taps=("relu1_1", "relu2_1"))

subsets = st.lists(st.sampled_from(LAYERS), min_size=1, max_size=6)


def test_layers_are_torchvisions_feature_modules_in_order() -> None:
    import torch

    with torch.device("meta"):
        modules = list(torchvision.models.vgg19(weights=None).features)
    kinds = {"Conv2d": "conv", "ReLU": "relu", "MaxPool2d": "pool"}
    expected, block, index = [], 1, 0
    for module in modules:
        kind = kinds[type(module).__name__]
        if kind == "pool":
            expected.append(f"pool{block}")
            block, index = block + 1, 0
        else:
            index += kind == "conv"
            expected.append(f"{kind}{block}_{index}")
    assert expected[:-1] == list(LAYERS)  # pool5 is of no use to anyone
    assert (LAYERS[0], LAYERS[1], LAYERS[-1], len(LAYERS)) == ("conv1_1", "relu1_1", "relu5_4", 36)


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("relu3_5", "relu3_4"), ("Conv4_2", "conv4_2"), ("conv42", "conv4_2"), ("pool5", "pool")],
)
def test_an_unknown_name_suggests_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(LayerNameError, match=f"'{wrong}'; did you mean '{near}"):
        check_layer(wrong)


@pytest.mark.parametrize("wrong", ["", "fc6", "relu9_9", "🙂"])
def test_any_unknown_name_is_a_named_error(wrong: str) -> None:
    with pytest.raises(LayerNameError, match="did you mean"):
        check_layer(wrong)


@given(subsets)
def test_order_is_the_networks_and_each_layer_comes_once(names: list[str]) -> None:
    ordered = in_network_order(names)
    assert set(ordered) == set(names)
    assert [LAYERS.index(name) for name in ordered] == sorted({LAYERS.index(n) for n in names})


@given(subsets)
def test_layers_through_end_at_the_deepest(names: list[str]) -> None:
    through = layers_through(names)
    assert through == LAYERS[: len(through)]
    assert set(names) <= set(through)
    assert through[-1] in names


@given(subsets)
def test_the_gradient_needs_every_relu_and_pooling_and_what_was_asked(names: list[str]) -> None:
    taps = taps_for_gradient(names)
    through = layers_through(names)
    assert taps == tuple(
        name for name in through if name in names or name.startswith(("relu", "pool"))
    )


def test_strides_double_with_each_pooling() -> None:
    assert [stride_of(name) for name in LAYERS] == [
        2 ** sum(before.startswith("pool") for before in LAYERS[: position + 1])
        for position in range(len(LAYERS))
    ]


def test_taps_are_put_in_network_order_once_each() -> None:
    spec = ModelSpec(taps=("relu2_1", "conv1_1", "relu2_1"))
    assert spec.taps == ("conv1_1", "relu2_1")
    assert spec.layers == LAYERS[: LAYERS.index("relu2_1") + 1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"taps": ()},
        {"taps": ("relu1_9",)},
        {"pooling": "mean"},
        {"padding": "reflect"},
        {"variant": "int8"},
        {"variant": "step"},
        {"content_layers": ("relu1_1",)},
        {"variant": "step", "style_layers": ("relu1_2",)},
        {"variant": "tile", "content_layers": ("relu1_1",), "style_layers": ("relu9_1",)},
    ],
    ids=str,
)
def test_a_wrong_field_is_an_option_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        ModelSpec(**{"taps": ("relu1_1",), **wrong})


def test_equal_specifications_have_equal_keys() -> None:
    again = ModelSpec(taps=("relu2_1", "relu1_1"), pooling="max", weights="oxford")
    assert again == SPEC
    assert (again.key, again.file_name) == (SPEC.key, SPEC.file_name)


def test_every_field_changes_the_key_and_the_file_name() -> None:
    others: dict[str, Any] = {
        "taps": ("relu1_1", "relu1_2", "relu2_1"),
        "weights": "torchvision",
        "pooling": "avg",
        "padding": "zero",
        "normalize": False,
        "variant": "fp16",
    }
    losses = {"content_layers", "style_layers"}
    assert set(others) | losses == {field.name for field in dataclasses.fields(ModelSpec)}
    specs = [SPEC, *(dataclasses.replace(SPEC, **{name: v}) for name, v in others.items())]
    one, two = SPEC.taps
    for content, style in (((one,), (two,)), ((two,), (one,)), ((one, two), (two,)), ((one,), ())):
        step = ModelSpec.for_step(content, style)
        specs += [step.as_variant(variant) for variant in STEP_VARIANTS]
    assert len({spec.key for spec in specs}) == len(specs)
    assert len({spec.file_name for spec in specs}) == len(specs)


def test_a_file_name_says_what_is_inside() -> None:
    assert SPEC.file_name == f"vgg19-oxford-max-replicate-relu2_1-plain-{SPEC.key}.onnx"


def test_weights_files_are_keyed_by_content_and_not_by_path(tmp_path: Path) -> None:
    def spec(path: Path) -> ModelSpec:
        return dataclasses.replace(SPEC, weights=str(path))

    one, same, other = (tmp_path / name for name in ("one.pth", "same.pth", "other.pth"))
    one.write_bytes(b"weights")
    same.write_bytes(b"weights")
    other.write_bytes(b"Weights")
    assert spec(one).file_name == spec(same).file_name
    assert spec(one).key != spec(other).key
    before = spec(one).key
    one.write_bytes(b"changed")
    os.utime(one, ns=(1, 1))  # however coarse the clock of the file system is
    assert spec(one).key != before


def test_weights_that_are_not_there_are_a_named_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nowhere\.pth"):
        _ = ModelSpec(taps=("relu1_1",), weights=str(tmp_path / "nowhere.pth")).key


def test_the_model_for_losses_gives_out_what_the_gradient_needs() -> None:
    spec = ModelSpec.for_losses(("conv2_1",), pooling="avg", padding="zero", normalize=False)
    assert spec.taps == ("relu1_1", "relu1_2", "pool1", "conv2_1")
    assert (spec.pooling, spec.padding, spec.normalize) == ("avg", "zero", False)
    assert spec.as_variant("fp16") == dataclasses.replace(spec, variant="fp16")


@pytest.mark.parametrize(
    ("given", "keys"),
    [
        ({}, ("fe31c082d12f", "659c9d9eeee7", "5a94811c8975")),
        ({"pooling": "avg"}, ("1d0944256c77", "c1722f61e55a", "55c203c44da5")),
        ({"padding": "zero"}, ("e03f95ab777b", "4ad819ae3f0f", "4b36f700a31c")),
    ],
    ids=str,
)
def test_models_that_people_have_keep_their_names(
    given: dict[str, Any], keys: tuple[str, ...]
) -> None:
    """A key that changed would have every cache filled again."""
    spec = StylizeOptions.of(**given).spec
    for variant, key in zip(VARIANTS, keys, strict=True):
        words = (spec.weights, spec.pooling, spec.padding, "relu5_1", variant, key)
        assert spec.as_variant(variant).file_name == f"vgg19-{'-'.join(words)}.onnx"


def test_a_step_knows_which_loss_looks_at_which_layer() -> None:
    spec = ModelSpec.for_step(
        ("relu2_1",), ("relu2_1", "relu1_1"), pooling="avg", padding="zero", normalize=False
    )
    assert (spec.variant, spec.taps) == ("step", ("relu1_1", "relu2_1"))
    assert (spec.content_layers, spec.style_layers) == (("relu2_1",), ("relu1_1", "relu2_1"))
    assert (spec.pooling, spec.padding, spec.normalize) == ("avg", "zero", False)
    tile = spec.as_variant("tile")
    assert (tile.content_layers, tile.style_layers) == (spec.content_layers, spec.style_layers)
    features = spec.as_variant("optimized")
    assert features == ModelSpec(
        taps=spec.taps, pooling="avg", padding="zero", normalize=False, variant="optimized"
    )
    with pytest.raises(OptionError, match="are its taps in the variants step"):
        features.as_variant("step")
    assert [name for name in (*VARIANTS, *STEP_VARIANTS) if spec.as_variant(name).is_step] == [
        *STEP_VARIANTS
    ]


def test_options_know_their_step() -> None:
    options = StylizeOptions.of(pooling="avg", content_layers="conv4_2", style_layers="relu1_1")
    assert options.step_spec == ModelSpec.for_step(("conv4_2",), ("relu1_1",), pooling="avg")
