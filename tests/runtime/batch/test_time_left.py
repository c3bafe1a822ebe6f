"""Remaining time of a batch."""

from __future__ import annotations

from nstrt.runtime import JobDone, JobProgress, JobSkipped, JobStarted
from nstrt.runtime.batch.time_left import BatchEstimator


def started() -> JobStarted:
    return JobStarted(width=64, height=64, steps=10)


def progress(seconds: float, left: float | None) -> JobProgress:
    return JobProgress(
        scale=1,
        width=64,
        height=64,
        iteration=1,
        step=1,
        terms=None,
        painted=0.1,
        fraction=0.1,
        seconds=seconds,
        seconds_left=left,
    )


def done(seconds: float) -> JobDone:
    return JobDone(seconds=seconds, steps=10, painted=0.5, loss=1.0, notes=())


def test_the_first_job_predicts_the_others_until_one_is_painted() -> None:
    estimator = BatchEstimator(4, processes=1)
    assert estimator.after(0, started()) is None
    assert estimator.after(0, progress(2, None)) is None
    # Ten seconds for each job: eight for the rest of the first.
    assert estimator.after(0, progress(2, 8)) == 8 + 3 * 10
    assert estimator.after(0, done(20)) == 3 * 20
    # A skipped job takes no time.
    assert estimator.after(1, JobSkipped()) == 2 * 20
    assert estimator.after(2, progress(5, 15)) == 15 + 20
    assert estimator.after(3, done(20)) == 15
    assert estimator.after(2, done(20)) == 0


def test_processes_share_the_waiting_jobs() -> None:
    estimator = BatchEstimator(6, processes=2)
    estimator.after(0, progress(4, 6))
    assert estimator.after(1, progress(4, 8)) == 8 + 4 * 11 / 2
