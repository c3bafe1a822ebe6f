"""Specification of a model, its key and its file name."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from nstrt.runtime.errors import OptionError, WeightsError
from nstrt.runtime.model import LAYERS, STEP_VARIANTS, VARIANTS, ModelSpec
from nstrt.runtime.options.options import StylizeOptions

SPEC = ModelSpec(taps=("relu1_1", "relu2_1"))


def test_taps_are_sorted_without_duplicates() -> None:
    spec = ModelSpec(taps=("relu2_1", "conv1_1", "relu2_1"))
    assert spec.taps == ("conv1_1", "relu2_1")
    assert spec.layers == LAYERS[: LAYERS.index("relu2_1") + 1]


@pytest.mark.parametrize(
    "fields",
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
def test_invalid_fields_raise_option_error(fields: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        ModelSpec(**{"taps": ("relu1_1",), **fields})


def test_equal_specifications_have_equal_keys() -> None:
    again = ModelSpec(taps=("relu2_1", "relu1_1"), pooling="max", weights="oxford")
    assert again == SPEC
    assert (again.key, again.file_name) == (SPEC.key, SPEC.file_name)


def test_every_field_changes_key_and_file_name() -> None:
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


def test_file_names_contain_the_fields() -> None:
    assert SPEC.file_name == f"vgg19-oxford-max-replicate-relu2_1-plain-{SPEC.key}.onnx"


def test_weight_files_are_keyed_by_content(tmp_path: Path) -> None:
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
    os.utime(one, ns=(1, 1))  # for file systems with a coarse clock
    assert spec(one).key != before


@pytest.mark.parametrize("name", ["a\ud800.pth", "a\0b.pth", "~nobody-of-this-name/a.pth"])
def test_names_that_no_file_has_raise_weights_error(name: str) -> None:
    with pytest.raises(WeightsError, match="cannot be read"):
        _ = ModelSpec(taps=("relu1_1",), weights=name).key


def test_missing_weight_files_raise_weights_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nowhere\.pth"):
        _ = ModelSpec(taps=("relu1_1",), weights=str(tmp_path / "nowhere.pth")).key


def test_for_losses_outputs_the_layers_of_the_gradient() -> None:
    spec = ModelSpec.for_losses(("conv2_1",), pooling="avg", padding="zero", normalize=False)
    assert spec.taps == ("relu1_1", "relu1_2", "pool1", "conv2_1")
    assert (spec.pooling, spec.padding, spec.normalize) == ("avg", "zero", False)
    assert spec.as_variant("fp16") == dataclasses.replace(spec, variant="fp16")


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ({"pooling": "max"}, ("fe31c082d12f", "659c9d9eeee7", "5a94811c8975")),
        ({"pooling": "avg"}, ("1d0944256c77", "c1722f61e55a", "55c203c44da5")),
        ({"pooling": "max", "padding": "zero"}, ("e03f95ab777b", "4ad819ae3f0f", "4b36f700a31c")),
    ],
    ids=str,
)
def test_existing_models_keep_their_file_names(
    options: dict[str, Any], keys: tuple[str, ...]
) -> None:
    """A changed key would rebuild every cached model."""
    spec = StylizeOptions.of(**options).spec
    for variant, key in zip(VARIANTS, keys, strict=True):
        words = (spec.weights, spec.pooling, spec.padding, "relu5_1", variant, key)
        assert spec.as_variant(variant).file_name == f"vgg19-{'-'.join(words)}.onnx"


def test_for_step_keeps_the_layers_of_each_loss() -> None:
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


def test_options_give_their_step_specification() -> None:
    options = StylizeOptions.of(pooling="avg", content_layers="conv4_2", style_layers="relu1_1")
    assert options.step_spec == ModelSpec.for_step(("conv4_2",), ("relu1_1",), pooling="avg")
