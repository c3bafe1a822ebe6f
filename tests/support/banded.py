"""Passes through a banded network, small networks, and sizes of bands for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from nstrt.runtime.kernels.convolution import Filter, Kernel, autotune
from nstrt.runtime.kernels.convolution.algorithms import candidates
from nstrt.runtime.network import bands
from nstrt.runtime.network.banded import BandedNetwork
from nstrt.runtime.network.vgg import ConvBlock, InputNormalization, TorchVGG

from support.observers import RecordingObserver


@contextmanager
def small_bands(pixels: int = 500) -> Iterator[None]:
    """Compute in bands of about ``pixels`` pixels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bands, "_BAND_BYTES", 0)
        patch.setattr(bands, "_BAND_PIXELS", pixels)
        yield


@contextmanager
def one_band() -> Iterator[None]:
    """Compute each layer in one band."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bands, "_BAND_PIXELS", 1 << 30)
        yield


def allow_algorithms(patch: pytest.MonkeyPatch, *names: str) -> None:
    """Allow only some convolution algorithms, where any of them can compute a layer."""

    def allowed(*args: Any, **options: Any) -> Mapping[str, Callable[[], Kernel]]:
        kernels = candidates(*args, **options)
        return {name: make for name, make in kernels.items() if name in names} or kernels

    patch.setattr(autotune, "candidates", allowed)


def forward(network: BandedNetwork, image: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """Features of an image, 1 x channels x height x width by layer; saves nothing."""
    observer = RecordingObserver(layers)
    saved = network.forward(network.vgg.normalization.forward(image), observer, keep=False)
    assert saved.features == saved.relu_masks == saved.pooling_codes == {}
    return observer.all_features()


def forward_and_backward(
    network: BandedNetwork, image: Tensor, gradients: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], Tensor]:
    """Features at the layers of ``gradients``, and the gradient at the image from theirs."""
    observer = RecordingObserver(tuple(gradients), gradients)
    normalization = network.vgg.normalization
    saved = network.forward(normalization.forward(image), observer, keep=True)
    gradient = normalization.backward(network.backward(saved, observer))
    assert set(observer.gradient_calls) == set(gradients)
    return observer.all_features(), gradient


def random_gradients(features: Mapping[str, Tensor], layers: Sequence[str]) -> dict[str, Tensor]:
    """Random gradients at some layers, each of about equal effect on the image's gradient."""
    generator = torch.Generator().manual_seed(3)
    return {
        name: torch.randn(features[name].shape, generator=generator, dtype=torch.float64).to(
            features[name].dtype
        )
        / (features[name].norm() + 1e-9)
        for name in layers
    }


def random_vgg(
    channels: Sequence[int],
    pooled: Sequence[bool],
    *,
    average: bool,
    replicate: bool,
    dtype: torch.dtype = torch.float64,
    whole_numbers: bool = False,
) -> TorchVGG:
    """A network with random weights and layers ``conv1``, ``relu1``, perhaps ``pool1``, and so on.

    ``pooled`` says which blocks end with a pooling, and how many there are.
    """
    generator = torch.Generator().manual_seed(5)
    blocks = []
    for number, (inputs, outputs, has_pool) in enumerate(
        zip([3, *channels], channels, pooled, strict=False), start=1
    ):
        weight = torch.randn(outputs, inputs, 3, 3, generator=generator, dtype=torch.float64)
        bias = torch.randn(outputs, generator=generator, dtype=torch.float64)
        if whole_numbers:
            weight, bias = weight.round(), bias.round()
        else:
            weight *= (2 / 9 / inputs) ** 0.5
        blocks.append(
            ConvBlock(
                Filter(weight.to(dtype), bias.to(dtype)),
                f"conv{number}",
                f"relu{number}",
                f"pool{number}" if has_pool else None,
                average,
            )
        )
    mean = torch.tensor([0.5, 0.25, 0.75], dtype=dtype).view(1, 3, 1, 1)
    std = torch.tensor([0.5, 0.25, 1], dtype=dtype).view(1, 3, 1, 1)
    return TorchVGG(InputNormalization(mean, std, replicate), blocks)
