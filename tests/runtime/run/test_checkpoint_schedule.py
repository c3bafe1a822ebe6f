"""A run that is broken off anywhere and gone on with ends with the pixels of the unbroken one."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nstrt.runtime import (
    Finished,
    ModelStore,
    OptionError,
    Plan,
    Run,
    ScaleDone,
    Started,
    Step,
    StyleTransfer,
    StylizeOptions,
)
from nstrt.runtime.arrays import PlainArrays
from nstrt.runtime.errors import CheckpointError
from nstrt.runtime.network.receptive_field import FULL_CORE
from nstrt.runtime.network.tiles import Tile
from nstrt.runtime.optim.state import State
from nstrt.runtime.run import checkpoint_schedule as checkpoints_module
from nstrt.runtime.run.checkpoint_file import read_checkpoint
from nstrt.runtime.run.checkpoint_schedule import Checkpoints
from nstrt.runtime.system.cancellation import Interrupt

from support import EXAMPLES
from support.command_line import run_nstrt, start_nstrt

pytestmark = pytest.mark.slow

FOLDER = Path(mkdtemp(prefix="nstrt-test-"))
CAT, NIGHT = FOLDER / "cat.png", FOLDER / "night.png"

SMALL: dict[str, Any] = {
    "size": 48,
    "scales": 2,
    "iterations": (4, 4),
    "tolerance": 0.0,
    "precision": "fp32",
    "content_layers": "relu2_1",
    "style_layers": "relu1_1,relu2_1",
}
"""A few layers are enough: what is gone on with is the same for all."""

ROUGH = {"init": "noise", "tv_weight": 0.0, "content_weight": 0.0}


@pytest.fixture(scope="module", autouse=True)
def pictures() -> Iterator[None]:
    """Small ones, that are quickly read."""
    for path in (CAT, NIGHT):
        with Image.open(EXAMPLES / f"{path.stem}.jpg") as image:
            image.resize((72, 48)).save(path)
    yield
    shutil.rmtree(FOLDER)


def transfer(**given: Any) -> StyleTransfer:
    return StyleTransfer(StylizeOptions.of(**{"engine": "torch", **SMALL, **given}))


def header(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        found: dict[str, Any] = json.loads(archive.read("checkpoint.json"))
    return found


def each_state(work: StyleTransfer, folder: Path) -> Iterator[Path]:
    """The checkpoint after each step and scale of a run, each in a file of its own."""
    file = folder / "run.checkpoint"
    for number, event in enumerate(work.run(CAT, NIGHT, checkpoint=file, checkpoint_seconds=0)):
        if isinstance(event, (Step, ScaleDone)):
            yield Path(shutil.copy(file, folder / f"{number}.checkpoint"))


def gone_on(work: StyleTransfer, checkpoint: Path) -> NDArray[np.float32]:
    return work.run(CAT, NIGHT, checkpoint=checkpoint, resume=True).result().to_array()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[NDArray[np.float32], Path]:
    """A small run's pixels, and a checkpoint of it after its third step."""
    whole = transfer().stylize(CAT, NIGHT).to_array()
    states = list(each_state(transfer(), tmp_path_factory.mktemp("small")))
    return whole, states[2]


@pytest.mark.parametrize("engine", ["torch", "onnx", "graph"])
@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_resuming_from_any_step_gives_the_same_picture(
    optimizer: str, engine: str, tmp_path: Path
) -> None:
    work = transfer(optimizer=optimizer, engine=engine)
    whole = work.stylize(CAT, NIGHT).to_array()
    states = list(each_state(work, tmp_path))
    assert len(states) == 10
    for path in states:
        assert np.array_equal(gone_on(work, path), whole), path.name


@pytest.mark.parametrize(
    "more", [{"average": False, "keep": "last"}, {"history": 2}, {"style_loss": "w2"}]
)
def test_resuming_gives_the_same_picture_for_other_options(
    more: dict[str, Any], tmp_path: Path
) -> None:
    work = transfer(**more, optimizer="lbfgs" if "history" in more else "adam")
    whole = work.stylize(CAT, NIGHT).to_array()
    for path in list(each_state(work, tmp_path))[2:8:2]:
        assert np.array_equal(gone_on(work, path), whole), path.name


