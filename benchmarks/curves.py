"""Evaluate runs: seconds per step, time to reach a loss, ratios."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

__all__ = [
    "Curve",
    "constant_pace_curve",
    "loss_curve",
    "median",
    "ratios",
    "seconds_per_step",
    "time_to_reach",
]

Curve = list[tuple[float, float]]
"""Pairs of seconds since the start of the process and the loss."""


def seconds_per_step(times: Sequence[float]) -> list[float]:
    """Return the duration of each step after the first, from the end times of all steps."""
    return [later - earlier for earlier, later in pairwise(times)]


def time_to_reach(curve: Iterable[tuple[float, float]], loss: float) -> float | None:
    """Return when the curve first reached ``loss``; ``None`` if it never did."""
    return next((seconds for seconds, value in curve if value <= loss), None)


def loss_curve(ready: float, steps: Sequence[dict[str, Any]], final: float) -> Curve:
    """Return the loss of each picture at the time of its completion.

    A step reports the loss of the picture that the previous step completed.
    """
    times = [ready, *(step["seconds"] for step in steps)]
    losses = [*(step["loss"] for step in steps), final]
    return list(zip(times, losses, strict=True))


def constant_pace_curve(losses: Sequence[float], ready: float, pace: float) -> Curve:
    """Assign times to stored losses at ``pace`` seconds per step."""
    return [(ready + number * pace, loss) for number, loss in enumerate(losses)]


def median(values: Iterable[float]) -> float:
    """Return the median as a float."""
    return float(statistics.median(values))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return the ratio of each repeat; both runs of a repeat ran one after the other."""
    return [mine / other for mine, other in zip(ours, theirs, strict=False)]
