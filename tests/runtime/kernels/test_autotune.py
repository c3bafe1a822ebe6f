"""Measuring convolution algorithms, caching their times, and choosing by them."""

from __future__ import annotations

import gc
import json
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nstrt.runtime.errors import CheckpointError
from nstrt.runtime.kernels.buffers import BufferPool
from nstrt.runtime.kernels.convolution import (
    Autotuner,
    Filter,
    algorithms,
    autotune,
    band_for,
)
from nstrt.runtime.kernels.convolution import filter as filter_module
from nstrt.runtime.kernels.convolution.winograd_4x4 import TILE, Winograd4x4, transform_weight
from nstrt.runtime.kernels.convolution.winograd_6x6 import Winograd6x6

from support.convolution import make_filter

WIDE = make_filter(16, 32)


class SlowKernel:
    """A kernel that computes nothing and sleeps."""

    tile_size = 1
    band_dtype = None
    windowed = False

    def __init__(self, name: str, seconds: float, calls: dict[str, int]) -> None:
        self.name = name
        self.seconds = seconds
        self.calls = calls

    def apply(self, band: Tensor, out: Tensor, bias: Tensor | None) -> None:
        self.calls[self.name] = self.calls.get(self.name, 0) + 1
        time.sleep(self.seconds)


class FakeCandidates:
    """Algorithms with chosen times; counts the calls of each."""

    def __init__(self) -> None:
        self.seconds = {"tortoise": 0.03, "hare": 0.0, "snail": 0.03}
        self.made: list[weakref.ref[SlowKernel]] = []
        self.calls: dict[str, int] = {}

    def candidates(self, *_: Any, **__: Any) -> dict[str, Callable[[], SlowKernel]]:
        def make(name: str) -> SlowKernel:
            kernel = SlowKernel(name, self.seconds[name], self.calls)
            self.made.append(weakref.ref(kernel))
            return kernel

        return {name: lambda name=name: make(name) for name in self.seconds}

    def alive(self) -> list[str]:
        gc.collect()
        return [kernel.name for ref in self.made if (kernel := ref()) is not None]


@pytest.fixture
def fake(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCandidates:
    fake = FakeCandidates()
    monkeypatch.setattr(autotune, "candidates", fake.candidates)
    monkeypatch.setattr(autotune, "_REPEATS", 5)
    return fake


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({"direct": 3.0, "winograd4x4": 1.0, "winograd6x6": 1.09}, "winograd6x6"),
        ({"direct": 3.0, "winograd4x4": 1.0, "winograd6x6": 1.2}, "winograd4x4"),
        ({"direct": 1.0, "winograd4x4": 1.05}, "direct"),
    ],
)
def test_compiled_algorithm_wins_ties(seconds: dict[str, float], chosen: str) -> None:
    assert autotune._fastest(seconds) == chosen


def test_fastest_algorithm_is_measured_once(fake: FakeCandidates) -> None:
    autotuner = Autotuner(BufferPool())
    name, kernel = autotuner.kernel(WIDE, 8, 8, transposed=False)
    assert name == "hare"
    # Far slower algorithms run once to warm up and once timed.
    assert fake.calls == {"tortoise": 2, "hare": autotune._REPEATS + 1, "snail": 2}
    before = dict(fake.calls)
    for _ in range(3):
        assert autotuner.kernel(WIDE, 8, 8, transposed=False) == ("hare", kernel)
    assert fake.calls == before


def test_times_are_cached_and_not_measured_again(fake: FakeCandidates, empty_cache: Path) -> None:
    Autotuner(BufferPool(), key="this machine").kernel(WIDE, 8, 8, transposed=False)
    (seconds,) = json.loads((empty_cache / "kernels.json").read_text()).values()
    assert set(seconds) == {"tortoise", "hare", "snail"}
    assert seconds["hare"] < 0.004 <= min(seconds["tortoise"], seconds["snail"])
    fake.calls.clear()
    fake.made.clear()
    name, _ = Autotuner(BufferPool(), key="this machine").kernel(WIDE, 8, 8, transposed=False)
    assert name == "hare"
    assert fake.calls == {}
    assert fake.alive() in ([], ["hare"])
    assert len(fake.made) == 1