def test_rejected_steps_are_part_of_the_state(tmp_path: Path) -> None:
    work = transfer(**ROUGH, iterations=(14, 3), learning_rate=0.5)
    whole = work.stylize(CAT, NIGHT).to_array()
    states = list(each_state(work, tmp_path))
    taken_back = [
        path
        for path in states
        if (header(path)["state"]["optimizer"]["at"] or {"shortened": 0})["shortened"]
    ]
    assert taken_back
    for path in taken_back:
        assert np.array_equal(gone_on(work, path), whole), path.name


def test_a_stalled_scale_stays_ended_after_resuming(tmp_path: Path) -> None:
    work = transfer(iterations=(30, 2), tolerance=0.9)
    made = work.stylize(CAT, NIGHT)
    assert made.steps < 32
    for path in list(each_state(work, tmp_path))[-6:]:
        run = work.run(CAT, NIGHT, checkpoint=path, resume=True)
        again = run.result()
        assert again.steps == made.steps
        assert np.array_equal(again.to_array(), made.to_array())


def test_resuming_keeps_the_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nstrt.runtime.planning.planner import Planner

    prepare = Planner.load_and_plan

    def tiled(self: Planner, *sizes: Any, **masks: Any) -> Any:
        plan, engine = prepare(self, *sizes, **masks)
        scales = tuple(replace(scale, tile=32) for scale in plan.scales)
        return replace(plan, scales=scales), engine

    monkeypatch.setattr(Planner, "load_and_plan", tiled)
    work = transfer(iterations=(2, 2))
    whole = work.stylize(CAT, NIGHT).to_array()
    states = list(each_state(work, tmp_path))
    monkeypatch.setattr(Planner, "load_and_plan", prepare)
    assert np.array_equal(gone_on(work, states[1]), whole)
    assert not np.array_equal(work.stylize(CAT, NIGHT).to_array(), whole)


def test_identity_of_a_run_includes_its_masks(tmp_path: Path) -> None:
    right, left = np.zeros((2, 48, 72, 3), np.float32)
    right[:, 36:] = left[:, :20] = 1
    work = transfer(style_blend=(2.0, 1.0))

    def run(mask: NDArray[np.float32], painting: Path, protect: Any, **more: Any) -> Run:
        regions = [(mask, painting)]
        return work.run(CAT, [NIGHT, CAT], regions=regions, protect=protect, **more)

    file = tmp_path / "run.checkpoint"
    for event in run(right, NIGHT, left, checkpoint=file, checkpoint_seconds=0):
        if isinstance(event, Step) and event.step == 6:
            state = Path(shutil.copy(file, tmp_path / "sixth.checkpoint"))
    assert isinstance(event, Finished)
    again = run(right, NIGHT, left, checkpoint=state, resume=True).result()
    assert np.array_equal(again.to_array(), event.result.to_array())
    for other, words in (
        ((left, NIGHT, left), "mask of region 1"),
        ((right, CAT, left), "painting of region 1"),
        ((right, NIGHT, right), "mask that protects"),
    ):
        with pytest.raises(CheckpointError, match=words):
            run(*other, checkpoint=state, resume=True).result()


def test_algorithms_are_chosen_for_all_paintings_of_all_scales() -> None:
    asked = set()

    class Engine:
        supports_sections = True

        def kernels(self, tile: Tile) -> dict[str, str]:
            assert tile.core == FULL_CORE
            asked.add(tile.size)
            return {}

    planner = transfer()._planner
    plan, _ = planner.load_and_plan((72, 48), (72, 48), (30, 90))
    planner.choose_algorithms(plan, Engine())  # type: ignore[arg-type]
    border = planner.options.spec.border
    sizes = {size for scale in plan.scales for size in ((scale.width, scale.height), *scale.styles)}
    assert len(sizes) >= 4
    assert asked == {(height + 2 * border, width + 2 * border) for width, height in sizes}


