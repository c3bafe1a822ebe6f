"""``nstrt batch``: many photos in one go."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nstrt.plugins.cli.console import print_err, print_out, printer
from nstrt.plugins.cli.flags import OUTPUT, Quiet, given_options, given_values, with_option_flags
from nstrt.plugins.cli.interrupt import stop_on_sigint
from nstrt.runtime.errors import PictureWriteError

if TYPE_CHECKING:
    from nstrt.runtime.batch.batch import Batch
    from nstrt.runtime.batch.jobs import BatchEvent, JobEvent

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "batch"
EXAMPLES = """
nstrt batch holiday/ --style painting.jpg --out-dir painted
nstrt batch trip/*.jpg cat.png --style painting.jpg --out-dir painted --preset fast
nstrt batch pairs.csv --out-dir painted --size 1024
nstrt batch film/*.png --frames --style painting.jpg --out-dir painted
nstrt batch holiday/ --style painting.jpg --out-dir painted --json
"""


@with_option_flags
def command(
    photos: list[Path] = typer.Argument(
        ...,
        metavar="PHOTOS...",
        help="Photos, folders of photos, patterns in quotation marks, or .csv and .toml lists.",
        show_default=False,
        rich_help_panel="Arguments",
    ),
    style: Path = typer.Option(
        None,
        "--style",
        metavar="FILE",
        help="The painting for all photos; a list may name others.",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
    out_dir: Path = typer.Option(
        ...,
        "--out-dir",
        metavar="FOLDER",
        help="Where results go, under their photos' names; it is made if it is not there.",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
    suffix: str = typer.Option(
        None,
        "--suffix",
        metavar=".EXT",
        help="The results' format, such as .png. Default: each photo's own.",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
    force: bool = typer.Option(
        False,
        "--force",
        help="Paint what is there already again, whatever it is.",
        rich_help_panel=OUTPUT,
    ),
    frames: bool = typer.Option(
        False,
        "--frames",
        help="The photos are a film's frames, in order: each starts from the last result, moved "
        "along. Needs OpenCV, which nstrt[video] brings.",
        rich_help_panel=OUTPUT,
    ),
    jobs: int = typer.Option(
        1,
        "--jobs",
        metavar="N",
        min=1,
        help="Processes side by side. Each has its share of the cores, and 1 uses them all. [1]",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
    as_json: bool = typer.Option(
        False, "--json", help="Print one JSON object a picture on stdout.", rich_help_panel=OUTPUT
    ),
    quiet: Quiet = False,
    given: dict[str, Any] | None = None,
) -> int:
    """Repaint many photos, and skip those that are done already."""
    given_options(given or {})
    from nstrt.plugins.cli.clock import STARTED
    from nstrt.plugins.cli.progress import Item, counting_display
    from nstrt.runtime.batch.batch import Batch
    from nstrt.runtime.batch.job_list import jobs_from

    found = jobs_from(
        photos, out_dir=out_dir, style=style, suffix=suffix, **given_values(given or {})
    )
    say = printer(quiet=quiet)
    batch = Batch(found, force=force, processes=jobs, frames=frames, notify=say)
    _make(out_dir)
    tally = _Tally()
    with (
        stop_on_sigint(batch.stop, at_once=lambda: batch.stopped),
        counting_display(len(found), quiet=quiet or as_json) as show,
    ):
        for event in batch:
            show(Item(number=event.number, name=event.job.content.name, **_state(event.event)))
            outcome = tally.take(event)
            if outcome is not None and as_json:
                print_out(json.dumps(outcome))
    _summarise(tally, batch, time.perf_counter() - STARTED, as_json=as_json, quiet=quiet)
    if batch.stopped:
        return 130
    return 1 if tally.failed else 0


def _state(event: JobEvent) -> dict[str, Any]:
    """Where a picture is, as :class:`Item` has it."""
    from nstrt.runtime.batch.jobs import JobDone, JobFailed, JobProgress, JobSkipped

    match event:
        case JobProgress():
            return {"fraction": event.fraction, "seconds_left": event.seconds_left}
        case JobDone():
            words = f"painted {100 * event.painted:.0f} %  {event.seconds:.0f} s"
            return {"over": "; ".join([words, *event.notes])}
        case JobSkipped():
            return {"over": "done before"}
        case JobFailed():
            return {"over": "failed"}
    return {}


class _Tally:
    """What became of each picture."""

    def __init__(self) -> None:
        self.done = 0
        self.skipped = 0
        self.failed: list[tuple[Path, str]] = []
        self.traces: list[str] = []

    def take(self, event: BatchEvent) -> dict[str, Any] | None:
        """Count an event; gives what became of its picture if that is known with it."""
        from nstrt.runtime.batch.jobs import JobDone, JobFailed, JobSkipped

        told, job = event.event, event.job
        more: dict[str, Any] = {}
        if isinstance(told, JobDone):
            self.done += 1
            outcome = "done"
            more = {
                "seconds": round(told.seconds, 2),
                "steps": told.steps,
                "painted": told.painted,
                "loss": told.loss,
                "notes": list(told.notes),
            }
        elif isinstance(told, JobSkipped):
            self.skipped += 1
            outcome = "skipped"
        elif isinstance(told, JobFailed):
            self.failed.append((job.content, told.reason))
            self.traces += [told.trace] * bool(told.trace)
            outcome = "failed"
            more = {"error": told.reason, "code": told.code}
        else:
            return None
        return {
            "content": str(job.content),
            "style": str(job.style),
            "output": str(job.output),
            "outcome": outcome,
            **more,
        }


def _summarise(tally: _Tally, batch: Batch, seconds: float, *, as_json: bool, quiet: bool) -> None:
    left = len(batch.jobs) - tally.done - tally.skipped - len(tally.failed)
    if as_json:
        counts = {"done": tally.done, "skipped": tally.skipped, "failed": len(tally.failed)}
        print_out(json.dumps({**counts, "left": left, "seconds": round(seconds, 2)}))
    elif not quiet:
        words = [f"{tally.done} painted"]
        words += [f"{tally.skipped} done before"] * bool(tally.skipped)
        words += [f"{len(tally.failed)} failed"] * bool(tally.failed)
        words += [f"{left} left for another time"] * bool(left)
        print_out(f"{', '.join(words)}, {seconds:.0f} s")
    if tally.failed and not as_json:
        # One missing painting is one line, whatever number of photos wanted it.
        for reason in dict.fromkeys(reason for _, reason in tally.failed):
            photos = [str(photo) for photo, why in tally.failed if why == reason]
            more = f" and {len(photos) - 1} more" if len(photos) > 1 else ""
            print_err(f"nstrt: {photos[0]}{more}: {' '.join(reason.split())}")
    for trace in tally.traces:
        print_err(trace)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise PictureWriteError(
            f"The folder '{folder}' cannot be made; name one in a folder that exists."
        ) from error