def test_cached_times_decide_without_measuring(fake: FakeCandidates, empty_cache: Path) -> None:
    """A machine that was busy once still computes the same pixels the next time."""
    Autotuner(BufferPool()).kernel(WIDE, 8, 8, transposed=False)
    path = empty_cache / "kernels.json"
    (key,) = json.loads(path.read_text())
    path.write_text(json.dumps({key: {"tortoise": 1, "hare": 3, "snail": 2}}))
    fake.calls.clear()
    name, _ = Autotuner(BufferPool()).kernel(WIDE, 8, 8, transposed=False)
    assert (name, fake.calls) == ("tortoise", {})


def test_cached_name_is_returned_without_loading_compiled_modules(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bool] = []

    def works() -> bool:
        calls.append(True)
        return len(calls) < 2

    monkeypatch.setattr(algorithms, "winograd_6x6_works", works)
    shape = {"weights": WIDE, "rows": 8, "columns": 8, "transposed": False, "large": True}
    key = Autotuner(BufferPool())._shape_key(**shape)
    seconds = {"direct": 2.0, "winograd4x4": 1.0, "winograd6x6": 0.5}
    empty_cache.mkdir()
    (empty_cache / "kernels.json").write_text(json.dumps({key: seconds}))
    autotuner = Autotuner(BufferPool())
    assert autotuner.name(**shape) == "winograd6x6"
    assert not calls
    name, kernel = autotuner.kernel(**shape)
    assert (name, type(kernel)) == ("winograd6x6", Winograd6x6)
    assert calls
    # If the compiled algorithm no longer works, the others are measured.
    other = Autotuner(BufferPool())
    assert other.name(**shape) == "winograd6x6"
    name, _ = other.kernel(**shape)
    assert name != "winograd6x6"
    assert other.name(**shape) == name
    # A run that began with the compiled algorithm does not continue with another.
    for autotuner in (other, Autotuner(BufferPool())):
        autotuner.pin({key: "winograd6x6"})
        for choose in (autotuner.name, autotuner.kernel):
            with pytest.raises(CheckpointError, match="'winograd6x6'"):
                choose(**shape)
    assert "winograd6x6" not in json.loads((empty_cache / "kernels.json").read_text())[key]


@pytest.mark.usefixtures("empty_cache")
def test_pinned_algorithm_that_does_not_work_raises() -> None:
    weights, autotuner = make_filter(16, 16), Autotuner(BufferPool())
    autotuner.kernel(weights, 8, 8, transposed=False)
    autotuner.pin(dict.fromkeys(autotuner.names, "of another machine"))
    for choose in (autotuner.name, autotuner.kernel):
        with pytest.raises(CheckpointError, match=r"'of another machine'.*anew"):
            choose(weights, 8, 8, transposed=False)


def test_unknown_name_is_measured(fake: FakeCandidates) -> None:
    autotuner = Autotuner(BufferPool())
    assert autotuner.name(WIDE, 8, 8, transposed=False) == "hare"
    assert fake.calls
    fake.calls.clear()
    assert autotuner.kernel(WIDE, 8, 8, transposed=False)[0] == "hare"
    assert Autotuner(BufferPool()).name(WIDE, 8, 8, transposed=False) == "hare"
    assert fake.calls == {}


def test_each_shape_direction_and_machine_is_measured(
    fake: FakeCandidates, empty_cache: Path
) -> None:
    def measures(
        autotuner: Autotuner, weights: Filter, *size: int, transposed: bool = False
    ) -> bool:
        fake.calls.clear()
        autotuner.kernel(weights, *size, transposed=transposed)
        return bool(fake.calls)

    autotuner = Autotuner(BufferPool())
    assert measures(autotuner, WIDE, 8, 8)
    assert not measures(autotuner, WIDE, 7, 9)  # about as many pixels
    assert measures(autotuner, WIDE, 16, 16)
    assert measures(autotuner, WIDE, 8, 8, transposed=True)
    assert measures(autotuner, make_filter(32, 32), 8, 8)
    assert not measures(autotuner, make_filter(16, 32), 8, 8)
    assert measures(autotuner, WIDE, 100, 100)
    assert not measures(autotuner, WIDE, 200, 200)  # the order is fixed above 8192 pixels
    assert measures(Autotuner(BufferPool(), key="another machine"), WIDE, 8, 8)
    assert len(json.loads((empty_cache / "kernels.json").read_text())) == 6


