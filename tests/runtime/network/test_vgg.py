"""The PyTorch network built from a model file equals ONNX Runtime's; other models are refused."""

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
from nstrt.runtime.loss.content_and_style import ContentObserver
from nstrt.runtime.model import ModelSpec, ModelStore
from nstrt.runtime.network.banded import BandedNetwork
from nstrt.runtime.network.vgg import ConvBlock, InputNormalization, TorchVGG, read_vgg
from nstrt.runtime.ort.session import open_session

from support.errors import relative_error

if TYPE_CHECKING:
    from support import Crop, Network


def features(vgg: TorchVGG, image: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """Features of layers, 1 x channels x height x width."""
    observer = ContentObserver(layers, image.shape[2], image.shape[3])
    BandedNetwork(vgg).forward(vgg.normalization.forward(image), observer, keep=False)
    return {name: values[None] for name, values in observer.values.items()}


@pytest.mark.parametrize("size", [(64, 64), (67, 49), (33, 50)])
def test_features_equal_onnx_runtimes(network: Network, size: tuple[int, int], photo: Crop) -> None:
    image = photo(*size)
    vgg = read_vgg(network.path)
    assert vgg.taps == network.spec.taps
    result = features(vgg, image, vgg.taps)
    expected = open_session(network.path, provider="cpu").features(image.numpy(), vgg.taps)
    assert set(result) == set(expected)
    for name, values in expected.items():
        assert result[name].shape == values.shape
        assert relative_error(result[name], torch.from_numpy(values)) < 1e-4, name


def test_blocks_are_those_of_vgg19(network: Network) -> None:
    vgg = read_vgg(network.path)
    relus = [name for name in network.spec.layers if name.startswith("relu")]
    assert [block.relu for block in vgg.blocks] == relus
    pools = {block.relu: block.pool for block in vgg.blocks if block.pool}
    assert pools == {
        "relu1_2": "pool1",
        "relu2_2": "pool2",
        "relu3_4": "pool3",
        "relu4_4": "pool4",
    }
    assert [block.conv for block in vgg.blocks] == [
        name for name in network.spec.layers if name.startswith("conv")
    ]
    assert all(
        block.average == (network.spec.pooling == "avg") for block in vgg.blocks if block.pool
    )
    assert vgg.normalization.replicate == (network.spec.padding == "replicate")
    channels = [block.filter.channels for block in vgg.blocks]
    assert channels[:5] == [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256)]
    assert channels[-1] == (512, 512)


def test_blocks_end_with_the_deepest_layer(default_network: Network) -> None:
    vgg = read_vgg(default_network.path)

    def count_and_last(*layers: str) -> tuple[int, ConvBlock]:
        blocks = vgg.blocks_through(layers)
        assert blocks[:-1] == vgg.blocks[: len(blocks) - 1]
        return len(blocks), blocks[-1]

    for layers, count, relu, pool in (
        (("relu1_1",), 1, "relu1_1", None),
        (("conv1_1",), 1, None, None),
        (("relu1_2", "conv1_1"), 2, "relu1_2", None),
        (("pool1", "relu1_1"), 2, "relu1_2", "pool1"),
        (("relu1_1", "relu5_1"), 13, "relu5_1", None),
        (("conv4_2", "relu3_4"), 10, None, None),
    ):
        number, block = count_and_last(*layers)
        assert (number, block.relu, block.pool) == (count, relu, pool), layers
        assert block.filter is vgg.blocks[count - 1].filter
    assert vgg.blocks_through(()) == ()


@pytest.mark.parametrize("replicate", [True, False])
@given(height=st.integers(1, 6), width=st.integers(1, 6))
@settings(max_examples=20)
def test_gradient_of_the_normalization_equals_autograds(
    replicate: bool, height: int, width: int
) -> None:
    generator = torch.Generator().manual_seed(height + 7 * width)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    mean, std = noise(1, 3, 1, 1), noise(1, 3, 1, 1).abs() + 0.5
    normalization = InputNormalization(mean, std, replicate)
    leaf = noise(1, 3, height, width).requires_grad_()
    mode = "replicate" if replicate else "constant"
    expected = functional.pad((leaf - mean) / std, (1, 1, 1, 1), mode=mode)[0]
    assert torch.equal(normalization.forward(leaf.detach()), expected)
    output_gradient = noise(*expected.shape)
    (expected_gradient,) = torch.autograd.grad(expected, leaf, output_gradient)
    gradient = normalization.backward(output_gradient.clone())
    assert gradient.shape == leaf.shape
    assert torch.allclose(gradient, expected_gradient)


def test_zero_padding_is_added_after_the_mean_is_subtracted() -> None:
    normalization = InputNormalization(
        torch.full((1, 3, 1, 1), 0.5), torch.ones(1, 3, 1, 1), replicate=False
    )
    padded = normalization.forward(torch.ones(1, 3, 2, 2))
    assert padded[:, 1:-1, 1:-1].eq(0.5).all()
    assert padded.sum() == 3 * 4 * 0.5


def test_a_forward_pass_does_not_change_the_image(network: Network, photo: Crop) -> None:
    image = photo(33, 50)
    values = features(read_vgg(network.path), image, ("conv1_1", "relu2_1", "relu5_1"))
    assert torch.equal(image, photo(33, 50))
    assert not any(value.requires_grad for value in values.values())


