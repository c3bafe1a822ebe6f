"""Features and gradients in bands equal torchvision's and plain autograd's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from nstrt.runtime.network import banded
from nstrt.runtime.network.banded import BandedNetwork
from nstrt.runtime.network.vgg import TorchVGG, read_vgg

from support.banded import (
    allow_algorithms,
    forward,
    forward_and_backward,
    one_band,
    random_gradients,
    random_vgg,
    small_bands,
)
from support.errors import relative_error
from support.observers import AssemblingObserver, RecordingObserver

if TYPE_CHECKING:
    from support import Crop, Network
    from support.reference import Reference

pytestmark = pytest.mark.slow

SIZES = [(64, 64), (67, 49), (33, 50)]
OBSERVED = ("relu1_1", "relu1_2", "conv3_1", "pool2", "relu3_1", "conv4_2", "relu5_1")

# VGG19, against torchvision's.


def reference_gradient(
    reference: Reference,
    network: Network,
    image: Tensor,
    features: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
) -> Tensor:
    """The gradient through torchvision's module with the ReLU masks of ``features``."""
    leaf = image.clone().requires_grad_()
    outputs = reference(leaf, network.spec, given=features)
    layers = [outputs[name] for name in gradients]
    return torch.autograd.grad(layers, leaf, list(gradients.values()))[0]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bands", [small_bands, one_band])
def test_features_equal_torchvisions(
    network: Network, size: tuple[int, int], bands: Any, photo: Crop, reference: Reference
) -> None:
    image = photo(*size)
    with bands():
        features = forward(BandedNetwork(read_vgg(network.path)), image, network.spec.taps)
    expected = reference(image, network.spec)
    assert set(features) == set(network.spec.taps)
    for name, values in features.items():
        assert values.shape == expected[name].shape
        assert relative_error(values, expected[name]) < 1e-4, name


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bands", [small_bands, one_band])
def test_gradient_equals_autograds(
    network: Network, size: tuple[int, int], bands: Any, photo: Crop, reference: Reference
) -> None:
    image = photo(*size)
    banded_network = BandedNetwork(read_vgg(network.path))
    with bands():
        features = forward(banded_network, image, network.spec.taps)
        gradients = random_gradients(features, OBSERVED)
        saved_features, gradient = forward_and_backward(banded_network, image, gradients)
    assert all(torch.equal(saved_features[name], features[name]) for name in gradients)
    assert gradient.shape == image.shape
    expected = reference_gradient(reference, network, image, features, gradients)
    assert relative_error(gradient, expected) < 1e-5


@pytest.mark.parametrize(
    "layer",
    ["conv1_1", "relu1_1", "relu1_2", "pool1", "conv3_1", "relu3_4", "pool4", "relu5_1"],
)
def test_gradient_of_each_layer_alone_equals_autograds(
    default_network: Network, layer: str, photo: Crop, reference: Reference
) -> None:
    image = photo(33, 50)
    banded_network = BandedNetwork(read_vgg(default_network.path))
    with small_bands():
        features = forward(banded_network, image, default_network.spec.taps)
        gradients = random_gradients(features, (layer,))
        _, gradient = forward_and_backward(banded_network, image, gradients)
    expected = reference_gradient(reference, default_network, image, features, gradients)
    assert relative_error(gradient, expected) < 1e-5


def test_gradient_of_a_tied_pooling_window_goes_to_one_pixel(
    network: Network, reference: Reference
) -> None:
    """In a picture of one colour all values of a pooling window are equal."""
    image = torch.full((1, 3, 64, 48), 0.6)
    banded_network = BandedNetwork(read_vgg(network.path))
    features = forward(banded_network, image, network.spec.taps)
    gradients = random_gradients(features, ("relu1_2", "pool2", "relu5_1"))
    _, gradient = forward_and_backward(banded_network, image, gradients)
    expected = reference_gradient(reference, network, image, features, gradients)
    assert relative_error(gradient, expected) < 1e-5


