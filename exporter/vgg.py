"""VGG19's feature layers as a frozen module: the reference that every export is checked against."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from nstrt.exporter.weights import Weights
from nstrt.runtime.model import LAYERS, ModelSpec

__all__ = ["POOLING_GAIN", "FeatureNet"]

POOLING_GAIN = 2**0.5
"""What each average pooling is multiplied by, except where it is left unscaled."""


class FeatureNet(nn.Module):
    """The layers of torchvision's VGG19 up to the deepest tap, with their taps as outputs.

    Input: 1 x 3 x height x width, RGB in 0..1. Outputs: one tensor for each tap of the
    specification, in its order. The weights are frozen; nothing has a gradient.

    Average pooling is rescaled by :data:`POOLING_GAIN`, folded into the convolution that follows
    it: the mean of a window is smaller than its maximum, and over four poolings activations
    would shrink to a quarter of what the deeper layers' biases were trained with. The gain was
    chosen from the activations of photos and paintings: see ``docs/method.md``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: ModelSpec, weights: Weights, *, half: bool = False) -> None:
        super().__init__()
        self.taps = spec.taps
        self.half_precision = half
        self.register_buffer("mean", weights.mean if spec.normalize else torch.zeros(1, 3, 1, 1))
        self.register_buffer(
            "std", weights.std if spec.normalize else torch.full((1, 3, 1, 1), weights.unit)
        )
        self.layers = nn.ModuleDict(_layers(spec, weights))
        if half:
            self.layers.half()
        self.requires_grad_(False).eval()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        # One subtraction and one division, kept in single precision in every variant: half
        # precision would round the picture to less than 8 bits here.
        features = (image - self.mean) / self.std
        if self.half_precision:
            features = features.half()
        found: list[Tensor] = []
        for name, layer in self.layers.items():
            features = layer(features)
            if name in self.taps:
                found.append(features)
        return tuple(found)


class ReplicatePad(nn.Module):
    """One pixel of the picture's own edge on every side."""

    def forward(self, features: Tensor) -> Tensor:
        return functional.pad(features, (1, 1, 1, 1), mode="replicate")


def _layers(spec: ModelSpec, weights: Weights) -> dict[str, nn.Module]:
    layers: dict[str, nn.Module] = {}
    gain = 1.0
    for name, module in zip(LAYERS, _architecture(), strict=False):
        if name not in spec.layers:
            break
        if isinstance(module, nn.Conv2d):
            tensor = weights.convolutions[name]
            padding = 0 if name == "conv1_1" and spec.padding == "replicate" else 1
            module = nn.Conv2d(module.in_channels, module.out_channels, 3, padding=padding)
            module.weight = nn.Parameter(tensor.weight * gain)
            gain = 1.0
            module.bias = nn.Parameter(tensor.bias)
            if padding == 0:
                layers["pad"] = ReplicatePad()
        elif isinstance(module, nn.ReLU):
            module = nn.ReLU(inplace=False)
        elif isinstance(module, nn.MaxPool2d) and spec.pooling != "max":
            module = nn.AvgPool2d(kernel_size=2, stride=2)
            gain = POOLING_GAIN if spec.pooling == "avg" else 1.0
        layers[name] = module
    return layers


def _architecture() -> Iterator[nn.Module]:
    """torchvision's feature layers, without memory for the weights that are put in later."""
    with torch.device("meta"):
        yield from torchvision.models.vgg19(weights=None).features
