"""What is read off a run: seconds per step, the time at which a loss was reached, ratios."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

__all__ = ["Curve", "median", "ratios", "seconds_per_step", "shifted", "time_to_reach", "timed"]

Curve = list[tuple[float, float]]
"""Seconds since the process was spawned, and the loss."""


def seconds_per_step(times: Sequence[float]) -> list[float]:
    """What each step after the first took, from the times at which steps ended."""
    return [later - earlier for earlier, later in pairwise(times)]


def time_to_reach(curve: Iterable[tuple[float, float]], loss: float) -> float | None:
    """When the loss was first at most ``loss``; None if it never was."""
    return next((seconds for seconds, found in curve if found <= loss), None)


def shifted(ready: float, steps: Sequence[dict[str, Any]], final: float) -> Curve:
    """The loss of each picture at the time when it was made.

    A step's own loss is that of the picture before it, which the step before had finished.
    """
    times = [ready, *(step["seconds"] for step in steps)]
    losses = [*(step["loss"] for step in steps), final]
    return list(zip(times, losses, strict=True))


def timed(losses: Sequence[float], ready: float, pace: float) -> Curve:
    """A stored row of losses, one for each number of steps, at ``pace`` seconds a step."""
    return [(ready + number * pace, loss) for number, loss in enumerate(losses)]


def median(values: Iterable[float]) -> float:
    """The median as a plain number."""
    return float(statistics.median(values))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours over theirs, repeat by repeat: the two of a repeat ran one after the other."""
    return [mine / other for mine, other in zip(ours, theirs, strict=False)]
