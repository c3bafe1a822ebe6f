"""The mirrored graph: its activations are ONNX Runtime's, its gradient is autograd's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from nstrt.runtime import mirror as mirror_module
from nstrt.runtime.mirror import Mirror, read_mirror
from nstrt.runtime.model import ModelFileError, ModelSpec, ModelStore, PackageMissingError
from nstrt.runtime.session import open_session

if TYPE_CHECKING:
    from tests.conftest import Crop, Network, Reference

SIZES = [(64, 64), (67, 49), (33, 50)]
INJECTED = ("relu1_1", "conv3_1", "pool2", "conv4_2", "relu5_1")


def error(found: Tensor, expected: Tensor) -> float:
    """||found - expected|| / ||expected||."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def noise_like(activations: Mapping[str, Tensor], names: tuple[str, ...]) -> dict[str, Tensor]:
    """Gradients at some taps, such that each adds about as much as the others."""
    generator = torch.Generator().manual_seed(3)
    return {
        name: torch.randn(activations[name].shape, generator=generator, dtype=torch.float64).to(
            activations[name].dtype
        )
        / activations[name].norm()
        for name in names
    }


def by_autograd(
    reference: Reference,
    spec: ModelSpec,
    image: Tensor,
    activations: Mapping[str, Tensor],
    at: Mapping[str, Tensor],
) -> Tensor:
    """The gradient through torchvision's module with the masks of ``activations``."""
    leaf = image.clone().requires_grad_()
    found = reference(leaf, spec, given=activations)
    return torch.autograd.grad([found[name] for name in at], leaf, list(at.values()))[0]


@pytest.mark.parametrize("size", SIZES)
def test_activations_are_onnx_runtimes(
    network: Network, size: tuple[int, int], photo: Crop
) -> None:
    image = photo(*size)
    mirror = read_mirror(network.path)
    assert mirror.taps == network.spec.taps
    found = mirror.activations(image)
    session = open_session(network.path, provider="cpu")
    expected = session.features(image.numpy(), network.spec.taps)
    assert tuple(found) == network.spec.taps
    for name, values in expected.items():
        assert found[name].shape == values.shape
        assert error(found[name], torch.from_numpy(values)) < 1e-4, name


@pytest.mark.parametrize("size", SIZES)
def test_the_gradient_is_plain_autograds(
    network: Network, size: tuple[int, int], photo: Crop, reference: Reference
) -> None:
    image = photo(*size)
    mirror = read_mirror(network.path)
    activations = mirror.activations(image)
    at = noise_like(activations, INJECTED)
    expected = by_autograd(reference, network.spec, image, activations, at)
    found = mirror.gradient(image, activations, {name: g.clone() for name, g in at.items()})
    assert found.shape == image.shape
    assert error(found, expected) < 1e-5


@pytest.mark.parametrize("tap", ["conv1_1", "relu1_1", "pool1", "conv3_1", "relu5_1"])
def test_each_tap_alone_reaches_the_image(
    default_network: Network, tap: str, photo: Crop, reference: Reference
) -> None:
    image = photo(33, 50)
    mirror = read_mirror(default_network.path)
    activations = mirror.activations(image)
    at = noise_like(activations, (tap,))
    expected = by_autograd(reference, default_network.spec, image, activations, at)
    found = mirror.gradient(image, activations, {tap: at[tap].clone()})
    assert error(found, expected) < 1e-5


def test_the_gradient_uses_the_activations_it_is_given(
    default_network: Network, photo: Crop, painting: Crop, reference: Reference
) -> None:
    mirror = read_mirror(default_network.path)
    image, other = photo(64, 64), mirror.activations(painting(64, 64))
    at = noise_like(other, INJECTED)
    expected = by_autograd(reference, default_network.spec, image, other, at)
    found = mirror.gradient(image, other, {name: g.clone() for name, g in at.items()})
    assert error(found, expected) < 1e-5
    own = by_autograd(reference, default_network.spec, image, mirror.activations(image), at)
    assert error(found, own) > 0.1


def test_ties_of_a_flat_picture_count_once(network: Network, reference: Reference) -> None:
    """In a picture of one colour all values of a pooling window are equal."""
    image = torch.full((1, 3, 64, 48), 0.6)
    mirror = read_mirror(network.path)
    activations = mirror.activations(image)
    at = noise_like(activations, ("relu5_1",))
    expected = by_autograd(reference, network.spec, image, activations, at)
    found = mirror.gradient(image, activations, {name: g.clone() for name, g in at.items()})
    assert error(found, expected) < 1e-5


def test_no_gradient_injected_is_no_gradient(default_network: Network, photo: Crop) -> None:
    image = photo(33, 50)
    mirror = read_mirror(default_network.path)
    found = mirror.gradient(image, mirror.activations(image), {})
    assert torch.equal(found, torch.zeros_like(image))


def test_convolutions_that_are_taps_keep_their_own_values(
    default_network: Network, photo: Crop
) -> None:
    activations = read_mirror(default_network.path).activations(photo(64, 64))
    for name in ("conv1_1", "conv3_1", "conv4_2"):
        assert float(activations[name].min()) < 0
        rectified = activations.get(name.replace("conv", "relu"))
        assert rectified is not None
        assert torch.equal(rectified, activations[name].relu())


