"""What a run takes in memory, and how it is made to fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nstrt.plugins.worker.words import LabelSpelling
from nstrt.runtime import StylizeOptions
from nstrt.runtime.engines import footprint
from nstrt.runtime.engines.evaluation import Evaluation
from nstrt.runtime.engines.loss_targets import objective_for
from nstrt.runtime.engines.torch_engine import TorchEngine
from nstrt.runtime.errors import TooLargeError
from nstrt.runtime.network import bands as bands_module
from nstrt.runtime.network.vgg import read_vgg
from nstrt.runtime.planning import memory as memory_module
from nstrt.runtime.planning.loss_weights import loss_weights
from nstrt.runtime.planning.memory import PLANNING_MARGIN, MemoryDemand, fit_to_memory
from nstrt.runtime.planning.plan import plan_scales
from nstrt.runtime.system.words import use_spelling

from support import EXAMPLES

if TYPE_CHECKING:
    from support import Network

pytestmark = pytest.mark.slow


def demand_of(
    photo: tuple[int, int] = (6000, 4000),
    painting: tuple[int, int] = (300, 400),
    engine: str = "torch",
    enlarged: int = 0,
    **given: Any,
) -> MemoryDemand:
    options = StylizeOptions.of(**given)
    return MemoryDemand(
        engine=engine,
        precision="fp32",
        on_card=False,
        options=options,
        scales=plan_scales(options, photo=photo, painting=painting, default=512),
        history=options.history if options.optimizer == "lbfgs" else 0,
        sources=photo[0] * photo[1] + painting[0] * painting[1],
        enlarged=enlarged,
    )


def test_masks_of_paintings_take_memory_of_the_paintings_size() -> None:
    """A mask of four bytes at each position of five strides, and its root."""
    demand = demand_of(size=512, scales=1, painting=(400, 400))
    more = replace(demand, part_of_paintings=True).peak - demand.peak
    ((width, height),) = demand.scales[0].styles
    assert more == pytest.approx(
        width * height * 2 * 4 * (1 + 1 / 4 + 1 / 16 + 1 / 64 + 1 / 256), abs=2
    )


def test_demand_that_fits_is_unchanged() -> None:
    demand = demand_of(size=512)
    assert fit_to_memory(demand, demand.peak) == demand


@pytest.mark.parametrize("history", [100, 66, 60, 20, 5, 4, 3])
def test_the_shortest_history_is_the_same_for_all(history: int) -> None:
    """So that a smaller picture, with another number of steps, never needs more."""
    found = memory_module._histories(history)
    assert found[0] == history
    assert found[-1] == min(4, history)
    assert found == sorted(found, reverse=True)


def test_large_paintings_count_the_compiler() -> None:
    small = demand_of((200, 133), (300, 300), size=200, scales=1, style_scale=1.0)
    large = demand_of((200, 133), (300, 300), size=200, scales=1, style_scale=1.2)
    assert large.peak - small.peak > footprint._COMPILER


def test_first_the_history_shrinks_then_come_tiles_then_a_refusal() -> None:
    demand = demand_of(size=2000)
    shorter = fit_to_memory(demand, demand.peak - 1)
    assert shorter.history == demand.history // 2
    assert all(scale.tile is None for scale in shorter.scales)
    tiled = fit_to_memory(demand, shorter.peak - 1)
    assert tiled.scales[-1].tile
    # Scales that are no larger than a tile are not cut.
    assert tiled.scales[0].tile is None
    with pytest.raises(TooLargeError):
        fit_to_memory(demand, demand_of(size=32, scales=1).peak)


@given(st.integers(32, 6000), st.sampled_from(["lbfgs", "adam"]), st.integers(9, 80))
def test_fitted_demands_are_within_the_limit(size: int, optimizer: str, tenths: int) -> None:
    available = tenths * 10**8
    demand = demand_of(size=size, optimizer=optimizer, scales=1)
    try:
        found = fit_to_memory(demand, available)
    except TooLargeError:
        assert replace(demand, history=min(4, demand.history)).peak > available
        return
    assert found.peak <= available
    assert found.options == demand.options
    assert found.history <= demand.history


def test_tiles_make_memory_flat_but_for_the_pictures_themselves() -> None:
    """24 megapixels take no more for the network than 3."""
    budget = 4_000_000_000
    small, large = (
        fit_to_memory(demand_of(size=size, optimizer="adam"), 10**12) for size in (2048, 6000)
    )
    assert large.peak - small.peak > budget
    tiled = fit_to_memory(demand_of(size=4000, optimizer="adam"), budget)
    assert tiled.scales[-1].tile
    assert tiled.scales[-1].width * tiled.scales[-1].height > 10_000_000


@pytest.mark.parametrize(
    ("engine", "optimizer", "available"),
    [
        ("torch", "lbfgs", 1_800_000_000),
        ("torch", "adam", 2_500_000_000),
        ("onnx", "lbfgs", 2_000_000_000),
        ("onnx", "adam", 2_500_000_000),
        ("graph", "adam", 1_500_000_000),
        ("graph", "adam", 2_000_000_000),
    ],
)
def test_refusal_names_a_size_that_fits(engine: str, optimizer: str, available: int) -> None:
    demand = demand_of(size=6000, engine=engine, optimizer=optimizer)
    with pytest.raises(TooLargeError, match=r"use size=\d+") as caught:
        fit_to_memory(demand, available)
    fits = int(str(caught.value).rpartition("size=")[2].rstrip("."))
    smaller = demand_of(size=fits, engine=engine, optimizer=optimizer)
    assert fit_to_memory(smaller, available).peak <= available
    # And not much smaller than what would have fitted.
    with pytest.raises(TooLargeError):
        fit_to_memory(
            demand_of(size=int(fits * 1.15), engine=engine, optimizer=optimizer), available
        )


def test_refusal_names_a_limit_that_would_do() -> None:
    with pytest.raises(TooLargeError, match="make max_memory= at least ") as caught:
        fit_to_memory(demand_of(size=64, max_memory=0.1), 95_000_000)
    enough = float(str(caught.value).rpartition("at least ")[2].rstrip("."))
    fit_to_memory(demand_of(size=64), int(PLANNING_MARGIN * enough * 1e9))


def test_a_host_is_advised_only_what_it_offers() -> None:
    demand = demand_of(size=256, enlarged=10**8)
    with (
        use_spelling(LabelSpelling({"size": "Work at"})),
        pytest.raises(TooLargeError, match=r"; scale the photo down first\.$"),
    ):
        fit_to_memory(demand, 2_000_000_000)


def test_refusal_names_original_size_where_it_alone_does_not_fit() -> None:
    demand = demand_of(size=256, enlarged=10**8)
    with pytest.raises(TooLargeError, match="leave original_size=True out"):
        fit_to_memory(demand, 2_000_000_000)


def test_the_painting_counts_for_memory_too() -> None:
    small, large = demand_of(size=1000), demand_of(size=1000, style_scale=2)
    assert large.peak - small.peak > 2 * small.footprint.network(
        small.options.layers, small.images[:1], one_graph=True
    )


def test_onnx_engine_takes_more_memory_than_torch() -> None:
    assert demand_of(engine="onnx", size=1000).peak > 1.5 * demand_of(size=1000).peak


def test_memory_of_sections_is_predicted(
    default_network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sections' memory; bands are small, so that algorithms' buffers do not count."""
    monkeypatch.setattr(bands_module, "_BAND_BYTES", 0)
    monkeypatch.setattr(bands_module, "_BAND_PIXELS", 300)
    layers = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    size = 480, 384
    demand = demand_of(
        size,
        size,
        size=480,
        scales=1,
        content_layers={"conv4_2": 1.0},
        style_layers=dict.fromkeys(layers, 1.0),
    )
    tiled = replace(demand, scales=(replace(demand.scales[0], tile=304),))
    engine, weights = TorchEngine(read_vgg(default_network.path)), loss_weights(demand.options)
    evaluation = Evaluation(engine, tile=304)
    image = torch.rand(1, 3, *size[::-1])
    objective, _ = objective_for(evaluation, weights, image, image.flip(3))
    evaluation.loss_and_gradient(image, objective)
    # Of the features at the cut and their gradient, 32 bytes, 12 are those of the picture's own.
    predicted = (
        tiled.footprint.network(tiled.options.layers, tiled.images, one_graph=False)
        - footprint._BUFFERS
        - 480 * 384 * (32 - 12)
    )
    assert 0.6 * predicted < engine.network.buffers.bytes < predicted


