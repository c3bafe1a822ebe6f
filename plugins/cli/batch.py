"""``nstrt batch``: repaint many photos."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from nstrt.plugins.cli.clock import STARTED
from nstrt.plugins.cli.console import print_err, print_out, printer
from nstrt.plugins.cli.flags import given_options, given_values, with_option_flags
from nstrt.plugins.cli.parameters import Quiet, input_argument, output_option, takes
from nstrt.plugins.cli.signals import stop_on_signals
from nstrt.runtime.errors import PictureWriteError

if TYPE_CHECKING:
    from nstrt.plugins.cli.progress import JobsDisplay
    from nstrt.runtime.batch.batch import Batch
    from nstrt.runtime.batch.job import BatchEvent, JobEvent

__all__ = ["EXAMPLES", "Arguments", "command"]

EXAMPLES = """
nstrt batch holiday/ --style painting.jpg --out-dir painted
nstrt batch trip/*.jpg cat.png --style painting.jpg --out-dir painted --preset fast
nstrt batch pairs.csv --out-dir painted --size 1024
nstrt batch film/*.png --frames --style painting.jpg --out-dir painted
nstrt batch holiday/ --style painting.jpg --out-dir painted --json
"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The command line, but for the flags of :class:`StylizeOptions`."""

    photos: Annotated[
        list[Path],
        input_argument(
            metavar="PHOTOS...",
            help="Photos, folders of photos, patterns in quotation marks, or .csv and .toml lists.",
        ),
    ]
    style: Annotated[
        Path | None,
        output_option(metavar="FILE", help="The painting for all photos; a list may name others."),
    ] = None
    out_dir: Annotated[
        Path,
        output_option(
            metavar="FOLDER",
            help="Where results go, under their photos' names; it is made if it is not there.",
        ),
    ]
    suffix: Annotated[
        str | None,
        output_option(
            metavar=".EXT",
            help="The results' format, such as .png. Default: each photo's own.",
        ),
    ] = None
    force: Annotated[
        bool, output_option("--force", help="Paint what is there already again, whatever it is.")
    ] = False
    frames: Annotated[
        bool,
        output_option(
            "--frames",
            help="The photos are a film's frames, in order: each starts from the last result, "
            "moved along. Needs OpenCV, which nstrt[video] brings.",
        ),
    ] = False
    jobs: Annotated[
        int,
        output_option(
            metavar="N",
            min=1,
            help="Processes side by side. Each has its share of the cores, and 1 uses them all. "
            "[1]",
        ),
    ] = 1
    as_json: Annotated[
        bool, output_option("--json", help="Print one JSON object a picture on stdout.")
    ] = False
    quiet: Quiet = False


@with_option_flags
@takes(Arguments)
def command(arguments: Arguments, *, given: dict[str, Any]) -> int:
    """Repaint many photos, and skip those that are done already."""
    given_options(given)
    from nstrt.runtime.batch.batch import Batch
    from nstrt.runtime.batch.job_list import jobs_from

    jobs = jobs_from(
        arguments.photos,
        out_dir=arguments.out_dir,
        style=arguments.style,
        suffix=arguments.suffix,
        **given_values(given),
    )
    batch = Batch(
        jobs,
        force=arguments.force,
        processes=arguments.jobs,
        frames=arguments.frames,
        notify=printer(quiet=arguments.quiet),
    )
    _make_folder(arguments.out_dir)
    outcomes = _follow(batch, arguments)
    left = len(jobs) - outcomes.total
    seconds = time.perf_counter() - STARTED
    if arguments.as_json:
        print_out(json.dumps(outcomes.summary(left, seconds)))
    elif not arguments.quiet:
        print_out(outcomes.sentence(left, seconds))
    outcomes.print_errors(reasons=not arguments.as_json)
    if batch.stopped:
        return 130
    return 1 if outcomes.failed else 0


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise PictureWriteError(
            f"The folder '{folder}' cannot be made; name one in a folder that exists."
        ) from error


def _follow(batch: Batch, arguments: Arguments) -> Outcomes:
    """Run the batch: show each event, and print each outcome with ``--json``."""
    from nstrt.plugins.cli.progress import jobs_display

    outcomes = Outcomes()
    with (
        stop_on_signals(batch.stop, exit_now=lambda: batch.stopped),
        jobs_display(len(batch.jobs), quiet=arguments.quiet or arguments.as_json) as display,
    ):
        for event in batch:
            _show(event, display)
            outcome = outcomes.add(event)
            if outcome is not None and arguments.as_json:
                print_out(json.dumps(outcome))
    return outcomes


def _show(event: BatchEvent, display: JobsDisplay) -> None:
    from nstrt.runtime.batch.job import JobProgress

    number, name, job_event = event.number, event.job.content.name, event.event
    outcome = _outcome(job_event)
    if outcome is not None:
        display.finish(number, name, outcome)
    else:
        display.update(number, name, job_event if isinstance(job_event, JobProgress) else None)


def _outcome(event: JobEvent) -> str | None:
    """How a job ended, in words; None if it goes on."""
    from nstrt.runtime.batch.job import JobDone, JobFailed, JobSkipped

    match event:
        case JobDone():
            painted = f"painted {100 * event.painted:.0f} %  {event.seconds:.0f} s"
            return "; ".join([painted, *event.notes])
        case JobSkipped():
            return "done before"
        case JobFailed():
            return "failed"
    return None


@dataclass
class Outcomes:
    """How the jobs of a batch ended."""

    done: int = 0
    skipped: int = 0
    failed: list[tuple[Path, str]] = field(default_factory=list)
    """Photos without a result, each with the reason."""
    traces: list[str] = field(default_factory=list)
    """Stack traces of internal errors."""

    @property
    def total(self) -> int:
        """Jobs that ended."""
        return self.done + self.skipped + len(self.failed)

    def add(self, event: BatchEvent) -> dict[str, Any] | None:
        """Count a job that ended and return its JSON object; None for other events."""
        from nstrt.runtime.batch.job import JobDone, JobFailed, JobSkipped

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
            case JobSkipped():
                self.skipped += 1
                outcome = "skipped"
            case JobFailed() as failure:
                self.failed.append((job.content, failure.reason))
                self.traces += [failure.trace] * bool(failure.trace)
                outcome = "failed"
                facts = {"error": failure.reason, "code": failure.code}
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
        counts = {"done": self.done, "skipped": self.skipped, "failed": len(self.failed)}
        return {**counts, "left": left, "seconds": round(seconds, 2)}

    def sentence(self, left: int, seconds: float) -> str:
        """The summary for people."""
        words = [f"{self.done} painted"]
        words += [f"{self.skipped} done before"] * bool(self.skipped)
        words += [f"{len(self.failed)} failed"] * bool(self.failed)
        words += [f"{left} left for another time"] * bool(left)
        return f"{', '.join(words)}, {seconds:.0f} s"

    def print_errors(self, *, reasons: bool) -> None:
        """Print stack traces, after the reasons why jobs failed unless JSON has them."""
        if reasons:
            # One missing painting is one line, whatever number of photos wanted it.
            for reason in dict.fromkeys(reason for _, reason in self.failed):
                photos = [str(photo) for photo, why in self.failed if why == reason]
                more = f" and {len(photos) - 1} more" if len(photos) > 1 else ""
                print_err(f"nstrt: {photos[0]}{more}: {' '.join(reason.split())}")
        for trace in self.traces:
            print_err(trace)
