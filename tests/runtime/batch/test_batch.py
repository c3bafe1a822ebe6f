"""Many pictures in one go: each costs only itself, and none is painted twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nstrt.plugins.cli.app import run
from nstrt.runtime import (
    Batch,
    Job,
    JobDone,
    JobFailed,
    JobProgress,
    JobSkipped,
    JobStarted,
    NstrtError,
    OptionError,
    PictureReadError,
    PictureWriteError,
    Result,
    StyleTransfer,
    StylizeOptions,
    jobs_from,
    read_recipe,
)
from nstrt.runtime import style_transfer as transfer
from nstrt.runtime.batch import job_runner as painter

from support import EXAMPLES

CAT, NIGHT, EMBER = (EXAMPLES / name for name in ("cat.jpg", "night.jpg", "ember.jpg"))
SMALL = {"size": 48, "scales": 1, "iterations": 2, "engine": "onnx", "precision": "fp32"}
FLAGS = ["--size", "48", "--scales", "1", "--iterations", "2", "--engine", "onnx"]

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of a broken photo between two good ones, and a file that is none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "c.png"):
        Image.open(CAT).resize((96, 64)).save(folder / name)
    (folder / "b.jpg").write_bytes(b"\xff\xd8\xff broken")
    (folder / "notes.txt").write_text("none of these")
    return folder


def outcomes(jobs: list[Job], **more: Any) -> list[Any]:
    """The last event of each job."""
    last = {item.number: item.event for item in Batch(jobs, **more)}
    return [last[number] for number in sorted(last)]


def test_a_broken_photo_costs_only_itself(photos: Path, tmp_path: Path) -> None:
    jobs = jobs_from([photos], style=NIGHT, out_dir=tmp_path, **SMALL)
    events = list(Batch(jobs))
    kinds = [(item.number, type(item.event)) for item in events]
    painted = [JobStarted, JobProgress, JobProgress, JobDone]
    assert kinds == [
        *((1, kind) for kind in painted),
        (2, JobFailed),
        *((3, kind) for kind in painted),
    ]
    failed = events[4].event
    assert isinstance(failed, JobFailed)
    assert failed.code == "picture"
    assert "b.jpg" in failed.reason
    assert {item.total for item in events} == {3}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "c.png", "photos"]
    # As a command of its own would have painted it.
    alone = StyleTransfer(StylizeOptions.of(**SMALL)).stylize(photos / "c.png", NIGHT)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "c.png")), alone.to_array(np.uint8))


def test_a_picture_that_was_broken_off_is_gone_on_with(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "SECONDS", 0)
    given = {**SMALL, "iterations": 6}
    jobs = jobs_from([photos / "c.png"], style=NIGHT, out_dir=tmp_path, **given)
    with monkeypatch.context() as patch:

        def full(*given: Any, **more: Any) -> None:
            raise PictureWriteError("The disk is full.")

        patch.setattr(Result, "save", full)
        (failed,) = outcomes(jobs)
        assert isinstance(failed, JobFailed)
    kept = tmp_path / "c.png.checkpoint"
    state = kept.read_bytes()

    told: list[str] = []
    events = [item.event for item in Batch(jobs, notify=told.append)]
    # No step is taken a second time.
    assert [type(event) for event in events] == [JobStarted, JobDone]
    assert not kept.exists()
    assert not [line for line in told if "beginning" in line]
    alone = StyleTransfer(StylizeOptions.of(**given)).stylize(photos / "c.png", NIGHT)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "c.png")), alone.to_array(np.uint8))

    # That of other options is none of this one's.
    (tmp_path / "c.png").unlink()
    kept.write_bytes(state)
    other = jobs_from([photos / "c.png"], style=NIGHT, out_dir=tmp_path, **given, strength=0.9)
    events = [item.event for item in Batch(other, notify=told.append)]
    assert next(event for event in events if isinstance(event, JobProgress)).fraction < 0.3
    assert isinstance(events[-1], JobDone)
    assert [line for line in told if "strength" in line and "beginning" in line]
    assert not kept.exists()


@pytest.mark.parametrize("processes", [1, 2])
def test_stopped_in_the_middle_it_goes_on(photos: Path, tmp_path: Path, processes: int) -> None:
    (photos / "b.jpg").unlink()
    given = {**SMALL, "iterations": 40, "tolerance": 0.0}
    jobs = jobs_from([photos], style=NIGHT, out_dir=tmp_path, **given)
    batch = Batch(jobs, processes=processes)
    for item in batch:
        if isinstance(item.event, JobProgress) and item.event.fraction > 0.05:
            batch.stop()
    left = sorted(path.name for path in tmp_path.glob("*.checkpoint"))
    assert left

    told: list[str] = []
    first: dict[str, float] = {}
    for item in Batch(jobs, processes=processes, notify=told.append):
        assert not isinstance(item.event, JobFailed), item.event
        if isinstance(item.event, JobProgress):
            first.setdefault(item.job.output.name, item.event.fraction)
    assert not [line for line in told if "beginning" in line]
    for name in left:
        # Without any progress, all its steps were done.
        assert first.get(name.removesuffix(".checkpoint"), 1.0) > 1.5 / 40
    assert not list(tmp_path.glob("*.checkpoint"))
    if processes > 1:
        # Processes that measure algorithms side by side may choose others than one alone.
        return
    alone = StyleTransfer(StylizeOptions.of(**given))
    unbroken = alone.stylize(photos / "c.png", NIGHT).to_array(np.uint8)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "c.png")), unbroken)


def test_a_result_with_a_protected_part_is_another(photos: Path, tmp_path: Path) -> None:
    photo = photos / "c.png"
    mask = np.zeros((64, 96, 3), np.uint8)
    mask[:20] = 255
    run_ = StyleTransfer(StylizeOptions.of(**SMALL)).run(photo, NIGHT, protect=mask)
    run_.result().save(tmp_path / "c.png")
    (failed,) = outcomes(jobs_from([photo], style=NIGHT, out_dir=tmp_path, **SMALL))
    assert isinstance(failed, JobFailed)
    assert "it had a protected part" in failed.reason


def test_another_batch_with_the_same_job_was_quicker(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = jobs_from([photos / "c.png"], style=NIGHT, out_dir=tmp_path, **SMALL)
    batch = Batch(jobs)
    for item in batch:
        if isinstance(item.event, JobStarted):
            assert [type(event) for event in outcomes(jobs)] == [JobDone]
            found = (tmp_path / "c.png").read_bytes()
    assert isinstance(item.event, JobSkipped)
    assert (tmp_path / "c.png").read_bytes() == found
    assert not list(tmp_path.glob("*.checkpoint"))


def test_what_it_starts_from_is_not_written_over(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="written over"):
        Batch(
            jobs_from(
                [photos / "c.png"],
                style=NIGHT,
                out_dir=tmp_path,
                **SMALL,
                init=str(tmp_path / "c.png"),
            ),
            force=True,
        )


def test_a_fault_of_nstrt_s_own_is_no_end_either(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = painter.check_writable

    def faulty(path: Path, **given: bool) -> None:
        if path.name == "a.jpg":
            raise ZeroDivisionError("by zero")
        check(path, **given)

    monkeypatch.setattr(painter, "check_writable", faulty)
    first, _, third = outcomes(jobs_from([photos], style=NIGHT, out_dir=tmp_path, **SMALL))
    assert isinstance(first, JobFailed)
    assert first.code == "internal"
    assert "ZeroDivisionError" in first.reason
    assert "faulty" in first.trace
    assert isinstance(third, JobDone)


def test_networks_and_paintings_are_shared(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nstrt.runtime.engines import factory as assembly

    made = []
    begin = assembly.EngineFactory.__init__

    def counted(self: Any, *given: Any, **more: Any) -> None:
        made.append(1)
        begin(self, *given, **more)

    monkeypatch.setattr(assembly.EngineFactory, "__init__", counted)
    read: list[str] = []
    decode = painter.read_picture

    def reading(path: Path) -> Any:
        read.append(path.name)
        return decode(path)

    monkeypatch.setattr(painter, "read_picture", reading)
    jobs = jobs_from([photos], style=NIGHT, out_dir=tmp_path, **SMALL)
    # The third with options of its own.
    other = jobs_from([photos / "c.png"], style=NIGHT, out_dir=tmp_path, **SMALL, strength=0.9)
    assert [type(event) for event in outcomes([jobs[0], *other])] == [JobDone, JobDone]
    assert len(made) == 1
    assert sorted(read) == ["a.jpg", "c.png", "night.jpg"]


def test_what_is_done_is_skipped_and_what_differs_is_told(photos: Path, tmp_path: Path) -> None:
    (photos / "b.jpg").unlink()

    def again(style: Path = NIGHT, force: bool = False, **more: Any) -> list[Any]:
        jobs = jobs_from([photos], style=style, out_dir=tmp_path, **{**SMALL, **more})
        return outcomes(jobs, force=force)

    assert [type(event) for event in again()] == [JobDone, JobDone]
    before = (tmp_path / "a.jpg").read_bytes()
    # What changes no picture is no difference.
    assert [type(event) for event in again(threads=1)] == [JobSkipped, JobSkipped]

    def refused(words: str, **more: Any) -> None:
        for event in again(**more):
            assert isinstance(event, JobFailed)
            assert words in event.reason
            assert "--force" in event.reason

    refused("the painting was another", style=EMBER)
    refused("strength was 0.5 and is 0.7 now", strength=0.7)
    refused("iterations was 2 and is the preset's now", iterations=())
    refused("what it starts from was another", init=str(CAT))
    assert (tmp_path / "a.jpg").read_bytes() == before

    with Image.open(photos / "a.jpg") as photo:
        turned = photo.rotate(180)
    turned.save(photos / "a.jpg")
    first, second = again()
    assert isinstance(first, JobFailed)
    assert "the photo was another" in first.reason
    assert isinstance(second, JobSkipped)
    assert [type(event) for event in again(force=True, strength=0.7)] == [JobDone, JobDone]
    recipe = read_recipe(tmp_path / "a.jpg")
    assert recipe
    assert recipe["options"]["strength"] == 0.7


def test_a_stopped_or_foreign_result_does_not_count(photos: Path, tmp_path: Path) -> None:
    given = {**SMALL, "iterations": 50, "tolerance": 0.0}
    run = StyleTransfer(StylizeOptions.of(**given)).run(photos / "a.jpg", NIGHT)
    for event in run:
        if event.step == 2:
            run.stop()
    run.result().save(tmp_path / "a.jpg")
    shutil.copy(photos / "c.png", tmp_path)
    (photos / "b.jpg").unlink()
    first, second = outcomes(jobs_from([photos], style=NIGHT, out_dir=tmp_path, **given))
    assert isinstance(first, JobFailed)
    assert "stopped after 2 steps" in first.reason
    assert isinstance(second, JobFailed)
    assert "does not say how it was made" in second.reason


def test_stopping_leaves_the_picture_under_way(photos: Path, tmp_path: Path) -> None:
    batch = Batch(jobs_from([photos], style=NIGHT, out_dir=tmp_path, **SMALL))
    for item in batch:
        if item.number == 3 and isinstance(item.event, JobProgress):
            batch.stop()
    assert batch.stopped
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["a.jpg", "c.png.checkpoint", "photos"]


def test_side_by_side_gives_the_same_outcomes(photos: Path, tmp_path: Path) -> None:
    jobs = jobs_from([photos], style=NIGHT, out_dir=tmp_path, **SMALL)
    events = list(Batch(jobs, processes=2))
    last = {item.number: type(item.event) for item in events}
    assert last == {1: JobDone, 2: JobFailed, 3: JobDone}
    assert any(isinstance(item.event, JobProgress) for item in events)
    # The share of the machine is no difference to a single process.
    assert [type(event) for event in outcomes(jobs)] == [JobSkipped, JobFailed, JobSkipped]


def test_a_process_that_dies_costs_its_picture(photos: Path, tmp_path: Path) -> None:
    import psutil

    given = {**SMALL, "iterations": 100_000, "tolerance": 0.0}
    jobs = jobs_from([photos / "a.jpg"], style=NIGHT, out_dir=tmp_path, **given)
    short = jobs_from([photos / "c.png"], style=NIGHT, out_dir=tmp_path, **SMALL)
    reasons = []
    killed = False
    for item in Batch([*jobs, *short], processes=2):
        if item.number == 1 and isinstance(item.event, JobProgress) and not killed:
            killed = True
            for child in psutil.Process().children():
                if item.event.fraction < 1 and _paints(child):
                    child.kill()
        if isinstance(item.event, JobFailed):
            reasons.append(item.event.reason)
    assert killed
    assert 1 <= len(reasons) <= 2
    assert "fewer --jobs" in reasons[0]


def _paints(process: Any) -> bool:
    return any("nstrt.runtime.batch.process_pool" in word for word in process.cmdline())


@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_keeps_what_is_done(photos: Path, tmp_path: Path, processes: int) -> None:
    table = tmp_path / "list.toml"
    table.write_text(
        '[[picture]]\ncontent = "photos/a.jpg"\niterations = 2\n'
        '[[picture]]\ncontent = "photos/c.png"\niterations = 100000\n'
    )
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "nstrt.plugins.cli", "batch", str(table), "--json"),
            *("--style", str(NIGHT), "--out-dir", str(tmp_path / "out"), *FLAGS),
            *("--tolerance", "0", "--jobs", str(processes)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # As a terminal does: the signal reaches all processes.
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "out" / "a.jpg").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    said, complaints = process.communicate(timeout=60)
    assert process.returncode == 130, complaints
    lines = [json.loads(line) for line in said.splitlines()]
    assert [line["outcome"] for line in lines[:-1]] == ["done"]
    assert lines[-1]["left"] == 1
    # And the state of the one under way, if it was under way.
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"a.jpg"} <= left <= {"a.jpg", "c.png.checkpoint"}


def test_the_command_reports_failures_at_the_end(
    photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    arguments = ["batch", str(photos), "--style", str(NIGHT), *FLAGS]
    out = ["--out-dir", str(tmp_path / "out")]
    assert run([*arguments, *out]) == 1
    said = capsys.readouterr()
    assert said.out.startswith("2 painted, 1 failed")
    assert said.err.splitlines()[-1].startswith(f"nstrt: {photos / 'b.jpg'}: ")
    (photos / "b.jpg").unlink()
    assert run([*arguments, *out, "--json"]) == 0
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [line.get("outcome") for line in lines] == ["skipped", "skipped", None]
    assert lines[-1]["skipped"] == 2
    assert said.err == ""
    # One missing painting is one line.
    assert run(["batch", str(photos), "--style", "missing.jpg", *FLAGS, *out, "--force"]) == 1
    assert capsys.readouterr().err.count("There is no picture 'missing.jpg'") == 1


def test_nothing_to_do_takes_no_torch(photos: Path, tmp_path: Path) -> None:
    (photos / "b.jpg").unlink()
    assert all(
        isinstance(event, JobDone)
        for event in outcomes(jobs_from([photos], style=NIGHT, out_dir=tmp_path, **SMALL))
    )
    code = (
        "import sys\n"
        "from nstrt.plugins.cli.app import run\n"
        "assert run(sys.argv[1:]) == 0\n"
        "heavy = {'torch', 'onnxruntime'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    arguments = ["batch", str(photos), "--style", str(NIGHT), "--out-dir", str(tmp_path), *FLAGS]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--precision", "fp32"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "2 done before" in done.stdout


def test_a_folder_is_its_pictures_and_patterns_overlap(photos: Path, tmp_path: Path) -> None:
    sources = [photos, str(photos / "*.jpg"), photos / "c.png"]
    jobs = jobs_from(sources, style=NIGHT, out_dir=tmp_path)
    assert [job.output for job in jobs] == [tmp_path / name for name in ("a.jpg", "b.jpg", "c.png")]
    jobs = jobs_from([photos / "a.jpg"], style=NIGHT, out_dir=tmp_path, suffix=".webp")
    assert jobs[0].output.name == "a.webp"
    # Nothing writes BMP.
    assert jobs_from(["old.bmp"], style=NIGHT, out_dir=tmp_path)[0].output.name == "old.png"


CSV = """\
content, style, output, strength, content-layers, iterations, original_size
a.jpg, , , 0.8, , , yes
b.jpg, ../other.jpg, named.png, , "relu3_1, relu4_2:0.5", "30,20", no
"""
SEMICOLONS = """\
content;style;output;strength;content_layers;--iterations;original-size
a.jpg;;;0.8;;;true

