"""Batches: outcomes, stopping and resuming, refused outputs, and the command."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nstrt.runtime import (
    Batch,
    JobDone,
    JobFailed,
    JobProgress,
    JobStarted,
    OptionError,
    StyleTransfer,
    StylizeOptions,
    jobs_from,
)

from support import NIGHT, Capture
from support.batches import FLAGS, OPTIONS, last_events
from support.command_line import nstrt, run_without, start_nstrt, wait_until

pytestmark = pytest.mark.slow


def test_a_broken_photo_fails_only_its_job(photos: Path, tmp_path: Path) -> None:
    jobs = jobs_from([photos], style=NIGHT, out_dir=tmp_path, **OPTIONS)
    events = list(Batch(jobs))
    kinds = [(item.number, type(item.event)) for item in events]
    done = [JobStarted, JobProgress, JobProgress, JobDone]
    assert kinds == [
        *((1, kind) for kind in done),
        (2, JobFailed),
        *((3, kind) for kind in done),
    ]
    failed = events[4].event
    assert isinstance(failed, JobFailed)
    assert failed.code == "picture"
    assert "b.jpg" in failed.reason
    assert {item.total for item in events} == {3}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "c.png", "photos"]
    # The pixels are those of a single run.
    single = StyleTransfer(StylizeOptions.of(**OPTIONS)).stylize(photos / "c.png", NIGHT)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "c.png")), single.to_array(np.uint8))


def test_stop_leaves_the_running_job_unfinished(photos: Path, tmp_path: Path) -> None:
    batch = Batch(jobs_from([photos], style=NIGHT, out_dir=tmp_path, **OPTIONS))
    for item in batch:
        if item.number == 3 and isinstance(item.event, JobProgress):
            batch.stop()
    assert batch.stopped
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["a.jpg", "c.png.checkpoint", "photos"]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_stopped_batch_resumes(photos: Path, tmp_path: Path, processes: int) -> None:
    (photos / "b.jpg").unlink()
    options = {**OPTIONS, "iterations": 40, "tolerance": 0.0}
    jobs = jobs_from([photos], style=NIGHT, out_dir=tmp_path, **options)
    batch = Batch(jobs, processes=processes)
    for item in batch:
        if isinstance(item.event, JobProgress) and item.event.fraction > 0.05:
            batch.stop()
    checkpoints = sorted(path.name for path in tmp_path.glob("*.checkpoint"))
    assert checkpoints

    lines: list[str] = []
    first: dict[str, float] = {}
    for item in Batch(jobs, processes=processes, notify=lines.append):
        assert not isinstance(item.event, JobFailed), item.event
        if isinstance(item.event, JobProgress):
            first.setdefault(item.job.output.name, item.event.fraction)
    assert not [line for line in lines if "beginning" in line]
    for name in checkpoints:
        # A job without any progress event had all its steps done.
        assert first.get(name.removesuffix(".checkpoint"), 1.0) > 1.5 / 40
    assert not list(tmp_path.glob("*.checkpoint"))
    if processes > 1:
        # Processes that measure algorithms in parallel may choose others than a single one.
        return
    transfer = StyleTransfer(StylizeOptions.of(**options))
    uninterrupted = transfer.stylize(photos / "c.png", NIGHT).to_array(np.uint8)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "c.png")), uninterrupted)


def test_outputs_that_collide_are_refused(photos: Path, tmp_path: Path) -> None:
    def error(source: Path, **changes: Any) -> str:
        arguments = {"style": NIGHT, "out_dir": tmp_path / "out", **changes}
        with pytest.raises(OptionError) as raised:
            Batch(jobs_from([source], **arguments))
        return str(raised.value)

    table = tmp_path / "list.csv"
    table.write_text("content,output\nphotos/a.jpg,x.png\nphotos/c.png,x.png\n")
    assert "both be painted" in error(table)
    assert "written over" in error(photos, out_dir=photos)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.jpg").write_bytes(b"a painting")
    assert "written over" in error(photos / "a.jpg", style=tmp_path / "out" / "a.jpg")
    with pytest.raises(OptionError, match="nothing to paint"):
        Batch([])


def test_the_start_picture_is_not_overwritten(photos: Path, tmp_path: Path) -> None:
    init = str(tmp_path / "c.png")
    jobs = jobs_from([photos / "c.png"], style=NIGHT, out_dir=tmp_path, **OPTIONS, init=init)
    with pytest.raises(OptionError, match="written over"):
        Batch(jobs, force=True)


@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_keeps_finished_results(photos: Path, tmp_path: Path, processes: int) -> None:
    table = tmp_path / "list.toml"
    table.write_text(
        '[[picture]]\ncontent = "photos/a.jpg"\niterations = 2\n'
        '[[picture]]\ncontent = "photos/c.png"\niterations = 100000\n'
    )
    process = start_nstrt(
        *("batch", table, "--json", "--style", NIGHT, "--out-dir", tmp_path / "out", *FLAGS),
        *("--tolerance", "0", "--jobs", str(processes)),
        # A terminal signals a whole process group, so the command gets its own.
        start_new_session=True,
    )
    wait_until((tmp_path / "out" / "a.jpg").exists, process, seconds=120)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    lines = [json.loads(line) for line in output.splitlines()]
    assert [line["outcome"] for line in lines[:-1]] == ["done"]
    assert lines[-1]["left"] == 1
    # The second job has a checkpoint only if it took a step.
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"a.jpg"} <= files <= {"a.jpg", "c.png.checkpoint"}


def test_the_command_reports_failures_at_the_end(
    photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    arguments = ["batch", str(photos), "--style", str(NIGHT), *FLAGS]
    out = ["--out-dir", str(tmp_path / "out")]
    assert nstrt(*arguments, *out) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("2 painted, 1 failed")
    assert printed.err.splitlines()[-1].startswith(f"nstrt: {photos / 'b.jpg'}: ")
    (photos / "b.jpg").unlink()
    assert nstrt(*arguments, *out, "--json") == 0
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert [line.get("outcome") for line in lines] == ["skipped", "skipped", None]
    assert lines[-1]["skipped"] == 2
    assert printed.err == ""
    # A missing painting is one mistake, whatever number of photos wanted it.
    assert nstrt("batch", photos, "--style", "missing.jpg", *FLAGS, *out, "--force") == 2
    assert capsys.readouterr().err.count("There is no picture 'missing.jpg'") == 1


def test_a_batch_of_skipped_jobs_imports_no_torch(photos: Path, tmp_path: Path) -> None:
    (photos / "b.jpg").unlink()
    jobs = jobs_from([photos], style=NIGHT, out_dir=tmp_path, **OPTIONS)
    assert all(isinstance(event, JobDone) for event in last_events(jobs))
    code = "import sys; from nstrt.plugins.cli.app import run; assert run(sys.argv[1:]) == 0"
    arguments = ["batch", photos, "--style", NIGHT, "--out-dir", tmp_path, *FLAGS]
    output = run_without({"torch", "onnxruntime"}, code, *arguments, "--precision", "fp32")
    assert "2 done before" in output