def test_checkpoint_holds_the_plan_and_no_pickle(
    small: tuple[NDArray[np.float32], Path],
) -> None:
    found = read_checkpoint(small[1])
    assert (found.step, found.iteration, found.scale) == (3, 3, 0)
    plan = transfer().plan((72, 48), (72, 48))
    assert isinstance(found.plan, Plan)
    assert found.plan.scales == plan.scales
    assert found.plan.kernels == plan.kernels
    assert Plan.from_dict(json.loads(json.dumps(plan.as_dict()))) == plan
    assert found.algorithms
    with zipfile.ZipFile(small[1]) as archive:
        for name in archive.namelist():
            if name.endswith(".npy"):
                values = np.load(archive.open(name), allow_pickle=False)
                assert values.dtype == np.float32


def test_the_algorithms_are_those_of_the_first_part(
    small: tuple[NDArray[np.float32], Path], own_cache: Path
) -> None:
    """Whatever is measured, or forgotten, on the machine meanwhile."""
    remembered = own_cache / "kernels.json"
    before = remembered.read_text()
    upset = {
        key: {name: 1 / value for name, value in seconds.items()}
        for key, seconds in json.loads(before).items()
    }
    try:
        remembered.write_text(json.dumps(upset))
        assert not np.array_equal(transfer().stylize(CAT, NIGHT).to_array(), small[0])
        assert np.array_equal(gone_on(transfer(), small[1]), small[0])
    finally:
        remembered.write_text(before)