def test_gradient_equals_finite_differences(network: Network, photo: Crop) -> None:
    """In double precision, along the gradient itself, where the difference is largest."""
    banded_network = BandedNetwork(read_vgg(network.path, dtype=torch.float64))
    image = photo(35, 32).double()
    gradients = random_gradients(forward(banded_network, image, network.spec.taps), OBSERVED)
    _, gradient = forward_and_backward(banded_network, image, gradients)
    assert gradient.dtype == torch.float64

    def weighted_sum(picture: Tensor) -> float:
        features = forward(banded_network, picture, OBSERVED)
        return sum(float((features[name] * gradients[name]).sum()) for name in gradients)

    step = 1e-7 * gradient / gradient.abs().max()
    difference = weighted_sum(image + step) - weighted_sum(image - step)
    assert difference == pytest.approx(2 * float((gradient * step).sum()), rel=1e-4)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_products_change_features_and_gradient_little(
    default_network: Network, photo: Crop, precision: str
) -> None:
    image, vgg = photo(48, 64), read_vgg(default_network.path)
    exact, rounded = BandedNetwork(vgg), BandedNetwork(vgg, precision=precision)
    features = forward(exact, image, default_network.spec.taps)
    rounded_features = forward(rounded, image, default_network.spec.taps)
    for name in ("relu1_1", "relu3_1", "relu5_1"):
        assert rounded_features[name].dtype == torch.float32
        assert relative_error(rounded_features[name], features[name]) < 3e-2, name
    # Each flipped mask changes the gradient. The gradients are as small as those of means.
    gradients = {
        name: 1e-9 * value
        for name, value in random_gradients(features, ("relu2_1", "relu3_1")).items()
    }
    _, expected = forward_and_backward(exact, image, gradients)
    _, gradient = forward_and_backward(rounded, image, gradients)
    assert relative_error(gradient, expected) < 0.15


# Networks of random blocks, against torch's own operations.


def torch_features(vgg: TorchVGG, image: Tensor) -> dict[str, Tensor]:
    """Every layer's features by torch's own operations, differentiable."""
    x = (image - vgg.normalization.mean) / vgg.normalization.std
    mode = "replicate" if vgg.normalization.replicate else "constant"
    x = functional.pad(x, (1, 1, 1, 1), mode=mode)
    features: dict[str, Tensor] = {}
    for number, block in enumerate(vgg.blocks):
        weight, bias = block.filter.weight, block.filter.bias.flatten()
        x = functional.conv2d(x, weight, bias, padding=int(number > 0))
        features[block.conv] = x
        assert block.relu
        x = features[block.relu] = x.relu()
        if block.pool:
            x = functional.avg_pool2d(x, 2) if block.average else functional.max_pool2d(x, 2)
            features[block.pool] = x
    return features


@st.composite
def poolings_and_layers(draw: st.DrawFn) -> tuple[list[bool], list[str]]:
    """Which blocks end with a pooling, and some of their layers."""
    pooled = draw(st.lists(st.booleans(), min_size=1, max_size=4))
    layers = [
        f"{kind}{number}"
        for number, has_pool in enumerate(pooled, start=1)
        for kind in ("conv", "relu", "pool")[: 2 + has_pool]
    ]
    return pooled, draw(st.lists(st.sampled_from(layers), min_size=1, unique=True))


@given(
    structure=poolings_and_layers(),
    height=st.integers(16, 27),
    width=st.integers(16, 27),
    average=st.booleans(),
    replicate=st.booleans(),
    whole_numbers=st.booleans(),
    pixels=st.sampled_from([1, 200, 1 << 20]),
)
@settings(max_examples=120)
def test_any_blocks_and_layers_have_autograds_gradient(
    structure: tuple[list[bool], list[str]],
    height: int,
    width: int,
    average: bool,
    replicate: bool,
    whole_numbers: bool,
    pixels: int,
) -> None:
    """With whole numbers, most windows of a max pooling are tied and many values are zero."""
    pooled, layers = structure
    vgg = random_vgg(
        (4, 5, 3, 4),
        pooled,
        average=average,
        replicate=replicate,
        whole_numbers=whole_numbers,
    )
    generator = torch.Generator().manual_seed(height * width)
    image = torch.rand(1, 3, height, width, generator=generator, dtype=torch.float64)
    if whole_numbers:
        # Two colours, with runs of equal pixels.
        image = vgg.normalization.mean + vgg.normalization.std * (image > 0.8)
    leaf = image.clone().requires_grad_()
    expected = torch_features(vgg, leaf)
    gradients = random_gradients({name: expected[name].detach() for name in layers}, layers)
    (expected_gradient,) = torch.autograd.grad(
        [expected[name] for name in layers],
        leaf,
        list(gradients.values()),
        materialize_grads=True,
    )
    with small_bands(pixels):
        features, gradient = forward_and_backward(BandedNetwork(vgg), image, gradients)
    for name in layers:
        assert torch.allclose(features[name], expected[name], rtol=1e-12, atol=1e-12)
    tolerance = 1e-12 * float(expected_gradient.abs().max())
    assert torch.allclose(gradient, expected_gradient, rtol=1e-9, atol=tolerance)


COMPILED = "winograd6x6"
ALLOWED = {"winograd4x4": ("winograd4x4", "im2col"), COMPILED: (COMPILED,)}
"""Algorithms to allow for testing each Winograd kernel; the compiled one needs a large input."""

each_winograd = pytest.mark.parametrize("algorithm", list(ALLOWED))