b.jpg;../other.jpg;named.png;;relu3_1, relu4_2:0.5;30,20;0
"""
TOML = """\
preset = "fast"
[[picture]]
content = "a.jpg"
strength = 0.8
original_size = true
preset = "balanced"
[[picture]]
content = "b.jpg"
style = "../other.jpg"
output = "named.png"
content_layers = "relu3_1, relu4_2:0.5"
iterations = [30, 20]
"""


@pytest.mark.parametrize("table", ["list.csv", "semicolons.csv", "list.toml"])
def test_a_list_names_pairs_and_options_of_their_own(table: str, tmp_path: Path) -> None:
    text = {"list.csv": CSV, "semicolons.csv": SEMICOLONS, "list.toml": TOML}[table]
    path = tmp_path / "lists" / table
    path.parent.mkdir()
    # As Excel saves it.
    path.write_text(text, encoding="utf-8-sig" if table.endswith("csv") else "utf-8")
    first, second = jobs_from([path], style=NIGHT, out_dir="out", size=300, strength=0.2)
    assert first.content == path.parent / "a.jpg"
    assert first.style == NIGHT
    assert first.output == Path("out/a.jpg")
    assert first.options == StylizeOptions.of(size=300, strength=0.8, original_size=True)
    assert second.style == path.parent / "../other.jpg"
    assert second.output == Path("out/named.png")
    preset = "fast" if table.endswith("toml") else "balanced"
    layers = {"relu3_1": 1.0, "relu4_2": 0.5}
    assert second.options == StylizeOptions.of(
        preset, size=300, strength=0.2, content_layers=layers, iterations=(30, 20)
    )


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("l.csv", "photo,style\na.jpg,b.jpg\n", "'content' among them"),
        ("l.csv", "content,strenth\na.jpg,0.5\n", "did you mean 'strength'"),
        ("l.csv", "content,strength\na.jpg,0.5\nb.jpg,much\n", "Picture 2"),
        ("l.csv", "content,strength\na.jpg,1.5\n", "at most 1"),
        ("l.csv", "content\na.jpg,0.5\n", "more cells"),
        ("l.csv", "content\n", "lists no pictures"),
        ("l.toml", "picture = 3", "[[picture]]"),
        ("l.toml", "[[picture]", "not TOML"),
        ("l.toml", "[[picture]]\nstyle = 'a.jpg'", "no 'content'"),
        ("l.toml", "[[picture]]\ncontent = 3", "a file's name"),
        ("l.toml", "[[picture]]\ncontent = 'a.jpg'\nsize = 'big'", "whole number"),
    ],
)
def test_a_list_with_a_mistake_says_where(name: str, text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(OptionError) as refused:
        jobs_from([tmp_path / name], style=NIGHT, out_dir=tmp_path)
    assert says in str(refused.value)


def test_what_cannot_be_meant_is_refused_at_once(photos: Path, tmp_path: Path) -> None:
    def refused(*sources: Path | str, **more: Any) -> str:
        given = {"style": NIGHT, "out_dir": tmp_path / "out", **more}
        with pytest.raises(NstrtError) as error:
            Batch(jobs_from(list(sources), **given))
        return str(error.value)

    (photos / "c.jpg").write_bytes(b"another")
    assert "both be painted" in refused(photos, suffix=".png")
    assert "written over" in refused(photos, out_dir=photos)
    assert "written over" in refused(photos / "a.jpg", style=tmp_path / "out" / "a.jpg")
    assert "--style" in refused(photos, style=None)
    assert "choose one of" in refused(photos, suffix=".bmp")
    (tmp_path / "empty").mkdir()
    assert "no pictures in the folder" in refused(tmp_path / "empty")
    assert "like" in refused("nothing-*.jpg")
    with pytest.raises(OptionError, match="nothing to paint"):
        Batch([])
    with pytest.raises(PictureReadError):
        jobs_from(["missing.csv"], style=NIGHT, out_dir=tmp_path)