def test_arrays_of_a_state_are_contiguous(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are restored so: another order in memory could round another way."""
    import torch

    def check(tree: Any) -> None:
        if isinstance(tree, dict):
            tree = list(tree.values())
        if isinstance(tree, (list, tuple)):
            for value in tree:
                check(value)
        elif isinstance(tree, torch.Tensor):
            assert tree.is_contiguous()

    kept: list[State] = []
    monkeypatch.setattr(
        Checkpoints, "save", lambda _, state, seconds: (kept.append(state), check(state))
    )
    for optimizer in ("lbfgs", "adam"):
        work = transfer(optimizer=optimizer, iterations=(3, 3))
        work.run(CAT, NIGHT, checkpoint=tmp_path / "c", checkpoint_seconds=0).result()
    assert len(kept) == 2 * (2 * 4)


def test_a_stopped_run_resumes(small: tuple[NDArray[np.float32], Path], tmp_path: Path) -> None:
    file, seconds = tmp_path / "c", 0.0
    for _ in range(5):
        # The last one has nothing to do but to see whether the last step was a good one.
        run = transfer().run(CAT, NIGHT, checkpoint=file, resume=True)
        steps = 0
        for event in run:
            steps += isinstance(event, Step)
            # The time of the parts adds up.
            assert event.seconds >= seconds
            if isinstance(event, Step) and steps == 2:
                run.stop()
        assert run.result().seconds > seconds
        seconds = run.result().seconds - 0.01
        run.remove_checkpoint()
        assert file.exists() == run.result().stopped
    assert not run.result().stopped
    assert np.array_equal(run.result().to_array(), small[0])


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("checks", [0, 3, 7, 9])
def test_a_run_stopped_as_a_scale_begins_resumes(
    optimizer: str, checks: int, tmp_path: Path
) -> None:
    """Its targets are computed then, and the first loss, before there is a step."""
    work = transfer(optimizer=optimizer)
    whole = work.stylize(CAT, NIGHT).to_array()
    run = work.run(CAT, NIGHT, checkpoint=tmp_path / "c", checkpoint_seconds=0)

    class Stopping(Interrupt):
        left: int | None = None

        def check(self) -> None:
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    run.stop()
            super().check()

    run._interrupt = Stopping()
    for event in run:
        if isinstance(event, ScaleDone) and event.step == 4:
            run._interrupt.left = checks
    assert run.result().steps in (4, 5)
    assert np.array_equal(gone_on(work, tmp_path / "c"), whole)


def test_without_a_checkpoint_it_starts_from_the_beginning(
    small: tuple[NDArray[np.float32], Path], tmp_path: Path
) -> None:
    run = transfer().run(CAT, NIGHT, checkpoint=tmp_path / "c", resume=True)
    events = list(run)
    assert isinstance(events[0], Started)
    assert events[0].step == 0
    assert np.array_equal(run.result().to_array(), small[0])
    with pytest.raises(OptionError, match="checkpoint"):
        transfer().run(CAT, NIGHT, resume=True)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"size": 64}, "size=48"),
        ({"optimizer": "adam"}, "optimizer='lbfgs'"),
        ({"seed": 3, "gram_mean": False}, "gram_mean=True and seed=0"),
        ({"iterations": 4}, "iterations='4,4'"),
        ({"style_layers": "relu2_1"}, "style_layers='relu1_1:1,relu2_1:1'"),
    ],
)
def test_other_options_are_refused_by_name(
    given: dict[str, Any], words: str, small: tuple[NDArray[np.float32], Path]
) -> None:
    with pytest.raises(CheckpointError, match=words):
        gone_on(transfer(**given), small[1])


def test_other_pictures_are_refused(small: tuple[NDArray[np.float32], Path]) -> None:
    for content, style, words in (
        (NIGHT, NIGHT, "another photo"),
        (CAT, CAT, "another painting"),
    ):
        run = transfer().run(content, style, checkpoint=small[1], resume=True)
        with pytest.raises(CheckpointError, match=words):
            run.result()


def test_another_machine_or_other_software_is_refused(
    small: tuple[NDArray[np.float32], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nstrt.runtime.planning import planner

    with monkeypatch.context() as patch:
        patch.setattr(planner, "device_name", lambda _: "an abacus")
        with pytest.raises(CheckpointError, match="not to be had here"):
            gone_on(transfer(), small[1])
    versions = checkpoints_module.deciding_versions("torch") | {"torch": "0"}
    monkeypatch.setattr(checkpoints_module, "deciding_versions", lambda _: versions)
    with pytest.raises(CheckpointError, match="torch 0"):
        gone_on(transfer(), small[1])


def test_damaged_files_are_refused(small: tuple[NDArray[np.float32], Path], tmp_path: Path) -> None:
    content = small[1].read_bytes()
    source = random.Random(1)
    damaged = [b"", b"nonsense", CAT.read_bytes(), content[:100], content[: len(content) // 2]]
    for _ in range(20):
        changed = bytearray(content)
        changed[source.randrange(len(content))] ^= 1 << source.randrange(8)
        damaged.append(bytes(changed))
    before = read_checkpoint(small[1]).state(PlainArrays())
    refused = 0
    for number, changed in enumerate(damaged):
        path = tmp_path / f"{number}"
        path.write_bytes(changed)
        try:
            found = read_checkpoint(path).state(PlainArrays())
        except CheckpointError:
            refused += 1
        else:
            # A bit that says nothing, as a date in the archive.
            assert np.array_equal(found["image"], before["image"])
    assert refused > len(damaged) / 2


def test_a_full_disk_ends_the_checkpoints_and_not_the_run(
    small: tuple[NDArray[np.float32], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints_module, "write_checkpoint", full)
    said: list[str] = []
    work = StyleTransfer(StylizeOptions.of(engine="torch", **SMALL), notify=said.append)
    run = work.run(CAT, NIGHT, checkpoint=tmp_path / "c", checkpoint_seconds=0)
    assert np.array_equal(run.result().to_array(), small[0])
    assert len([line for line in said if "No space left" in line]) == 1
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_take_a_small_share_of_the_time(tmp_path: Path) -> None:
    """One that took a second is not followed by another for fifty."""
    now = [0.0]
    made = Checkpoints(tmp_path / "c", resume=False, seconds=30.0, notify=lambda _: None)

    class Clock:
        perf_counter = staticmethod(lambda: now[0])

    def writing(*_: Any, **__: Any) -> None:
        now[0] += 1.0

    class Engine:
        algorithms: dict[str, str] = {}  # noqa: RUF012

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints_module, "time", Clock)
        patch.setattr(checkpoints_module, "write_checkpoint", writing)
        made.begin(SimpleNamespace(engine="torch"), Engine())  # type: ignore[arg-type]
        now[0] = 29.0
        assert not made.due(scale_done=False)
        assert made.due(scale_done=True)
        now[0] = 30.0
        assert made.due(scale_done=False)
        made.save({}, seconds=1.0)
        now[0] += 49.0
        assert not made.due(scale_done=False)
        assert not made.due(scale_done=True)
        now[0] += 1.0
        assert made.due(scale_done=False)


COMMAND = [
    *("stylize", CAT, NIGHT),
    *("--engine", "graph", "--size", "48", "--scales", "2", "--iterations", "60,40"),
    *("--tolerance", "0", "--content-layers", "relu2_1", "--style-layers", "relu1_1,relu2_1"),
    *("--checkpoint-seconds", "0"),
]


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_run_killed_ten_times_gives_the_same_picture(
    tmp_path: Path, own_cache: Path, models: ModelStore
) -> None:
    whole, broken = tmp_path / "whole.png", tmp_path / "broken.png"
    done = run_nstrt(*COMMAND, "-o", whole, "-q", cache=own_cache)
    assert done.returncode == 0, done.stderr
    assert not whole.with_name("whole.png.checkpoint").exists()
    checkpoint = tmp_path / "broken.png.checkpoint"
    source = random.Random(11)
    kills = 0
    while kills < 10:
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        arguments = [*COMMAND, "-o", broken, "--resume", "-q"]
        process = start_nstrt(
            *arguments, cache=own_cache, start_new_session=True, stdout=None, stderr=None
        )
        while process.poll() is None:
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
                break
            time.sleep(0.002)
        time.sleep(source.uniform(0, 0.06))
        if process.poll() is not None:
            break
        # One of them is stopped by Ctrl-C instead, and leaves its picture so far.
        number = signal.SIGINT if kills == 4 else signal.SIGKILL
        os.killpg(process.pid, number)
        assert process.wait(60) == (130 if kills == 4 else -number)
        assert broken.exists() == (kills >= 4)
        kills += 1
    done = run_nstrt(*COMMAND, "-o", broken, "--resume", "-q", cache=own_cache)
    assert done.returncode == 0, done.stderr
    assert kills == 10
    assert np.array_equal(pixels(broken), pixels(whole))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.png", "whole.png"]


DYING = """
import os, signal, sys
import numpy as np
from nstrt.runtime import Step, StyleTransfer, StylizeOptions

def dying(file, values, allow_pickle):
    file.write(values.tobytes()[:100])
    os.kill(os.getpid(), signal.SIGKILL)

photo, painting, path, options = sys.argv[1:]
work = StyleTransfer(StylizeOptions.of(**eval(options)))
for event in work.run(photo, painting, checkpoint=path, checkpoint_seconds=0):
    if isinstance(event, Step) and event.step == 3:
        np.lib.format.write_array = dying
"""


def test_a_run_killed_while_writing_keeps_the_previous_checkpoint(
    small: tuple[NDArray[np.float32], Path], tmp_path: Path, own_cache: Path
) -> None:
    path = tmp_path / "c"
    options = repr({"engine": "torch", **SMALL})
    done = subprocess.run(
        [sys.executable, "-c", DYING, str(CAT), str(NIGHT), str(path), options],
        env={**os.environ, "NSTRT_CACHE": str(own_cache)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    assert read_checkpoint(path).step == 3
    assert np.array_equal(gone_on(transfer(), path), small[0])
    # The next run clears what the killed one left.
    assert list(tmp_path.iterdir()) == [path]