def test_changed_candidates_are_measured_again(fake: FakeCandidates) -> None:
    Autotuner(BufferPool()).kernel(WIDE, 8, 8, transposed=False)
    fake.seconds = {"tortoise": 0.004, "cheetah": 0.0}
    fake.calls.clear()
    name, _ = Autotuner(BufferPool()).kernel(WIDE, 8, 8, transposed=False)
    assert name == "cheetah"
    assert set(fake.calls) == {"tortoise", "cheetah"}


def test_single_candidate_is_not_measured(fake: FakeCandidates, empty_cache: Path) -> None:
    fake.seconds = {"tortoise": 1.0}
    name, _ = Autotuner(BufferPool()).kernel(WIDE, 8, 8, transposed=False)
    assert (name, fake.calls) == ("tortoise", {})
    assert not empty_cache.exists()


def test_unwritable_cache_does_not_prevent_a_choice(
    fake: FakeCandidates, empty_cache: Path
) -> None:
    empty_cache.write_text("a file instead of the folder")
    autotuner = Autotuner(BufferPool())
    assert autotuner.kernel(WIDE, 8, 8, transposed=False)[0] == "hare"
    fake.calls.clear()
    assert autotuner.kernel(WIDE, 8, 8, transposed=False)[0] == "hare"
    assert fake.calls == {}


def test_slower_kernels_are_freed(fake: FakeCandidates) -> None:
    autotuner = Autotuner(BufferPool())
    autotuner.kernel(WIDE, 8, 8, transposed=False)
    autotuner.kernel(WIDE, 8, 8, transposed=True)
    assert fake.alive() == ["hare", "hare"]


@pytest.mark.usefixtures("empty_cache")
def test_transformed_weights_of_a_slower_winograd_are_freed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are four times as large as the weights themselves."""
    transformed: list[weakref.ref[Tensor]] = []

    def transform(weight: Tensor) -> Tensor:
        result = transform_weight(weight)
        transformed.append(weakref.ref(result))
        return result

    def sleep(*_: Any) -> None:
        time.sleep(0.02)

    monkeypatch.setattr(filter_module, "transform_weight", transform)
    monkeypatch.setattr(Winograd4x4, "apply", sleep)
    autotuner, weights = Autotuner(BufferPool()), make_filter(16, 32)
    for transposed in (False, True):
        name, _ = autotuner.kernel(weights, 8, 8, transposed=transposed)
        assert name != "winograd4x4"
    gc.collect()
    assert transformed
    assert all(ref() is None for ref in transformed)


@pytest.mark.usefixtures("empty_cache")
def test_chosen_kernels_are_built_once() -> None:
    autotuner = Autotuner(BufferPool())
    for transposed in (False, True):
        _, first = autotuner.kernel(WIDE, 8, 8, transposed=transposed)
        _, second = autotuner.kernel(WIDE, 8, 8, transposed=transposed)
        assert first is second


@pytest.mark.usefixtures("empty_cache")
def test_measuring_does_not_change_the_weights() -> None:
    weights = make_filter(16, 32)
    before = weights.weight.clone(), weights.bias.clone()
    Autotuner(BufferPool()).kernel(weights, 9, 9, transposed=True)
    assert torch.equal(weights.weight, before[0])
    assert torch.equal(weights.bias, before[1])


def test_band_has_a_border_and_whole_tiles() -> None:
    buffers, weights = BufferPool(), make_filter(16, 16)
    tiled = Winograd4x4(weights.winograd_weight(), buffers, transposed=False)
    assert tiled.tile_size == TILE
    assert band_for(buffers, tiled, 16, 5, 8).shape == (16, 10, 10)
    unpadded = Winograd6x6(weights.weight, buffers)
    assert band_for(buffers, unpadded, 16, 5, 8).shape == (16, 7, 10)
    direct = algorithms.Direct(weights.weight)
    assert band_for(buffers, direct, 16, 5, 8).shape == (16, 7, 10)
    double = band_for(buffers, direct, 16, 5, 8, torch.float64)
    assert double.dtype == torch.float64
    bfloat16 = band_for(buffers, algorithms.Bfloat16(weights.weight), 16, 5, 8)
    assert (bfloat16.dtype, bfloat16.shape) == (torch.bfloat16, (16, 7, 10))
    assert bfloat16[None].is_contiguous(memory_format=torch.channels_last)
