"""Convert nstrt's weights to the formats of other programs."""

from __future__ import annotations

from typing import Any

__all__ = ["caffe_state", "torchvision_features"]


def torchvision_features() -> Any:
    """Return torchvision's VGG19 features with the original weights, for torchvision's input.

    They replace torchvision's retrained weights, which need a download. Speed and memory do not
    depend on the values.
    """
    import torch
    from torchvision.models.vgg import cfgs, make_layers

    from nstrt.exporter.weights import TORCHVISION_STD, load_weights

    weights = load_weights("oxford")
    features = make_layers(cfgs["E"])
    modules = [module for module in features if isinstance(module, torch.nn.Conv2d)]
    with torch.no_grad():
        for module, (name, layer) in zip(modules, weights.convolutions.items(), strict=True):
            module.weight.copy_(layer.weight)
            module.bias.copy_(layer.bias)
            if name == "conv1_1":
                std = torch.tensor(TORCHVISION_STD).reshape(1, 3, 1, 1)
                module.weight.mul_(std * 255)
    return features


def caffe_state() -> dict[str, Any]:
    """Return the original weights as a state dictionary for BGR in 0..255 minus the mean."""
    from nstrt.exporter.weights import load_weights
    from nstrt.runtime.model import LAYERS

    weights = load_weights("oxford")
    state: dict[str, Any] = {}
    for name, layer in weights.convolutions.items():
        weight = layer.weight.flip(1).contiguous() if name == "conv1_1" else layer.weight
        state[f"features.{LAYERS.index(name)}.weight"] = weight
        state[f"features.{LAYERS.index(name)}.bias"] = layer.bias
    return state
