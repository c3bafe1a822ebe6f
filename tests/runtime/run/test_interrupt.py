"""A run is left between two layers, by another thread, whatever computes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from nstrt.runtime import (
    Finished,
    Interrupted,
    Preview,
    Started,
    Step,
    StyleTransfer,
    StylizeOptions,
)
from nstrt.runtime.engines.evaluation import Evaluation
from nstrt.runtime.engines.loss_targets import objective_for
from nstrt.runtime.engines.onnx_engine import OnnxEngine
from nstrt.runtime.engines.torch_engine import TorchEngine
from nstrt.runtime.loss.objective import LossWeights
from nstrt.runtime.network.tiles import tiles_of
from nstrt.runtime.network.vgg import read_vgg
from nstrt.runtime.ort.session import open_session
from nstrt.runtime.run.run import Run
from nstrt.runtime.system.cancellation import Interrupt

from support import EXAMPLES

if TYPE_CHECKING:
    from support import Network

pytestmark = pytest.mark.slow

CAT, NIGHT = EXAMPLES / "cat.jpg", EXAMPLES / "night.jpg"

ENGINES = ("onnx", "torch")


class Countdown(Interrupt):
    """Asks by itself at the n-th look, so that a test needs no clock."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def check(self) -> None:
        self.looks -= 1
        if self.looks < 0:
            self.request()
        super().check()


def small(engine: str, **given: object) -> StyleTransfer:
    return StyleTransfer(
        StylizeOptions.of(**{"size": 64, "scales": 1, "iterations": 4, "engine": engine, **given})
    )


def mirrored_engine(network: Network, name: str) -> OnnxEngine | TorchEngine:
    vgg = read_vgg(network.path)
    if name == "torch":
        return TorchEngine(vgg)
    return OnnxEngine(vgg, open_session(network.path, provider="cpu"))


@pytest.mark.parametrize("name", ENGINES)
def test_every_layer_checks_the_interrupt(default_network: Network, name: str) -> None:
    engine = mirrored_engine(default_network, name)
    image = torch.rand(1, 3, 48, 64)
    weights = LossWeights(
        content=1, style=1, tv=0, content_layers={"relu4_1": 1.0}, style_layers={"relu5_1": 1.0}
    )
    evaluation = Evaluation(engine)
    objective, _ = objective_for(evaluation, weights, image, image.flip(3))
    expected = evaluation.loss_and_gradient(image.square(), objective)
    # Backwards through thirteen layers in ONNX Runtime's engine, both ways through twelve in
    # torch's, whose second one takes the first along; each is at least one band.
    for looks in range(0, 2 * 12 if name == "torch" else 13, 5):
        engine.interrupt = Countdown(looks)
        with pytest.raises(Interrupted):
            evaluation.loss_and_gradient(image.square(), objective)
    engine.interrupt = Interrupt()
    # What was left in the middle leaves no trace.
    terms, gradient = evaluation.loss_and_gradient(image.square(), objective)
    assert terms == expected[0]
    assert torch.equal(gradient, expected[1])