def test_the_picture_and_the_activations_stay_as_they_are(network: Network, photo: Crop) -> None:
    image = photo(33, 50)
    mirror = read_mirror(network.path)
    activations = mirror.activations(image)
    before = {name: value.clone() for name, value in activations.items()}
    at = noise_like(activations, INJECTED)
    mirror.gradient(image, activations, at)
    assert torch.equal(image, photo(33, 50))
    assert all(torch.equal(activations[name], before[name]) for name in before)
    assert all(not value.requires_grad for value in activations.values())


def test_finite_differences_agree(network: Network, photo: Crop) -> None:
    """In double precision, along the gradient itself, where the difference is largest."""
    mirror = read_mirror(network.path, dtype=torch.float64)
    image = photo(35, 32).double()
    activations = mirror.activations(image)
    at = noise_like(activations, INJECTED)
    gradient = mirror.gradient(image, activations, {n: g.clone() for n, g in at.items()}).double()

    def weighted_sum(picture: Tensor) -> float:
        found = mirror.activations(picture)
        return sum(float((found[name] * at[name]).sum()) for name in at)

    step = 1e-7 * gradient / gradient.abs().max()
    difference = weighted_sum(image + step) - weighted_sum(image - step)
    assert difference == pytest.approx(2 * float((gradient * step).sum()), rel=1e-4)


Forward = Callable[[Tensor], Tensor]

CONVOLUTION = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(1))
NODES: dict[str, tuple[Any, Forward]] = {
    "max pool": (mirror_module.MaxPool(), lambda x: functional.max_pool2d(x, 2, 2)),
    "average pool": (mirror_module.AveragePool(), lambda x: functional.avg_pool2d(x, 2, 2)),
    "relu": (mirror_module.Relu(over_input=False), functional.relu),
    "pad": (
        mirror_module.ReplicatePad(),
        lambda x: functional.pad(x, (1, 1, 1, 1), mode="replicate"),
    ),
    "convolution": (
        mirror_module.Convolution(CONVOLUTION, torch.ones(4), padding=1),
        lambda x: functional.conv2d(x, CONVOLUTION, torch.ones(4), padding=1),
    ),
    "convolution without padding": (
        mirror_module.Convolution(CONVOLUTION, torch.ones(4), padding=0),
        lambda x: functional.conv2d(x, CONVOLUTION, torch.ones(4)),
    ),
}


@pytest.mark.parametrize("kind", NODES)
@given(height=st.integers(3, 9), width=st.integers(3, 9), seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_every_nodes_gradient_is_autograds(kind: str, height: int, width: int, seed: int) -> None:
    node, forward = NODES[kind]
    generator = torch.Generator().manual_seed(seed)
    # Small integers: most windows of a max pooling are tied.
    x = torch.randint(-1, 3, (1, 2, height, width), generator=generator).float()
    leaf = x.clone().requires_grad_()
    y = forward(leaf)
    grad = torch.randn(y.shape, generator=generator)
    (expected,) = torch.autograd.grad(y, leaf, grad)
    assert torch.equal(node.forward(x.clone()), y)
    assert torch.allclose(node.backward(grad.clone(), x, y.detach()), expected, atol=1e-5)
    if "convolution" in kind:
        assert torch.allclose(node.backward(grad.clone(), None, None), expected, atol=1e-5)


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


@pytest.mark.parametrize(
    "edit",
    [lose_an_output, lose_a_pooling, change_an_operation, take_a_branch, widen_a_pooling],
)
def test_another_network_is_refused(
    small_network: Network, tmp_path: Path, edit: Callable[[onnx.GraphProto], object]
) -> None:
    broken = edited(small_network.path, tmp_path / "broken.onnx", edit)
    with pytest.raises(ModelFileError, match=r"broken\.onnx cannot be mirrored: .+"):
        read_mirror(broken)


def test_a_model_in_half_precision_is_refused(models: ModelStore, small_network: Network) -> None:
    half = models.obtain(small_network.spec.as_variant("fp16"))
    with pytest.raises(ModelFileError, match="cannot be mirrored"):
        read_mirror(half.path)


def test_a_model_without_the_gradients_taps_is_refused(models: ModelStore) -> None:
    model = models.obtain(ModelSpec(taps=("relu1_2",)))
    with pytest.raises(ModelFileError, match="not among its outputs"):
        read_mirror(model.path)


def test_without_onnx_the_error_says_what_to_install(
    small_network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(PackageMissingError, match="pip install"):
        read_mirror(small_network.path)


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

    def value(mirror: Mirror) -> Tensor:
        return mirror.activations(photo(32, 32))["relu2_1"]

    expected = open_session(changed, provider="cpu").features(photo(32, 32).numpy(), ["relu2_1"])
    assert error(value(read_mirror(changed)), torch.from_numpy(expected["relu2_1"])) < 1e-4
    assert error(value(read_mirror(small_network.path)), value(read_mirror(changed))) > 1e-4
