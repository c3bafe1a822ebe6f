"""The mirrored graph: read from the model file's nodes, it computes what ONNX Runtime computes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from nstrt.runtime.errors import ModelFileError, PackageMissingError
from nstrt.runtime.loss.accumulate import ContentObserver
from nstrt.runtime.model import ModelSpec, ModelStore
from nstrt.runtime.network.banded import BandedNetwork
from nstrt.runtime.network.vgg import ConvBlock, InputNormalization, TorchVGG, read_vgg
from nstrt.runtime.ort.session import open_session

if TYPE_CHECKING:
    from support import Crop, Network


def error(found: Tensor, expected: Tensor) -> float:
    """||found - expected|| / ||expected||."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def features(vgg: TorchVGG, image: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """Layers of a mirror, 1 x channels x height x width."""
    copies = ContentObserver(layers, image.shape[2], image.shape[3])
    BandedNetwork(vgg).forward(vgg.normalization.forward(image), copies, keep=False)
    return {name: values[None] for name, values in copies.values.items()}


@pytest.mark.parametrize("size", [(64, 64), (67, 49), (33, 50)])
def test_features_are_onnx_runtimes(network: Network, size: tuple[int, int], photo: Crop) -> None:
    image = photo(*size)
    vgg = read_vgg(network.path)
    assert vgg.taps == network.spec.taps
    found = features(vgg, image, vgg.taps)
    expected = open_session(network.path, provider="cpu").features(image.numpy(), vgg.taps)
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert found[name].shape == values.shape
        assert error(found[name], torch.from_numpy(values)) < 1e-4, name


def test_the_stages_are_those_of_vgg19(network: Network) -> None:
    vgg = read_vgg(network.path)
    relus = [name for name in network.spec.layers if name.startswith("relu")]
    assert [stage.relu for stage in vgg.blocks] == relus
    pools = {stage.relu: stage.pool for stage in vgg.blocks if stage.pool}
    assert pools == {
        "relu1_2": "pool1",
        "relu2_2": "pool2",
        "relu3_4": "pool3",
        "relu4_4": "pool4",
    }
    assert [stage.conv for stage in vgg.blocks] == [
        name for name in network.spec.layers if name.startswith("conv")
    ]
    assert all(
        stage.average == (network.spec.pooling == "avg") for stage in vgg.blocks if stage.pool
    )
    assert vgg.normalization.replicate == (network.spec.padding == "replicate")
    channels = [stage.filter.channels for stage in vgg.blocks]
    assert channels[:5] == [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256)]
    assert channels[-1] == (512, 512)


def test_what_comes_after_the_deepest_layer_is_left_out(default_network: Network) -> None:
    vgg = read_vgg(default_network.path)

    def last(*layers: str) -> tuple[int, ConvBlock]:
        found = vgg.blocks_through(layers)
        assert found[:-1] == vgg.blocks[: len(found) - 1]
        return len(found), found[-1]

    for layers, count, relu, pool in (
        (("relu1_1",), 1, "relu1_1", None),
        (("conv1_1",), 1, None, None),
        (("relu1_2", "conv1_1"), 2, "relu1_2", None),
        (("pool1", "relu1_1"), 2, "relu1_2", "pool1"),
        (("relu1_1", "relu5_1"), 13, "relu5_1", None),
        (("conv4_2", "relu3_4"), 10, None, None),
    ):
        number, stage = last(*layers)
        assert (number, stage.relu, stage.pool) == (count, relu, pool), layers
        assert stage.filter is vgg.blocks[count - 1].filter
    assert vgg.blocks_through(()) == ()


@pytest.mark.parametrize("replicate", [True, False])
@given(height=st.integers(1, 6), width=st.integers(1, 6))
@settings(max_examples=20)
def test_the_heads_gradient_is_autograds(replicate: bool, height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(height + 7 * width)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    mean, std = noise(1, 3, 1, 1), noise(1, 3, 1, 1).abs() + 0.5
    head = InputNormalization(mean, std, replicate)
    leaf = noise(1, 3, height, width).requires_grad_()
    mode = "replicate" if replicate else "constant"
    expected = functional.pad((leaf - mean) / std, (1, 1, 1, 1), mode=mode)[0]
    assert torch.equal(head.forward(leaf.detach()), expected)
    pull = noise(*expected.shape)
    (wanted,) = torch.autograd.grad(expected, leaf, pull)
    found = head.backward(pull.clone())
    assert found.shape == leaf.shape
    assert torch.allclose(found, wanted)


def test_zeros_around_a_picture_are_put_there_after_the_mean_is_taken_off() -> None:
    head = InputNormalization(
        torch.full((1, 3, 1, 1), 0.5), torch.ones(1, 3, 1, 1), replicate=False
    )
    found = head.forward(torch.ones(1, 3, 2, 2))
    assert found[:, 1:-1, 1:-1].eq(0.5).all()
    assert found.sum() == 3 * 4 * 0.5


def test_the_picture_stays_as_it_is(network: Network, photo: Crop) -> None:
    image = photo(33, 50)
    found = features(read_vgg(network.path), image, ("conv1_1", "relu2_1", "relu5_1"))
    assert torch.equal(image, photo(33, 50))
    assert not any(value.requires_grad for value in found.values())


def test_convolutions_that_are_taps_keep_their_own_values(
    default_network: Network, photo: Crop
) -> None:
    vgg = read_vgg(default_network.path)
    found = features(vgg, photo(64, 64), vgg.taps)
    for name in ("conv1_1", "conv3_1", "conv4_2"):
        assert float(found[name].min()) < 0
        assert torch.equal(found[name.replace("conv", "relu")], found[name].relu())


def test_a_mirror_computes_in_the_precision_that_is_asked_for(
    small_network: Network, photo: Crop
) -> None:
    double = read_vgg(small_network.path, dtype=torch.float64)
    single = read_vgg(small_network.path)
    assert (double.dtype, single.dtype) == (torch.float64, torch.float32)
    assert double.device == single.device == torch.device("cpu")
    exact = features(double, photo(32, 32).double(), ("relu2_1",))["relu2_1"]
    found = features(single, photo(32, 32), ("relu2_1",))["relu2_1"]
    assert exact.dtype == torch.float64
    assert 1e-9 < error(found, exact) < 1e-5


def edited(source: Path, target: Path, edit: Callable[[onnx.GraphProto], object]) -> Path:
    model = onnx.load(source)
    edit(model.graph)
    onnx.save(model, target)
    return target


def lose_an_output(graph: onnx.GraphProto) -> None:
    del graph.output[[output.name for output in graph.output].index("relu1_2")]


def lose_a_pooling(graph: onnx.GraphProto) -> None:
    del graph.output[[output.name for output in graph.output].index("pool1")]


def change_an_operation(graph: onnx.GraphProto) -> None:
    next(node for node in graph.node if node.op_type == "Relu").op_type = "Sigmoid"


def take_a_branch(graph: onnx.GraphProto) -> None:
    last = [node for node in graph.node if node.op_type == "Relu"][-1]
    last.input[0] = "relu1_1"


def widen_a_pooling(graph: onnx.GraphProto) -> None:
    node = next(node for node in graph.node if node.op_type == "MaxPool")
    next(item for item in node.attribute if item.name == "kernel_shape").ints[:] = [3, 3]


def lose_the_mean(graph: onnx.GraphProto) -> None:
    first, second = graph.node[:2]
    second.input[0] = first.input[0]
    graph.node.remove(first)


def widen_a_convolution(graph: onnx.GraphProto) -> None:
    node = [node for node in graph.node if node.op_type == "Conv"][-1]
    next(item for item in node.attribute if item.name == "pads").ints[:] = [2, 2, 2, 2]


def pad_another_way(graph: onnx.GraphProto) -> None:
    node = next(node for node in graph.node if node.op_type == "Pad")
    next(item for item in node.attribute if item.name == "mode").s = b"reflect"


@pytest.mark.parametrize(
    "edit",
    [
        lose_an_output,
        lose_a_pooling,
        change_an_operation,
        take_a_branch,
        widen_a_pooling,
        lose_the_mean,
        widen_a_convolution,
        pad_another_way,
    ],
)
def test_another_network_is_refused(
    small_network: Network, tmp_path: Path, edit: Callable[[onnx.GraphProto], object]
) -> None:
    broken = edited(small_network.path, tmp_path / "broken.onnx", edit)
    with pytest.raises(ModelFileError, match=r"broken\.onnx cannot be mirrored: .+"):
        read_vgg(broken)


def test_a_model_in_half_precision_is_refused(models: ModelStore, small_network: Network) -> None:
    half = models.obtain(small_network.spec.as_variant("fp16"))
    with pytest.raises(ModelFileError, match="cannot be mirrored"):
        read_vgg(half.path)


def test_a_model_without_the_gradients_taps_is_refused(models: ModelStore) -> None:
    model = models.obtain(ModelSpec(taps=("relu1_2",)))
    with pytest.raises(ModelFileError, match="not among its outputs"):
        read_vgg(model.path)


def test_without_onnx_the_error_says_what_to_install(
    small_network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(PackageMissingError, match="pip install"):
        read_vgg(small_network.path)


def test_the_mirror_needs_no_session_and_no_weights_but_the_files(
    small_network: Network, tmp_path: Path, photo: Crop
) -> None:
    """One source of truth: other numbers in the file are other numbers in the mirror."""

    def double_the_biases(graph: onnx.GraphProto) -> None:
        for item in graph.initializer:
            if item.name.endswith("bias"):
                values = 2 * onnx.numpy_helper.to_array(item)
                item.CopyFrom(onnx.numpy_helper.from_array(values, item.name))

    changed = edited(small_network.path, tmp_path / "changed.onnx", double_the_biases)

    def value(vgg: TorchVGG) -> Tensor:
        return features(vgg, photo(32, 32), ("relu2_1",))["relu2_1"]

    expected = open_session(changed, provider="cpu").features(photo(32, 32).numpy(), ["relu2_1"])
    assert error(value(read_vgg(changed)), torch.from_numpy(expected["relu2_1"])) < 1e-4
    assert error(value(read_vgg(small_network.path)), value(read_vgg(changed))) > 1e-4
