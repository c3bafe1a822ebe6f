"""Progress and remaining time of a run, from the time its steps took."""

from __future__ import annotations

import time

from nstrt.runtime.planning.plan import Plan
from nstrt.runtime.run.optimize import LoopStep
from nstrt.runtime.run.progress import Progress

__all__ = ["ProgressEstimator"]


class ProgressEstimator:
    """Turns steps of the loop into :class:`Progress`.

    ``started`` is when the run was requested, by ``time.perf_counter()``.
    """

    def __init__(self, plan: Plan, started: float) -> None:
        self._plan = plan
        self._started = started
        self._first_step = self._last = 0.0
        self._rate: float | None = None

    def begin(self) -> None:
        """Note that the first step starts now."""
        self._first_step = self._last = time.perf_counter()

    def seconds(self) -> float:
        """Seconds since the run was requested."""
        return time.perf_counter() - self._started

    def mean_rate(self) -> float:
        """Seconds for a step of one pixel, over a run that has just taken its last step."""
        return (time.perf_counter() - self._first_step) / self._plan.work

    def at_start(
        self, scale: int, iteration: int, step: int, *, expected: float | None
    ) -> Progress:
        """Progress before the first step, at the scale with index ``scale``.

        ``expected`` are the seconds of the whole run, or None.
        """
        here = self._plan.scales[scale]
        fraction = self._plan.fraction(scale, iteration)
        return Progress(
            scale=scale + 1,
            width=here.width,
            height=here.height,
            iteration=iteration,
            step=step,
            terms=None,
            painted=0.0,
            fraction=fraction,
            seconds=self.seconds(),
            seconds_left=None if expected is None else (1 - fraction) * expected,
        )

    def at(self, step: LoopStep) -> Progress:
        """Progress after ``step``."""
        here = self._plan.scales[step.scale]
        fraction, seconds_left = self._fraction_and_rest(step)
        return Progress(
            scale=step.scale + 1,
            width=here.width,
            height=here.height,
            iteration=step.iteration,
            step=step.step,
            terms=step.terms,
            painted=step.painted,
            fraction=fraction,
            seconds=self.seconds(),
            seconds_left=seconds_left,
        )

    def _fraction_and_rest(self, step: LoopStep) -> tuple[float, float | None]:
        """Share of the work that is done, and the seconds to go."""
        now = time.perf_counter()
        here = self._plan.scales[step.scale]
        finished = step.scale_done and step.complete
        done = self._plan.fraction(step.scale, here.iterations if finished else step.iteration)
        if not step.scale_done:
            rate = (now - self._last) / (here.width * here.height)
            # A scale's first step also prepares its targets: its time says little about the rest.
            if self._rate is None or step.iteration > 1:
                self._rate = rate if self._rate is None else 0.8 * self._rate + 0.2 * rate
        self._last = now
        left = None if self._rate is None else (1 - done) * self._plan.work * self._rate
        return done, left