@pytest.mark.parametrize("name", ENGINES)
def test_tiles_check_the_interrupt_often(default_network: Network, name: str) -> None:
    engine = mirrored_engine(default_network, name)
    image = torch.rand(1, 3, 64, 96)
    weights = LossWeights(
        content=1, style=1, tv=0, content_layers={"relu2_1": 1.0}, style_layers={"relu3_1": 1.0}
    )
    evaluation = Evaluation(engine, tile=48)
    objective, _ = objective_for(evaluation, weights, image, image.flip(3))
    counted = engine.interrupt = Countdown(1 << 30)
    evaluation.loss_and_gradient(image, objective)
    looks = (1 << 30) - counted.looks
    tiles = len(tiles_of(64, 96, 48, weights.layers))
    # In each tile two ways forward, of which ONNX Runtime has one look of its own, and one back;
    # in torch's engine the first of five layers goes along with the second.
    assert tiles > 2
    assert looks >= tiles * (3 * 4 if name == "torch" else 5 + 2)
    for left in range(0, looks, looks // 4):
        engine.interrupt = Countdown(left)
        with pytest.raises(Interrupted):
            evaluation.loss_and_gradient(image, objective)


def test_onnx_runtime_itself_is_ended_in_the_middle(default_network: Network) -> None:
    session = open_session(default_network.path, provider="cpu", threads=1)
    image = torch.rand(1, 3, 512, 512)
    session.buffered_features(image)
    ended = 0
    for _ in range(5):
        interrupt = Interrupt()
        timer = threading.Timer(0.02, interrupt.request)
        timer.start()
        try:
            session.buffered_features(image, interrupt)
        except Interrupted:
            ended += 1
        timer.join()
    # This forward pass takes a large part of a second anywhere.
    assert ended == 5
    assert all(bool(value.isfinite().all()) for value in session.buffered_features(image).values())


@pytest.mark.parametrize("name", ENGINES)
def test_a_cancelled_run_gives_nothing_and_the_next_one_all(name: str) -> None:
    transfer = small(name)
    whole = transfer.stylize(CAT, NIGHT)
    run = transfer.run(CAT, NIGHT)
    assert isinstance(next(event for event in run if isinstance(event, Step)), Step)
    run.cancel()
    with pytest.raises(Interrupted):
        next(iter(run))
    again = transfer.stylize(CAT, NIGHT)
    np.testing.assert_array_equal(again.picture.rgb, whole.picture.rgb)


@pytest.mark.parametrize("end", [Run.cancel, Run.stop], ids=["cancel", "stop"])
def test_a_run_that_is_ended_before_it_begins_raises_interrupted(
    end: Callable[[Run], None],
) -> None:
    run = small("onnx").run(CAT, NIGHT)
    end(run)
    with pytest.raises(Interrupted):
        next(iter(run))


def test_a_run_that_is_stopped_before_its_first_step_takes_one() -> None:
    run = small("onnx").run(CAT, NIGHT)
    assert isinstance(next(iter(run)), Started)
    run.stop()
    made = run.result()
    assert made.stopped
    assert made.steps == 1


@pytest.mark.parametrize("end", [Run.cancel, Run.stop], ids=["cancel", "stop"])
def test_loading_ends_in_the_middle_of_an_export_or_a_measurement(
    end: Callable[[Run], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An empty cache: the first run exports models and measures engines and algorithms.
    monkeypatch.setenv("NSTRT_CACHE", str(tmp_path / "cache"))
    looks: list[str] = []

    class Counting(Interrupt):
        def check(self) -> None:
            looks.append("look")
            super().check()

    whole = small("auto").run(CAT, NIGHT)
    whole._interrupt = Counting()
    assert isinstance(next(iter(whole)), Started)
    # Each part of the loading looks: models, their checks, engines and their steps.
    assert len(looks) > 20
    for wanted in (3, 8):
        monkeypatch.setenv("NSTRT_CACHE", str(tmp_path / f"cache-{wanted}"))
        run = small("auto").run(CAT, NIGHT)
        looks.clear()

        class Ending(Counting):
            def check(self) -> None:
                if len(looks) == wanted:  # noqa: B023
                    end(run)  # noqa: B023
                super().check()

        run._interrupt = Ending()
        with pytest.raises(Interrupted):
            next(iter(run))
        assert len(looks) == wanted + 1
        # Nothing half made is left behind.
        assert not list((tmp_path / f"cache-{wanted}").rglob(".*"))
    assert small("onnx").stylize(CAT, NIGHT).steps == 4


@pytest.mark.parametrize("name", ENGINES)
def test_a_stop_in_the_middle_of_a_step_keeps_the_best_picture(name: str) -> None:
    run = small(name, iterations=1000).run(CAT, NIGHT)
    pictures = []
    for event in run:
        if isinstance(event, Step) and event.step == 6:
            # In the middle of the seventh step, wherever that is.
            threading.Timer(0.01, run.stop).start()
        if isinstance(event, Finished):
            pictures.append(event.result)
    (made,) = pictures
    assert made.stopped
    assert made.steps >= 6
    assert made.painted > 0


def test_the_first_preview_shows_paint_and_comes_early() -> None:
    run = small("onnx", iterations=12).run(CAT, NIGHT, preview_seconds=1000)
    shown = [event for event in run if isinstance(event, Preview)]
    assert [event.step for event in shown] == [5]
    assert shown[0].painted > 0.05
