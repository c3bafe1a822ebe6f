"""Memory of a banded network: buffers that it keeps, and allocations in a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nstrt.runtime.model import shape_of
from nstrt.runtime.network.banded import BandedNetwork
from nstrt.runtime.network.vgg import read_vgg

from support.banded import allow_algorithms, forward, random_gradients, small_bands
from support.observers import GradientObserver

if TYPE_CHECKING:
    from support import Network

LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu3_2", "relu4_1", "relu4_2", "relu5_1")
PIXELS = 96 * 128

# Bytes for each pixel, measured, and a tenth more.
STEP_IN_SMALL_BANDS = 1170
STEP = 2700
FORWARD_PASS = 1100


class Allocations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the bytes that each operation allocates."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sizes: list[tuple[int, str]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        inputs = {
            leaf.untyped_storage().data_ptr()
            for leaf in tree_leaves((args, kwargs))
            if isinstance(leaf, Tensor)
        }
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() not in inputs:
                self.sizes.append((leaf.untyped_storage().nbytes(), str(func)))
        return result


@pytest.fixture
def network(default_network: Network, monkeypatch: pytest.MonkeyPatch) -> BandedNetwork:
    """A network without buffers yet; its algorithms, and so its memory, do not vary."""
    allow_algorithms(monkeypatch, "winograd4x4", "im2col")
    return BandedNetwork(read_vgg(default_network.path))


def step(network: BandedNetwork, image: Tensor, gradients: Mapping[str, Tensor]) -> None:
    observer = GradientObserver(gradients)
    normalization = network.vgg.normalization
    saved = network.forward(normalization.forward(image), observer, keep=True)
    normalization.backward(network.backward(saved, observer))


@pytest.fixture
def default_step(network: BandedNetwork) -> Callable[[], None]:
    """A forward and backward pass of the default layers at 96 x 128."""
    image = torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    gradients = random_gradients(forward(network, image, LAYERS), LAYERS)
    network.buffers.clear()
    return lambda: step(network, image, gradients)


def test_a_step_keeps_little_more_than_the_observed_features(
    default_step: Callable[[], None], network: BandedNetwork
) -> None:
    features = sum(4 * math.prod(shape_of(layer, 96, 128)) for layer in LAYERS)
    with small_bands(512):
        default_step()
    assert features == 584 * PIXELS
    # Besides: two feature maps of 64 bytes, codes and masks of 54, the gradient of 12, and bands.
    assert network.buffers.bytes < STEP_IN_SMALL_BANDS * PIXELS


def test_bands_of_the_usual_size_need_limited_memory(
    default_step: Callable[[], None], network: BandedNetwork
) -> None:
    default_step()
    assert network.buffers.bytes < STEP * PIXELS


def test_a_forward_pass_alone_saves_no_features(network: BandedNetwork) -> None:
    image = torch.rand(1, 3, 96, 128)
    observer = GradientObserver(dict.fromkeys(LAYERS, image))
    with small_bands(512):
        saved = network.forward(network.vgg.normalization.forward(image), observer, keep=False)
    assert saved.features == saved.relu_masks == saved.pooling_codes == {}
    assert network.buffers.bytes < FORWARD_PASS * PIXELS


def test_buffers_do_not_grow_from_step_to_step(
    default_step: Callable[[], None], network: BandedNetwork
) -> None:
    def addresses() -> dict[Any, int]:
        return {name: buffer.data_ptr() for name, buffer in network.buffers._buffers.items()}

    default_step()
    before, size = addresses(), network.buffers.bytes
    for _ in range(3):
        default_step()
        assert (addresses(), network.buffers.bytes) == (before, size)


def test_a_step_allocates_only_arrays_of_the_image_and_of_bands(
    default_step: Callable[[], None],
) -> None:
    with small_bands(512):
        default_step()
        with Allocations() as allocations:
            default_step()
    *of_bands, _, _, _, _ = sorted(allocations.sizes)
    # The image minus its mean, divided by the deviation, and padded; its gradient.
    largest, operation = max(allocations.sizes)
    assert largest < 13 * PIXELS, operation
    # Maxima of a band's windows: a quarter of 512 pixels, of 256 channels.
    largest, operation = max(of_bands)
    assert largest <= 4 * 128 * 256, operation


def test_saved_features_stay_in_the_same_memory(network: BandedNetwork) -> None:
    image = torch.rand(1, 3, 48, 64)
    observer = GradientObserver(random_gradients(forward(network, image, LAYERS), LAYERS))

    def addresses() -> dict[str, int]:
        saved = network.forward(network.vgg.normalization.forward(image), observer, keep=True)
        assert set(saved.features) == set(LAYERS) - {"relu1_1"}
        network.backward(saved, observer)
        return {layer: values.data_ptr() for layer, values in saved.features.items()}

    assert addresses() == addresses()