def test_features_of_convolutions_are_those_before_the_relu(
    default_network: Network, photo: Crop
) -> None:
    vgg = read_vgg(default_network.path)
    values = features(vgg, photo(64, 64), vgg.taps)
    for name in ("conv1_1", "conv3_1", "conv4_2"):
        assert float(values[name].min()) < 0
        assert torch.equal(values[name.replace("conv", "relu")], values[name].relu())


def test_a_network_computes_in_the_requested_precision(small_network: Network, photo: Crop) -> None:
    double = read_vgg(small_network.path, dtype=torch.float64)
    single = read_vgg(small_network.path)
    assert (double.dtype, single.dtype) == (torch.float64, torch.float32)
    assert double.device == single.device == torch.device("cpu")
    exact = features(double, photo(32, 32).double(), ("relu2_1",))["relu2_1"]
    values = features(single, photo(32, 32), ("relu2_1",))["relu2_1"]
    assert exact.dtype == torch.float64
    assert 1e-9 < relative_error(values, exact) < 1e-5


def edit_model(source: Path, target: Path, edit: Callable[[onnx.GraphProto], object]) -> Path:
    model = onnx.load(source)
    edit(model.graph)
    onnx.save(model, target)
    return target


def remove_an_output(graph: onnx.GraphProto) -> None:
    del graph.output[[output.name for output in graph.output].index("relu1_2")]


def remove_a_pooling_output(graph: onnx.GraphProto) -> None:
    del graph.output[[output.name for output in graph.output].index("pool1")]


def change_an_operation(graph: onnx.GraphProto) -> None:
    next(node for node in graph.node if node.op_type == "Relu").op_type = "Sigmoid"


def add_a_branch(graph: onnx.GraphProto) -> None:
    last = [node for node in graph.node if node.op_type == "Relu"][-1]
    last.input[0] = "relu1_1"


def widen_a_pooling(graph: onnx.GraphProto) -> None:
    node = next(node for node in graph.node if node.op_type == "MaxPool")
    next(item for item in node.attribute if item.name == "kernel_shape").ints[:] = [3, 3]


def remove_the_mean(graph: onnx.GraphProto) -> None:
    first, second = graph.node[:2]
    second.input[0] = first.input[0]
    graph.node.remove(first)


def widen_a_convolution(graph: onnx.GraphProto) -> None:
    node = [node for node in graph.node if node.op_type == "Conv"][-1]
    next(item for item in node.attribute if item.name == "pads").ints[:] = [2, 2, 2, 2]


def pad_by_reflection(graph: onnx.GraphProto) -> None:
    node = next(node for node in graph.node if node.op_type == "Pad")
    next(item for item in node.attribute if item.name == "mode").s = b"reflect"


@pytest.mark.parametrize(
    "edit",
    [
        remove_an_output,
        remove_a_pooling_output,
        change_an_operation,
        add_a_branch,
        widen_a_pooling,
        remove_the_mean,
        widen_a_convolution,
        pad_by_reflection,
    ],
)
def test_a_model_that_is_not_vgg_is_refused(
    small_network: Network, tmp_path: Path, edit: Callable[[onnx.GraphProto], object]
) -> None:
    broken = edit_model(small_network.path, tmp_path / "broken.onnx", edit)
    with pytest.raises(ModelFileError, match=r"broken\.onnx cannot be mirrored: .+"):
        read_vgg(broken)


def test_a_model_in_half_precision_is_refused(models: ModelStore, small_network: Network) -> None:
    half = models.obtain(small_network.spec.as_variant("fp16"))
    with pytest.raises(ModelFileError, match="cannot be mirrored"):
        read_vgg(half.path)


def test_a_model_without_the_outputs_for_the_gradient_is_refused(models: ModelStore) -> None:
    model = models.obtain(ModelSpec(taps=("relu1_2",)))
    with pytest.raises(ModelFileError, match="not among its outputs"):
        read_vgg(model.path)


def test_an_error_without_onnx_names_the_package_to_install(
    small_network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(PackageMissingError, match="pip install"):
        read_vgg(small_network.path)


def test_weights_come_from_the_model_file(
    small_network: Network, tmp_path: Path, photo: Crop
) -> None:
    """Other numbers in the file give other features."""

    def double_the_biases(graph: onnx.GraphProto) -> None:
        for item in graph.initializer:
            if item.name.endswith("bias"):
                values = 2 * onnx.numpy_helper.to_array(item)
                item.CopyFrom(onnx.numpy_helper.from_array(values, item.name))

    changed = edit_model(small_network.path, tmp_path / "changed.onnx", double_the_biases)

    def features_of(vgg: TorchVGG) -> Tensor:
        return features(vgg, photo(32, 32), ("relu2_1",))["relu2_1"]

    expected = open_session(changed, provider="cpu").features(photo(32, 32).numpy(), ["relu2_1"])
    values, original = features_of(read_vgg(changed)), features_of(read_vgg(small_network.path))
    assert relative_error(values, torch.from_numpy(expected["relu2_1"])) < 1e-4
    assert relative_error(original, values) > 1e-4
