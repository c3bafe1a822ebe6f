"""The pure parts of ``make bench``: counting, reading off curves, the page, the plot."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from torch.nn.functional import mse_loss

from nstrt.runtime import StylizeOptions

from support import ROOT

BENCHMARKS = ROOT / "benchmarks"
sys.path.append(str(BENCHMARKS))

import curves  # noqa: E402
import facts  # noqa: E402
import flops  # noqa: E402
import page  # noqa: E402
import plot  # noqa: E402
import same  # noqa: E402
import speed  # noqa: E402
from peers.objective import CONTENT_LAYERS, STYLE_LAYERS, objective  # noqa: E402

SVG = "{http://www.w3.org/2000/svg}"


def test_operations_of_a_tiny_picture_by_hand() -> None:
    # 6 x 4 pixels; after the first pooling 3 x 2.
    first_block = 9 * (3 * 64 + 64 * 64) * 24
    second = 9 * 64 * 128 * 6
    assert flops.step_flops(6, 4, ["relu1_1"]) == 2 * 2 * 9 * 3 * 64 * 24
    assert flops.step_flops(6, 4, ["relu2_1", "relu1_1"]) == 2 * 2 * (first_block + second)


def test_operations_halve_sides_rounding_down_and_know_the_deepest_layer() -> None:
    names = [name for name, *_ in flops.convolutions("relu5_1")]
    assert len(names) == 13
    assert names[-1] == "conv5_1"
    assert flops.step_flops(7, 5, ["relu2_1"]) - flops.step_flops(7, 5, ["relu1_2"]) == (
        2 * 2 * 9 * 64 * 128 * 3 * 2
    )
    assert [name for name, *_ in flops.convolutions("pool3")][-1] == "conv3_4"
    assert flops.step_flops(512, 512, page.LAYERS) // 10**9 == 378


def test_the_floor_is_operations_over_the_rate() -> None:
    assert flops.floor_seconds(378_000_000_000, 126.0) == pytest.approx(3.0)


def test_time_to_reach_a_loss() -> None:
    curve = [(1.0, 90.0), (2.0, 40.0), (3.0, 45.0), (4.0, 10.0)]
    assert curves.time_to_reach(curve, 40.0) == 2.0
    assert curves.time_to_reach(curve, 39.9) == 4.0
    assert curves.time_to_reach(curve, 9.0) is None


def test_a_step_s_loss_belongs_to_the_picture_before_it() -> None:
    steps = [{"seconds": 3.0, "loss": 9.0}, {"seconds": 5.0, "loss": 7.0}]
    assert curves.shifted(1.0, steps, 4.0) == [(1.0, 9.0), (3.0, 7.0), (5.0, 4.0)]
    assert curves.timed([9.0, 7.0, 4.0], 1.0, 2.0) == [(1.0, 9.0), (3.0, 7.0), (5.0, 4.0)]


def test_seconds_per_step_leave_the_first_out() -> None:
    assert curves.seconds_per_step([5.0, 7.0, 8.0]) == [2.0, 1.0]
    assert curves.ratios([1.0, 3.0], [2.0, 4.0]) == [0.5, 0.75]


def test_the_objective_is_pastiche_s_own() -> None:
    """pastiche's own method on the same features, which no network needs to give."""
    module = pytest.importorskip("pastiche.pastiche")
    generator = torch.Generator().manual_seed(1)
    channels = {name: round(math.sqrt(10 / weight)) for name, weight in STYLE_LAYERS.items()}
    channels |= dict.fromkeys(CONTENT_LAYERS, 512)

    def features(side: int) -> dict[str, torch.Tensor]:
        return {
            name: 100 * torch.rand(1, count, side, side + 1, generator=generator)
            for name, count in channels.items()
        }

    content, style, image = features(6), features(7), features(6)

    def theirs(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {f"block{name[4]}_relu{name[6]}": tensor for name, tensor in found.items()}

    class Network:
        def forward(self, picture: Any, layers: Any) -> dict[str, torch.Tensor]:
            return theirs(image)

    artist = object.__new__(module.PasticheArtist)
    artist.vgg19, artist.pastiche = Network(), torch.zeros(1, 3, 8, 8)
    artist.content_layers = module.DEFAULT_CONTENT_LAYERS
    artist.style_layers = module.DEFAULT_STYLE_LAYERS
    artist.content_targets, artist.style_targetss = theirs(content), [theirs(style)]
    artist.content_layer_weights = artist.style_layer_weights = None
    artist.content_weight, artist.style_weights, artist.tv_weight = 1.0, [], 0.0

    options = StylizeOptions.of(**objective())
    assert (options.relative, options.gram_mean, options.tv_weight) == (False, True, 0)

    def gram(x: torch.Tensor) -> torch.Tensor:
        flat = x[0].flatten(1)
        return flat @ flat.T / flat.shape[1]

    ours = options.effective_content_weight * sum(
        weight * mse_loss(image[name], content[name]) for name, weight in options.content_layers
    ) + options.style_weight * sum(
        weight * mse_loss(gram(image[name]), gram(style[name]))
        for name, weight in options.style_layers
    )
    assert float(ours) == pytest.approx(artist._calc_loss().item(), rel=1e-5)


def test_a_size_that_is_kept_is_found() -> None:
    assert same.fixed_point((10, 10), lambda size: (min(size[0] + 1, 12), 9)) == (12, 9)
    # Goes round in circles from where it starts: its neighbour is kept.
    swap = {(10, 10): (11, 10), (11, 10): (10, 10)}
    assert same.fixed_point((10, 10), lambda size: swap.get(size, size)) == (10, 9)


def test_options_of_a_variant() -> None:
    found = speed.Entry.parse("engine=torch,iterations=60,40,25,history=30,clamp=false")
    assert found.options == {
        "engine": "torch",
        "iterations": [60, 40, 25],
        "history": 30,
        "clamp": False,
    }
    assert speed.Entry.parse("auto") == speed.Entry("nstrt", {})


def test_features_of_a_processor_keep_their_order() -> None:
    assert facts.matters({"fma", "sse", "avx512f", "avx2"}) == ["avx2", "fma", "avx512f"]


def sample() -> dict[str, Any]:
    def run(pace: float, peak: float, loss: float) -> dict[str, Any]:
        return {"seconds": [pace] * 3, "start": 2.0, "peak": peak, "first_loss": loss}

    ours = run(1.0, 800.0, 500.0) | {"engine": "onnx", "precision": "fp32"}
    step = {
        "date": "2026-01-02",
        "load": 0.5,
        "steps": 4,
        "history": 100,
        "rates": [100.0, 120.0, 110.0],
        "runs": {"nstrt": [ours, ours], "pastiche": [run(2.0, 1600.0, 500.0)] * 2},
    }
    reach = {
        "goal": 100.0,
        "curve": [(3.0, 300.0), (4.0, 90.0)],
        "loss": 90.0,
        "judged": 90.001,
        "steps": 12,
        "scales": [[256, 170, 10], [512, 341, 200]],
        "peak": 700.0,
    }
    theirs = {
        "stored": True,
        "seconds": 20.0,
        "loss": 100.0,
        "clamped_loss": 110.0,
        "curve": [(2.0, 500.0), (20.0, 100.0)],
        "ready": 2.0,
        "pace": 0.09,
    }
    target = {"date": "2026-01-02", "load": None, "steps": 200}
    target |= {"pastiche": [theirs], "ours": {"nstrt": [reach]}}
    section = {
        "content": "cat.jpg",
        "style": "night.jpg",
        "width": 512,
        "height": 341,
        "style_width": 482,
        "style_height": 362,
        "digest": "0",
        "step": step,
        "target": target,
    }
    return {
        "format": 1,
        "machine": {"processor": "one & only"},
        "versions": {"python": "3.11"},
        "sizes": {"512": section},
    }


def test_the_page_says_what_was_measured() -> None:
    text = page.text(sample())
    assert "| nstrt / pastiche | 0.50 | 0.50, 0.50 | 0.50 |" in text
    assert "| nstrt | 4.00 | 0.200 | 90.00 | 90.00 | 10 + 2 | 700 |" in text
    assert "losses are stored ones" in text
    assert "nstrt reached pastiche's loss by pastiche's own formula" in text
    share = 1.0 / flops.floor_seconds(flops.step_flops(512, 341, page.LAYERS), 110.0)
    assert f"| {share:.2f} |" in text


def test_a_loss_that_was_not_reached_is_called_so() -> None:
    results = sample()
    run = results["sizes"]["512"]["target"]["ours"]["nstrt"][0]
    run["curve"], run["loss"], run["judged"] = [(3.0, 300.0)], 101.0, 105.0
    text = page.text(results)
    assert "| nstrt | not reached |" in text
    assert "did not reach pastiche's loss" in text
    assert "more than rounding" in text


def test_a_loss_that_rises_at_the_end_does_not_make_a_peer_slower() -> None:
    results = sample()
    run = results["sizes"]["512"]["target"]["pastiche"][0]
    run["curve"] = [(2.0, 500.0), (8.0, 80.0), (20.0, 100.0)]
    text = page.text(results)
    assert "| nstrt | 4.00 | 0.500 |" in text
    assert "80.00, after 8.00 s" in text


def test_a_disturbed_run_is_called_so() -> None:
    results = sample()
    runs = results["sizes"]["512"]["step"]["runs"]
    assert "Something else ran" not in page.text(results)
    runs["pastiche"][1]["others"] = 0.8
    assert "at worst: pastiche 0.8." in page.text(results)


def test_page_and_plots_are_written(tmp_path: Path) -> None:
    written = page.write(sample(), tmp_path)
    assert [path.name for path in written] == ["bench-512.svg", "benchmarks.md"]


def test_the_plot_is_well_formed_and_inside_its_frame() -> None:
    drawn = page.plot_of("512", sample()["sizes"]["512"])
    assert drawn is not None
    root = ElementTree.fromstring(drawn)
    lines = root.findall(f"{SVG}polyline")
    assert len(lines) == 2
    for line in lines:
        for point in line.attrib["points"].split():
            x, y = (float(number) for number in point.split(","))
            assert plot.LEFT <= x <= plot.WIDTH - plot.RIGHT
            assert plot.TOP <= y <= plot.HEIGHT - plot.BOTTOM
    assert "nstrt, full size" in drawn


def test_words_in_a_plot_are_escaped() -> None:
    line = plot.Line(name="a < b & c", points=[(1, 1), (2, 0), (3, math.inf), (4, 8)])
    root = ElementTree.fromstring(plot.draw([line], title="<t>", x="x", y="y"))
    assert len(root.find(f"{SVG}polyline").attrib["points"].split()) == 2  # type: ignore[union-attr]


@pytest.mark.parametrize("most", [1.3, 1.7, 3, 40, 1e6])
def test_there_are_ticks_enough(most: float) -> None:
    found = plot.ticks(1, most)
    assert 3 <= len(found) <= 12
    assert all(1 <= value <= most for value in found)


def test_results_of_another_machine_are_not_mixed_in() -> None:
    old, new = sample(), sample()
    del new["sizes"]["512"]["target"]
    assert "target" in speed.merged(new, old)["sizes"]["512"]
    new["machine"] = {"processor": "another"}
    assert "target" not in speed.merged(new, old)["sizes"]["512"]
    assert speed.merged(new, None) == new
