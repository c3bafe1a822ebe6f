"""An implementation of VGG19's features that shares only the weights file with the program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nstrt.runtime.model import LAYERS, ModelSpec

if TYPE_CHECKING:
    from torch import Tensor, nn


class Reference:
    """torchvision's own VGG19 with the original weights in their own convention.

    It shares nothing with the exporter or the runtime but the weights file: the picture is turned
    to BGR in 0..255 and the mean is taken off by hand, as Simonyan and Zisserman did.
    """

    def __init__(self) -> None:
        import torch

        from nstrt.exporter.weights import oxford_file

        stored = torch.load(oxford_file(), weights_only=True)
        self.parameters: dict[str, Tensor] = {}
        for number, name in enumerate(LAYERS):
            if name.startswith("conv"):
                block = "block{}_conv{}".format(*name.removeprefix("conv").split("_"))
                weight = stored[f"{block}_W_table"][stored[f"{block}_W_q"].long()]
                self.parameters[f"{number}.weight"] = weight.float()
                self.parameters[f"{number}.bias"] = stored[f"{block}_b"].float()
        self._modules: dict[tuple[str, str, torch.dtype], nn.Sequential] = {}

    def __call__(
        self, image: Tensor, spec: ModelSpec, given: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """The activations of every layer, differentiable.

        With ``given`` activations the layers take those values instead of their own, so that
        autograd goes back through the same ReLU masks and pooling winners as whoever made them.
        """
        import torch
        from torch.nn import functional

        x = image.flip(1) * 255
        if spec.normalize:
            x = x - torch.tensor([103.939, 116.779, 123.68], dtype=x.dtype).reshape(1, 3, 1, 1)
        found: dict[str, Tensor] = {}
        for name, layer in zip(spec.layers, self._module(spec, x.dtype), strict=False):
            if name == "conv1_1" and spec.padding == "replicate":
                x = functional.pad(x, (1, 1, 1, 1), mode="replicate")
            x = layer(x)
            found[name] = _taking(x, given[name]) if given and name in given else x
            if given and name.startswith("conv"):
                rectified = name.replace("conv", "relu")
                x = _taking(x, given[rectified]) if rectified in given else found[name]
            elif name.startswith("pool"):
                # What the exporter folds into the next convolution's weights: the tap itself is
                # the window's plain mean.
                x = found[name] * (2**0.5 if spec.pooling == "avg" else 1)
            else:
                x = found[name]
        return found

    def _module(self, spec: ModelSpec, dtype: Any) -> nn.Sequential:
        import torch
        import torchvision
        from torch import nn

        key = (spec.pooling, spec.padding, dtype)
        if key not in self._modules:
            with torch.device("meta"):
                features = torchvision.models.vgg19(weights=None).features
            features = features[: len(LAYERS)]
            features.load_state_dict(
                {name: value.to(dtype) for name, value in self.parameters.items()}, assign=True
            )
            for number, module in enumerate(features):
                if isinstance(module, nn.ReLU):
                    module.inplace = False
                elif isinstance(module, nn.MaxPool2d) and spec.pooling != "max":
                    features[number] = nn.AvgPool2d(2)
            if spec.padding == "replicate":
                features[0].padding = (0, 0)
            self._modules[key] = features.requires_grad_(False)
        return self._modules[key]


def _taking(own: Tensor, value: Tensor) -> Tensor:
    """``value``, with the gradient of ``own``."""
    import torch

    class Taking(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, own: Tensor, value: Tensor) -> Tensor:
            return value.to(own.dtype, copy=True)

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
            return grads[0], None

    result: Tensor = Taking.apply(own, value)
    return result
