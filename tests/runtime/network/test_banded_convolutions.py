"""Convolutions that a banded network computes: how often, by which kernels, in which bands."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from nstrt.runtime.kernels.convolution import Autotuner, Filter, Kernel
from nstrt.runtime.kernels.convolution.algorithms import candidates
from nstrt.runtime.network.banded import BandedNetwork
from nstrt.runtime.network.vgg import read_vgg

from support.banded import (
    forward,
    forward_and_backward,
    one_band,
    random_gradients,
    random_vgg,
    small_bands,
)
from support.observers import RecordingObserver

if TYPE_CHECKING:
    from support import Crop, Network

MANY_LAYERS = ("relu1_1", "relu1_2", "conv3_1", "pool2", "relu3_1", "conv4_2", "relu5_1")

Call = tuple[int, bool, int]
"""A convolution of a band: identity of its filter, whether it is transposed, rows of output."""


class LoggedKernel:
    """A kernel that logs the bands it computes."""

    def __init__(self, kernel: Kernel, log: list[Call], weights: Filter, transposed: bool) -> None:
        self.kernel = kernel
        self.tile_size = kernel.tile_size
        self.band_dtype = kernel.band_dtype
        self.windowed = False
        self.log = log
        self.filter_id = id(weights)
        self.transposed = transposed

    def apply(self, band: Tensor, out: Tensor, bias: Tensor | None) -> None:
        self.log.append((self.filter_id, self.transposed, out.shape[1]))
        self.kernel.apply(band, out, bias)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """A log of all convolutions of bands."""
    log: list[Call] = []
    choose_kernel = Autotuner.kernel

    def logged(
        self: Autotuner, weights: Filter, rows: int, columns: int, **options: bool
    ) -> tuple[str, Kernel]:
        name, kernel = choose_kernel(self, weights, rows, columns, **options)
        return name, LoggedKernel(kernel, log, weights, options["transposed"])

    monkeypatch.setattr(Autotuner, "kernel", logged)
    return log


@pytest.mark.parametrize(
    ("layers", "count"),
    [(("relu1_1",), 1), (("pool2",), 4), (("conv3_1",), 5), (MANY_LAYERS, 13)],
)
def test_each_convolution_down_to_the_deepest_layer_is_computed_once_in_each_direction(
    default_network: Network, photo: Crop, layers: tuple[str, ...], count: int, calls: list[Call]
) -> None:
    network = BandedNetwork(read_vgg(default_network.path))
    image = photo(64, 64)
    filters = [id(block.filter) for block in network.vgg.blocks[:count]]
    with one_band():
        gradients = random_gradients(forward(network, image, layers), layers)
        assert [call[:2] for call in calls] == [(weights, False) for weights in filters]
        calls.clear()
        forward_and_backward(network, image, gradients)
        # The first block's output, cheap and large, is computed again instead of saved.
        again = [(filters[0], False)] if count > 1 else []
        assert [call[:2] for call in calls] == [
            *((weights, False) for weights in filters),
            *((weights, True) for weights in reversed(filters[1:])),
            *again,
            (filters[0], True),
        ]


def test_bands_do_not_overlap_but_in_the_first_block(
    default_network: Network, photo: Crop, calls: list[Call]
) -> None:
    network = BandedNetwork(read_vgg(default_network.path))
    image = photo(64, 48)
    with small_bands():
        gradients = random_gradients(forward(network, image, ("relu3_1",)), ("relu3_1",))
        calls.clear()
        forward_and_backward(network, image, gradients)
    rows: Counter[tuple[int, bool]] = Counter()
    for weights, transposed, count in calls:
        rows[weights, transposed] += count
    heights = [64, 32, 32, 16]
    for block, height in zip(network.vgg.blocks[1:], heights, strict=False):
        assert rows[id(block.filter), False] == height
        assert rows[id(block.filter), True] == height
    # The first block's output is computed in both passes, with a row around each band.
    first = id(network.vgg.blocks[0].filter)
    bands = sum(weights == first and transposed for weights, transposed, _ in calls)
    assert rows[first, True] == 64 + 2 * bands
    assert rows[first, False] == 2 * 64 + 2 * bands - 2
    assert len(calls) > 20


def test_kernels_are_named_by_convolution_and_direction(default_network: Network) -> None:
    network = BandedNetwork(read_vgg(default_network.path))
    kernels = network.kernels(64, 64, ("relu2_1",))
    convolutions = [block.conv for block in network.vgg.blocks[:3]]
    assert set(kernels) == {f"{name} {way}" for name in convolutions for way in ("on", "back")}
    assert set(kernels.values()) <= {"direct", "winograd4x4", "im2col"}
    back = network.kernels(64, 64, ("relu2_1",), forward=False)
    assert back == {name: kernels[name] for name in kernels if name.endswith("back")}
    # The choice does not change after it was made.
    assert network.kernels(64, 64, ("relu2_1",)) == kernels


@pytest.mark.parametrize("layers", [("relu1_1",), ("relu2_1",)])
def test_named_kernels_are_those_that_compute(
    default_network: Network,
    layers: tuple[str, ...],
    photo: Crop,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen: list[tuple[int, int, bool]] = []

    def kernel(
        self: Autotuner, weights: Filter, rows: int, columns: int, *, transposed: bool, large: bool
    ) -> tuple[str, Kernel]:
        chosen.append((rows, columns, transposed))
        return "direct", candidates(weights, self._buffers, transposed=transposed)["direct"]()

    monkeypatch.setattr(Autotuner, "kernel", kernel)
    network = BandedNetwork(read_vgg(default_network.path))
    image = photo(32, 48)
    gradients = random_gradients(forward(network, image, layers), layers)
    forward_and_backward(network, image, gradients)
    used = set(chosen)
    chosen.clear()
    network.kernels(32, 48, layers)
    assert set(chosen) == used


def test_check_is_called_before_each_band() -> None:
    vgg = random_vgg((4, 5), (True, False), average=False, replicate=True)
    image = torch.rand(1, 3, 24, 24, dtype=torch.float64)
    network = BandedNetwork(vgg)
    gradients = random_gradients(forward(network, image, ("relu2",)), ("relu2",))
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1

    with small_bands(100):
        observer = RecordingObserver(("relu2",), gradients)
        padded = vgg.normalization.forward(image)
        saved = network.forward(padded, observer, keep=True, check=check)
        assert checks == 6 + 2  # bands of 4 of 24 rows, of 8 of 12
        network.backward(saved, observer, check)
        assert checks == 8 + 2 + 7
