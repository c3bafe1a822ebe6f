"""Sentences and JSON of ``nstrt stylize`` about a run and its result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nstrt.runtime.run.events import Started
    from nstrt.runtime.run.result import Result
    from nstrt.runtime.run.run import Run

__all__ = ["planned_sentence", "result_lines", "result_summary"]


def planned_sentence(run: Run, event: Started) -> str:
    """Pictures, size and steps of a run that starts; swapped pictures are noticed here."""
    finest = event.plan.scales[-1]
    sources = run.sources
    photo, *paintings = (Path(str(source)).name for source in (sources.content, *sources.styles))
    painting = " and ".join(paintings)
    if sources.regions:
        count = len(sources.regions)
        painting += f", {count} region{'s' * (count > 1)} apart"
    verb = f"Going on after step {event.step}: painting" if event.step else "Painting"
    return (
        f"{verb} {photo} in the style of {painting}: {finest.width}x{finest.height} pixels, "
        f"{len(event.plan.scales)} scales, {event.plan.steps} steps"
    )


def result_lines(
    result: Result, output: Path, notes: Sequence[str], checkpoint: Path | None
) -> Iterator[str]:
    """Report for people; ``checkpoint`` is the file that --resume goes on from, if there is one."""
    plan = result.plan
    picture = result.picture
    if result.stopped:
        yield f"Stopped after {result.steps} of {plan.steps} steps; the best picture so far is kept"
        if checkpoint is not None:
            yield f"  the same command with --resume goes on from {checkpoint}"
    yield f"Saved {output} ({picture.width}x{picture.height} pixels)"
    yield (
        f"  {result.seconds:.0f} s, {result.steps} steps, engine {plan.engine} on {plan.provider} "
        f"({plan.device}, {plan.threads} threads, {plan.precision})"
    )
    yield (
        f"  painted {100 * result.painted:.0f} %, loss {result.terms.loss:.4f} "
        f"(content {result.terms.content:.3f}, style {result.terms.style:.4f})"
    )
    if plan.nodes:
        nodes = ", ".join(f"{count} on {name}" for name, count in plan.nodes.items())
        yield f"  nodes of the network by ONNX Runtime's own record: {nodes}"
    for line in (*plan.reasons, *notes):
        yield f"  {line}"


def result_summary(result: Result, output: Path, notes: Sequence[str]) -> dict[str, Any]:
    """Report for programs (``--json``)."""
    return {
        "output": str(output),
        "width": result.picture.width,
        "height": result.picture.height,
        "notes": list(notes),
        **result.recipe,
    }
