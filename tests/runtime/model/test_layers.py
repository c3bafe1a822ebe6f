"""Names, order and strides of VGG19's layers."""

from __future__ import annotations

import pytest
import torchvision
from hypothesis import given
from hypothesis import strategies as st

from nstrt.runtime.errors import LayerNameError
from nstrt.runtime.model import (
    LAYERS,
    check_layer,
    in_network_order,
    layers_through,
    stride_of,
    taps_for_gradient,
)

subsets = st.lists(st.sampled_from(LAYERS), min_size=1, max_size=6)


def test_layers_are_torchvision_feature_modules_in_order() -> None:
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
    assert expected[:-1] == list(LAYERS)  # no loss uses pool5
    assert (LAYERS[0], LAYERS[1], LAYERS[-1], len(LAYERS)) == ("conv1_1", "relu1_1", "relu5_4", 36)


@pytest.mark.parametrize(
    ("name", "closest"),
    [("relu3_5", "relu3_4"), ("Conv4_2", "conv4_2"), ("conv42", "conv4_2"), ("pool5", "pool")],
)
def test_unknown_names_suggest_the_closest(name: str, closest: str) -> None:
    with pytest.raises(LayerNameError, match=f"'{name}'; did you mean '{closest}"):
        check_layer(name)


@pytest.mark.parametrize("name", ["", "fc6", "relu9_9", "🙂"])
def test_unknown_names_raise_layer_name_error(name: str) -> None:
    with pytest.raises(LayerNameError, match="did you mean"):
        check_layer(name)


@given(subsets)
def test_in_network_order_sorts_and_drops_duplicates(names: list[str]) -> None:
    ordered = in_network_order(names)
    assert set(ordered) == set(names)
    assert [LAYERS.index(name) for name in ordered] == sorted({LAYERS.index(n) for n in names})


@given(subsets)
def test_layers_through_ends_at_the_deepest(names: list[str]) -> None:
    through = layers_through(names)
    assert through == LAYERS[: len(through)]
    assert set(names) <= set(through)
    assert through[-1] in names


@given(subsets)
def test_gradient_needs_relus_poolings_and_loss_layers(names: list[str]) -> None:
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
