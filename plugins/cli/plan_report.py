"""Sentences and JSON about a run before it starts: time, memory, enlargement."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstrt.plugins.cli.console import print_out

if TYPE_CHECKING:
    from nstrt.runtime.planning.estimate import Estimate
    from nstrt.runtime.planning.plan import Plan
    from nstrt.runtime.run.inputs import InputSources
    from nstrt.runtime.run.run import Run

__all__ = ["LONG_SECONDS", "cost_line", "enlargement_lines", "plan_lines", "print_plan"]

LONG_SECONDS = 600
"""Expected seconds of a run from which on a line says how to shorten it."""

_SHORTER_SECONDS = 300
"""Seconds of the shorter run that the line suggests."""

_FEW_SECONDS = 5
"""Expected seconds of a run up to which loading takes as long."""


def plan_lines(run: Run, plan: Plan, seconds: float | None, *, verb: str = "") -> Iterator[str]:
    """Pictures, size, steps, time and memory of a run; swapped pictures are noticed here.

    ``seconds`` is None for a short run of unknown time.
    """
    from nstrt.runtime.planning.estimate import duration

    finest, count = plan.scales[-1], len(plan.scales)
    yield (
        f"{verb}{_pictures(run.sources)}: {finest.width}x{finest.height} pixels, "
        f"{count} scale{'s' * (count > 1)}, {plan.steps} step{'s' * (plan.steps > 1)}."
    )
    yield cost_line(plan, seconds)
    yield from enlargement_lines(plan, run.photo_size)
    if seconds is not None and seconds > LONG_SECONDS:
        size = max(finest.width, finest.height)
        fitting = int(size * math.sqrt(_SHORTER_SECONDS / seconds)) // 32 * 32
        shorter = min(max(run.photo_size), max(fitting, 32))
        yield (
            f"That is more than ten minutes: --size {shorter} takes about "
            f"{duration(seconds * (shorter / size) ** 2)}, and Ctrl-C keeps the picture so far."
        )


def cost_line(plan: Plan, seconds: float | None) -> str:
    """Time and memory; ``seconds`` is None if they are few and unknown."""
    from nstrt.runtime.planning.estimate import duration, place

    time = "A few seconds"
    if seconds is not None and seconds > _FEW_SECONDS:
        time = f"About {duration(seconds)}"
    return f"{time}, {plan.memory / 1e9:.1f} GB of memory, {place(plan.provider)}."


def enlargement_lines(plan: Plan, photo_size: tuple[int, int]) -> Iterator[str]:
    """A line if the plan enlarges the photo."""
    size, photo = max(plan.scales[-1].width, plan.scales[-1].height), max(photo_size)
    if size > photo:
        times = f"{size / photo:.{1 if size > 1.1 * photo else 2}f}"
        yield (
            f"--size {size} enlarges the photo {times} times: "
            f"it has {photo} pixels on its long side."
        )


def print_plan(estimate: Estimate, lines: Sequence[str], *, as_json: bool, quiet: bool) -> None:
    """Print the outcome of a dry run."""
    if as_json:
        print_out(json.dumps(_summary(estimate, lines)))
    elif not quiet:
        for line in lines:
            print_out(line)


def _pictures(sources: InputSources) -> str:
    """The photo and the paintings by their names."""
    photo, *paintings = (Path(str(source)).name for source in (sources.content, *sources.styles))
    for index, mask in enumerate(sources.style_masks):
        if mask is not None:
            paintings[index] = f"a part of {paintings[index]}"
    words = f"{photo} in the style of {' and '.join(paintings)}"
    count = len(sources.regions)
    return f"{words}, {count} region{'s' * (count > 1)} apart" if count else words


def _summary(estimate: Estimate, lines: Sequence[str]) -> dict[str, Any]:
    plan = estimate.plan
    finest = plan.scales[-1]
    return {
        "dry_run": True,
        "width": finest.width,
        "height": finest.height,
        "steps": plan.steps,
        "seconds": round(estimate.seconds, 2),
        "memory": plan.memory,
        "available": estimate.available,
        "notes": list(lines),
        "plan": plan.as_dict(),
    }
