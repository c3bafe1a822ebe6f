"""What the tests share: a cache of their own, the models built in it, two pictures, a reference."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from nstrt.runtime.engines import benchmark as calibrate
from nstrt.runtime.model import ModelSpec, ModelStore, Padding, Pooling

from support import EXAMPLES, ROOT, Crop, Network
from support.reference import Reference

if TYPE_CHECKING:
    from torch import Tensor

# Threads that spin while they wait for each other made torch ten times slower on a busy
# machine. Its OpenMP library reads this when it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Tests that import ONNX Runtime themselves report nothing either.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("any-machine", deadline=None, derandomize=True)
settings.load_profile("any-machine")

LOSS_LAYERS = (
    *("conv1_1", "relu1_1", "relu2_1", "conv3_1", "relu3_1"),
    *("relu4_1", "conv4_2", "relu5_1"),
)
"""Layers that the shared networks serve: convolutions and ReLUs, as deep as is usual."""

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Shells let background jobs ignore Ctrl-C; commands under test inherit that and heed it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test touches the cache of the person who runs it. What is measured belongs to one process
    of tests; models, which are the same however they come about, belong to all of them."""
    folder = tmp_path_factory.mktemp("cache")
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = tmp_path_factory.getbasetemp().parent / "models"
        shared.mkdir(exist_ok=True)
        (folder / "models").symlink_to(shared, target_is_directory=True)
    # Compiled code is right for its sources and versions, and compiling it takes long.
    compiled = ROOT / "tests" / "__pycache__" / "compiled"
    compiled.mkdir(parents=True, exist_ok=True)
    (folder / "compiled").symlink_to(compiled, target_is_directory=True)
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


@pytest.fixture(scope="session")
def reference() -> Reference:
    return Reference()
