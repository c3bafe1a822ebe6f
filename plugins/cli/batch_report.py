"""How the jobs of ``nstrt batch`` ended, in words and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstrt.plugins.cli.console import print_err
from nstrt.runtime.planning.estimate import duration

if TYPE_CHECKING:
    from nstrt.runtime.batch.job import BatchEvent, JobEvent, JobPlanned

__all__ = ["DIFFERS", "Outcomes", "describe_outcome"]

DIFFERS = 3
"""Exit code if no job failed, and results of other options stayed as they are."""


def describe_outcome(event: JobEvent) -> str | None:
    """How a job ended, in words; None if it goes on."""
    from nstrt.runtime.batch.job import JobDiffers, JobDone, JobFailed, JobPlanned, JobSkipped

    match event:
        case JobDone():
            painted = f"painted {100 * event.painted:.0f} %  {event.seconds:.0f} s"
            return "  ".join([painted, *event.notes])
        case JobPlanned():
            return f"to be painted at {event.width} x {event.height}, {duration(event.seconds)}"
        case JobSkipped():
            return "done before"
        case JobDiffers():
            return "made otherwise before"
        case JobFailed():
            return "failed"
    return None


@dataclass
class Outcomes:
    """How the jobs of a batch ended."""

    done: int = 0
    skipped: int = 0
    planned: list[JobPlanned] = field(default_factory=list)
    """Plans of a dry run."""
    differing: list[tuple[Path, str]] = field(default_factory=list)
    """Results that stayed though they differ from their jobs, each with the differences."""
    failed: list[tuple[Path, str]] = field(default_factory=list)
    """Photos without a result, each with the reason."""
    traces: list[str] = field(default_factory=list)
    """Stack traces of internal errors."""

    @property
    def total(self) -> int:
        """Jobs that ended."""
        return self.done + self.skipped + len(self.planned) + len(self.differing) + len(self.failed)

    @property
    def exit_code(self) -> int:
        """1 if a job failed, 3 if only results of other options stayed, else 0."""
        if self.failed:
            return 1
        return DIFFERS if self.differing else 0

    def add(self, event: BatchEvent) -> dict[str, Any] | None:
        """Count a job that ended and return its JSON object; None for other events."""
        from nstrt.runtime.batch.job import JobDiffers, JobDone, JobFailed, JobPlanned, JobSkipped

        job = event.job
        facts: dict[str, Any] = {}
        match event.event:
            case JobDone() as done:
                self.done += 1
                outcome = "done"
                facts = {
                    "seconds": round(done.seconds, 2),
                    "steps": done.steps,
                    "painted": done.painted,
                    "loss": done.loss,
                    "notes": list(done.notes),
                }
            case JobPlanned() as planned:
                self.planned.append(planned)
                outcome, facts = "planned", asdict(planned)
            case JobSkipped():
                self.skipped += 1
                outcome = "skipped"
            case JobDiffers() as differs:
                self.differing.append((job.output, differs.reason))
                outcome, facts = "differs", {"differences": differs.reason}
            case JobFailed() as failure:
                self.failed.append((job.content, failure.reason))
                self.traces += [failure.trace] * bool(failure.trace)
                outcome, facts = "failed", {"error": failure.reason, "code": failure.code}
            case _:
                return None
        return {
            "content": str(job.content),
            "style": str(job.style),
            "output": str(job.output),
            "outcome": outcome,
            **facts,
        }

    def summary(self, left: int, seconds: float) -> dict[str, Any]:
        """The last JSON object: counts, with ``left`` jobs that did not end."""
        counts = {
            "done": self.done,
            "planned": len(self.planned),
            "skipped": self.skipped,
            "differs": len(self.differing),
            "failed": len(self.failed),
        }
        return {**counts, "left": left, "seconds": round(seconds, 2)}

    def sentence(self, left: int, seconds: float) -> str:
        """The summary for people."""
        planned = self.planned
        words = [f"{self.done} painted"] * bool(self.done or not planned)
        if planned:
            time_and_memory = duration(sum(plan.seconds for plan in planned))
            time_and_memory += f", {max(plan.memory for plan in planned) / 1e9:.1f} GB of memory"
            words += [f"{len(planned)} to be painted ({time_and_memory})"]
        words += [f"{self.skipped} done before"] * bool(self.skipped)
        words += [f"{len(self.differing)} made otherwise before"] * bool(self.differing)
        words += [f"{len(self.failed)} failed"] * bool(self.failed)
        words += [f"{left} left, where the next run goes on"] * bool(left)
        return ", ".join(words) + ("" if planned else f", {seconds:.0f} s")

    def print_errors(self, *, reasons: bool) -> None:
        """Print stack traces, after the reasons why jobs have no result unless JSON has them."""
        if reasons:
            # One missing painting is one line, whatever number of photos wanted it.
            for reason, photos in _by_reason(self.failed):
                print_err(f"nstrt: {photos}: {' '.join(reason.split())}")
            for reason, results in _by_reason(self.differing):
                print_err(f"nstrt: {results}: {reason}.")
            if self.differing:
                print_err(
                    "nstrt: Results that were made otherwise stay as they are; --force paints "
                    "them again, another --out-dir keeps both."
                )
        for trace in self.traces:
            print_err(trace)


def _by_reason(outcomes: Sequence[tuple[Path, str]]) -> Iterator[tuple[str, str]]:
    """Each reason once, with the files that it concerns in words."""
    for reason in dict.fromkeys(reason for _, reason in outcomes):
        files = [str(file) for file, why in outcomes if why == reason]
        yield reason, files[0] + (f" and {len(files) - 1} more" if len(files) > 1 else "")
