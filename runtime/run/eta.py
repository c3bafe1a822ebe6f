"""How far a run is, and how long it still takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nstrt.runtime.planning.plan import Plan

if TYPE_CHECKING:
    from nstrt.runtime.run.optimize import Progress

__all__ = ["ProgressEstimator"]


class ProgressEstimator:
    """How far a run is and how long it still takes, from the time its steps took."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._began = self._last = 0.0
        self._rate: float | None = None

    def begin(self) -> None:
        """The first step is about to start."""
        self._began = self._last = time.perf_counter()

    def mean(self) -> float:
        """Seconds for a step of one pixel, if the run has just taken its last step."""
        return (time.perf_counter() - self._began) / self._plan.work

    def at(self, progress: Progress) -> tuple[float, float | None]:
        """The fraction of the work that is done, and the seconds to go."""
        now = time.perf_counter()
        scales = self._plan.scales
        here = scales[progress.scale]
        finished = progress.scale_done and progress.complete
        done = sum(scale.work for scale in scales[: progress.scale])
        done += here.work if finished else here.width * here.height * progress.iteration
        if not progress.scale_done:
            rate = (now - self._last) / (here.width * here.height)
            # The first step of a scale also prepares its targets: it says little about the rest.
            if self._rate is None or progress.iteration > 1:
                self._rate = rate if self._rate is None else 0.8 * self._rate + 0.2 * rate
        self._last = now
        left = None if self._rate is None else (self._plan.work - done) * self._rate
        return done / self._plan.work, left