def measured(*flags: str) -> tuple[float, dict[str, Any]]:
    """Bytes at the peak of one run of one scale in a process of its own, and its plan."""
    code = (
        "import sys; from nstrt.plugins.cli.app import run; code = run(sys.argv[1:]); "
        "from spawn import peak_memory; print(peak_memory()); sys.exit(code)"
    )
    command = [sys.executable, "-c", code, "stylize"]
    command += [str(EXAMPLES / "cat.jpg"), str(EXAMPLES / "night.jpg"), "--scales", "1"]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent / "benchmarks")}
    done = subprocess.run(
        [*command, *flags], capture_output=True, text=True, check=True, env=environment
    )
    summary, peak = done.stdout.splitlines()
    return float(peak), json.loads(summary)["plan"]


@pytest.mark.parametrize(
    "flags",
    [
        ("--engine", "torch", "--precision", "fp32", "--size", "512"),
        ("--engine", "onnx", "--size", "384"),
        (
            "--engine",
            "torch",
            "--precision",
            "fp32",
            "--size",
            "576",
            "--max-memory",
            "1.4",
            "--optimizer",
            "adam",
        ),
    ],
    ids=["torch", "onnx", "tiles"],
)
def test_prediction_is_within_a_fifth_of_the_measured_peak(
    flags: tuple[str, ...], tmp_path: Path
) -> None:
    # The network's export, once in an installation's life, takes memory of its own.
    small = tmp_path / "small.png"
    measured(*flags[:2], "--size", "64", "--iterations", "1", "--json", "-o", str(small))
    peak, plan = measured(*flags, "--iterations", "2", "--json", "-o", str(tmp_path / "out.png"))
    assert plan["memory"] == pytest.approx(peak, rel=0.2)
    assert bool(plan["scales"][-1]["tile"]) == ("--max-memory" in flags)
