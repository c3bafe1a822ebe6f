"""Remaining time of a batch, from the jobs that were painted and those that run."""

from __future__ import annotations

from nstrt.runtime.batch.job import JobDone, JobEvent, JobProgress, JobStarted

__all__ = ["BatchEstimator"]


class BatchEstimator:
    """Estimates the seconds until all ``jobs`` have ended, in ``processes`` processes."""

    def __init__(self, jobs: int, processes: int) -> None:
        self._waiting = jobs
        self._processes = processes
        self._running: dict[int, JobProgress | None] = {}
        self._painted = 0
        self._seconds = 0.0

    def after(self, index: int, event: JobEvent) -> float | None:
        """Seconds to go after ``event`` of the job with ``index``; None before the first step."""
        if index not in self._running:
            self._waiting -= 1
        if isinstance(event, JobStarted | JobProgress):
            self._running[index] = event if isinstance(event, JobProgress) else None
        else:
            self._running[index] = None
            if isinstance(event, JobDone):
                self._painted += 1
                self._seconds += event.seconds
        running = [progress for progress in self._running.values() if progress is not None]
        mean = self._mean_duration(running)
        if mean is None:
            return None
        return (
            max((progress.seconds_left or 0.0 for progress in running), default=0.0)
            + self._waiting * mean / self._processes
        )

    def _mean_duration(self, running: list[JobProgress]) -> float | None:
        """Mean seconds of the painted jobs, or else of those that run as they expect to take."""
        if self._painted:
            return self._seconds / self._painted
        whole = [
            progress.seconds + progress.seconds_left
            for progress in running
            if progress.seconds_left is not None
        ]
        return sum(whole) / len(whole) if whole else None