@each_winograd
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize(
    "layers", [("conv3",), ("relu3",), ("pool3",), ("relu1", "conv3"), ("conv2", "relu2", "conv3")]
)
def test_winograd_kernels_in_bands_give_autograds_gradient(
    algorithm: str, average: bool, layers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_algorithms(monkeypatch, *ALLOWED[algorithm])
    monkeypatch.setattr(banded, "is_large", lambda height, width: algorithm == COMPILED)
    structure = (16, 24, 32), (True, False, True)
    vgg = random_vgg(*structure, average=average, replicate=True, dtype=torch.float32)
    image = torch.rand(1, 3, 37, 43, generator=torch.Generator().manual_seed(1))
    with small_bands(100):
        features = forward(BandedNetwork(vgg), image, layers)
        gradients = random_gradients(features, layers)
        _, gradient = forward_and_backward(BandedNetwork(vgg), image, gradients)
    leaf = image.double().requires_grad_()
    expected = torch_features(random_vgg(*structure, average=average, replicate=True), leaf)
    for name in layers:
        assert relative_error(features[name], expected[name]) < 1e-5
    (expected_gradient,) = torch.autograd.grad(
        [expected[name] for name in layers], leaf, [gradients[name].double() for name in layers]
    )
    assert relative_error(gradient, expected_gradient) < 1e-4


@each_winograd
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize(
    "core",
    [
        (slice(8, 24), slice(16, None)),
        (slice(0, 20), slice(12, 16)),
        (slice(20, None), slice(0, 24)),
        (slice(12, 28), slice(12, 32)),
    ],
)
@pytest.mark.parametrize("layers", [("relu1", "conv3"), ("conv2", "pool2"), ("conv1", "pool4")])
def test_features_and_gradient_of_a_core_equal_those_of_the_whole_input(
    algorithm: str,
    average: bool,
    core: tuple[slice, slice],
    layers: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only what the core needs is computed; the layers' gradients are zero outside the core."""
    allow_algorithms(monkeypatch, *ALLOWED[algorithm])
    monkeypatch.setattr(banded, "_is_large", lambda *_: algorithm == COMPILED)
    structure = (16, 24, 32, 16), (False, True, False, True)
    image = torch.rand(1, 3, 37, 43, generator=torch.Generator().manual_seed(1))
    leaf = image.double().requires_grad_()
    expected = torch_features(random_vgg(*structure, average=average, replicate=True), leaf)
    features = {name: expected[name].detach() for name in layers}
    gradients, cores = {}, {}
    for name, values in random_gradients(features, layers).items():
        stride = {"1": 1, "2": 1, "3": 2, "4": 2}[name[-1]] * (2 if name[0] == "p" else 1)
        rows, columns = (
            slice(side.start // stride, side.stop and side.stop // stride) for side in core
        )
        cores[name] = slice(None), rows, columns
        gradients[name] = torch.zeros_like(values)
        gradients[name][0][cores[name]] = values[0][cores[name]]
    (expected_gradient,) = torch.autograd.grad(
        [expected[name] for name in gradients], leaf, list(gradients.values())
    )
    observer = AssemblingObserver(
        {name: values.shape[1:] for name, values in gradients.items()},
        torch.float32,
        {name: values.float() for name, values in gradients.items()},
    )
    vgg = random_vgg(*structure, average=average, replicate=True, dtype=torch.float32)
    network = BandedNetwork(vgg)
    with small_bands(100):
        padded = vgg.normalization.forward(image)
        saved = network.forward(padded, observer, keep=True, core=core)
        gradient = vgg.normalization.backward(network.backward(saved, observer))
    for name, part in cores.items():
        assert relative_error(observer.values[name][part], features[name][0][part]) < 1e-5
    assert relative_error(gradient, expected_gradient) < 1e-4


def test_gradient_is_zero_if_observers_add_none() -> None:
    vgg = random_vgg((4, 5), (True, False), average=False, replicate=True)
    image = torch.rand(1, 3, 20, 21, dtype=torch.float64)
    network = BandedNetwork(vgg)
    observer = RecordingObserver(("relu1", "relu2"))
    saved = network.forward(vgg.normalization.forward(image), observer, keep=True)
    gradient = vgg.normalization.backward(network.backward(saved, observer))
    assert torch.equal(gradient, torch.zeros_like(image))


def test_a_network_computes_pictures_of_changing_sizes() -> None:
    vgg = random_vgg((4, 5, 6), (True, True, False), average=False, replicate=False)
    network = BandedNetwork(vgg)
    generator = torch.Generator().manual_seed(2)
    layers = "conv2", "relu3"
    for height, width in ((24, 31), (40, 17), (24, 31), (16, 16)):
        image = torch.rand(1, 3, height, width, generator=generator, dtype=torch.float64)
        gradients = random_gradients(forward(network, image, layers), layers)
        expected, expected_gradient = forward_and_backward(BandedNetwork(vgg), image, gradients)
        features, gradient = forward_and_backward(network, image, gradients)
        assert all(torch.equal(features[name], expected[name]) for name in gradients)
        assert torch.equal(gradient, expected_gradient)
