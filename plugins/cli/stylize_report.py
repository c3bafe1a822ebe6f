"""Sentences and JSON of ``nstrt stylize`` about a run and its result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstrt.plugins.cli.settings import settings_of

if TYPE_CHECKING:
    from nstrt.runtime.run.inputs import InputSources
    from nstrt.runtime.run.result import Result

__all__ = ["result_lines", "result_summary"]


def result_lines(
    result: Result,
    sources: InputSources,
    output: Path,
    notes: Sequence[str],
    checkpoint: Path | None,
    *,
    verbose: bool,
) -> Iterator[str]:
    """Report for people; ``checkpoint`` is the file that --resume goes on from, if there is one."""
    from nstrt.runtime.planning.estimate import duration

    picture, steps = result.picture, result.plan.steps
    yield (
        f"Saved {output}: {picture.width}x{picture.height} pixels, "
        f"painted {100 * result.painted:.0f} %, in {duration(result.seconds)}."
    )
    if result.stopped:
        ended = [text for text in result.plan.reasons if text.startswith("ended early")]
        reason = f"because {ended[0].partition(': ')[2]}" if ended else "as you asked"
        yield (
            f"  stopped after {result.steps} of {steps} step{'s' * (steps > 1)}, {reason}; "
            "this is the best picture so far."
        )
    if checkpoint is not None:
        yield f"  the same command with --resume goes on from {checkpoint}."
    settings = [*settings_of(result.options.as_dict()), *_extra_settings(sources)]
    if settings:
        yield f"  settings: {', '.join(settings)}"
    for note in notes:
        yield f"  {note}"
    if verbose:
        for line in _details(result):
            yield f"  {line}"


def _extra_settings(sources: InputSources) -> Iterator[str]:
    """Masks that matter, by their names."""
    if sources.protect is not None:
        yield f"protect {Path(str(sources.protect)).name}"
    for mask in sources.style_masks:
        if mask is not None:
            yield f"style mask {Path(str(mask)).name}"
    for mask, _, part in sources.regions:
        words = f"region {Path(str(mask)).name}"
        yield words if part is None else f"{words} with style mask {Path(str(part)).name}"


def _details(result: Result) -> Iterator[str]:
    """Engine, loss, scales, algorithms and automatic choices."""
    plan, terms, options = result.plan, result.terms, result.options
    yield (
        f"engine {plan.engine} on {plan.provider} ({plan.device}, {plan.threads} "
        f"thread{'s' * (plan.threads != 1)}, {plan.precision}), {plan.memory / 1e9:.2f} GB planned"
    )
    yield (
        f"loss {terms.loss:.4f} (content {terms.content:.4f}, style {terms.style:.4f}, "
        f"tv {terms.tv:.4f}), content weight {options.effective_content_weight:g}"
    )
    scales = (
        f"{scale.width}x{scale.height} ({scale.iterations}"
        + (f", tiles of {scale.tile})" if scale.tile else ")")
        for scale in plan.scales
    )
    yield f"scales (with their most steps): {', '.join(scales)}"
    if plan.kernels:
        names = list(plan.kernels.values())
        counts = (f"{names.count(name)} {name}" for name in dict.fromkeys(names))
        yield f"convolutions at the finest scale: {', '.join(counts)}"
    if plan.nodes:
        nodes = ", ".join(f"{count} on {name}" for name, count in plan.nodes.items())
        yield f"nodes of the network by ONNX Runtime's own record: {nodes}"
    yield from plan.reasons


def result_summary(
    result: Result, output: Path, notes: Sequence[str], checkpoint: Path | None
) -> dict[str, Any]:
    """Report for programs (``--json``)."""
    return {
        "output": str(output),
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "width": result.picture.width,
        "height": result.picture.height,
        "notes": list(notes),
        **result.recipe,
    }
