"""Worker processes of a batch: equal outcomes, and a worker's death fails one job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

from nstrt.runtime import (
    Batch,
    JobDone,
    JobFailed,
    JobProgress,
    JobSkipped,
    jobs_from,
)

from support import NIGHT
from support.batches import OPTIONS, last_events


def test_two_processes_give_the_outcomes_of_one(photos: Path, tmp_path: Path) -> None:
    jobs = jobs_from([photos], style=NIGHT, out_dir=tmp_path, **OPTIONS)
    events = list(Batch(jobs, processes=2))
    last = {item.number: type(item.event) for item in events}
    assert last == {1: JobDone, 2: JobFailed, 3: JobDone}
    assert any(isinstance(item.event, JobProgress) for item in events)
    # Threads and memory of a worker do not count as different options.
    assert [type(event) for event in last_events(jobs)] == [JobSkipped, JobFailed, JobSkipped]


def test_a_killed_worker_fails_its_job(photos: Path, tmp_path: Path) -> None:
    long_options = {**OPTIONS, "iterations": 100_000, "tolerance": 0.0}
    long = jobs_from([photos / "a.jpg"], style=NIGHT, out_dir=tmp_path, **long_options)
    short = jobs_from([photos / "c.png"], style=NIGHT, out_dir=tmp_path, **OPTIONS)
    reasons = []
    killed = False
    for item in Batch([*long, *short], processes=2):
        if item.number == 1 and isinstance(item.event, JobProgress) and not killed:
            killed = True
            for child in psutil.Process().children():
                if item.event.fraction < 1 and _is_worker(child):
                    child.kill()
        if isinstance(item.event, JobFailed):
            reasons.append(item.event.reason)
    assert killed
    # The short job may be done before its worker is killed.
    assert 1 <= len(reasons) <= 2
    assert "for want of memory; paint at most" in reasons[0]


def _is_worker(process: Any) -> bool:
    return any("nstrt.runtime.batch.process_pool" in word for word in process.cmdline())
