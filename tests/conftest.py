"""What the tests share: a cache of their own, the models built in it, two pictures, a reference."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from nstrt.runtime.engines import benchmark as calibrate
from nstrt.runtime.model import LAYERS, ModelSpec, ModelStore, Padding, Pooling

if TYPE_CHECKING:
    from torch import Tensor, nn

# Threads that spin while they wait for each other made torch ten times slower on a busy
# machine. Its OpenMP library reads this when it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("any-machine", deadline=None, derandomize=True)
settings.load_profile("any-machine")

EXAMPLES = Path(__file__).parents[1] / "examples"

LOSS_LAYERS = (
    *("conv1_1", "relu1_1", "relu2_1", "conv3_1", "relu3_1"),
    *("relu4_1", "conv4_2", "relu5_1"),
)
"""Layers that the shared networks serve: convolutions and ReLUs, as deep as is usual."""


@dataclass(frozen=True)
class Network:
    """A network in one pooling and padding, exported once for all tests."""

    spec: ModelSpec
    path: Path


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test touches the cache of the person who runs it. What is measured belongs to one process
    of tests; models, which are the same however they come about, belong to all of them."""
    folder = tmp_path_factory.mktemp("cache")
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = tmp_path_factory.getbasetemp().parent / "models"
        shared.mkdir(exist_ok=True)
        (folder / "models").symlink_to(shared, target_is_directory=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NSTRT_CACHE", str(folder))
        # Which engine or algorithm is faster, no test minds; that it is measured, some do.
        patch.setattr(calibrate, "SIDES", (48, 64))
        patch.setattr("nstrt.runtime.kernels.convolution.autotune._REPEATS", 1)
        yield folder


@pytest.fixture(scope="session")
def models(own_cache: Path) -> ModelStore:
    return ModelStore(own_cache / "models")


@pytest.fixture(
    scope="session",
    params=[("max", "replicate"), ("max", "zero"), ("avg", "replicate"), ("avg", "zero")],
    ids="-".join,
)
def network(request: pytest.FixtureRequest, models: ModelStore) -> Network:
    """Each pooling and padding in turn."""
    pooling, padding = cast("tuple[Pooling, Padding]", request.param)
    spec = ModelSpec.for_losses(LOSS_LAYERS, pooling=pooling, padding=padding)
    return Network(spec, models.obtain(spec).path)


@pytest.fixture(scope="session")
def default_network(models: ModelStore) -> Network:
    """The first of :func:`network`, for what does not depend on pooling and padding."""
    spec = ModelSpec.for_losses(LOSS_LAYERS)
    return Network(spec, models.obtain(spec).path)


@pytest.fixture(scope="session")
def small_network(models: ModelStore) -> Network:
    """The layers up to relu2_1, where a whole network would only take time."""
    spec = ModelSpec.for_losses(("relu1_1", "relu2_1"))
    return Network(spec, models.obtain(spec).path)


Crop = Callable[[int, int], "Tensor"]
"""A piece of a picture by height and width: 1 x 3 x height x width, RGB in 0..1."""


def _crop(name: str) -> Crop:
    import torch

    def crop(height: int, width: int) -> Tensor:
        return torch.from_numpy(_pixels(name)[:, :, :height, :width].copy())

    return crop


@pytest.fixture
def photo() -> Crop:
    return _crop("cat.jpg")


@pytest.fixture
def painting() -> Crop:
    return _crop("night.jpg")


@cache
def _pixels(name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    with Image.open(EXAMPLES / name) as picture:
        small = picture.convert("RGB").resize((160, 160), Image.Resampling.LANCZOS)
    return (np.asarray(small, np.float32) / np.float32(255)).transpose(2, 0, 1)[None]


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


@pytest.fixture(scope="session")
def reference() -> Reference:
    return Reference()
