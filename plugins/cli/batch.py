"""``nstrt batch``: repaint many photos."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from nstrt.plugins.cli.batch_report import Outcomes, describe_outcome
from nstrt.plugins.cli.clock import STARTED
from nstrt.plugins.cli.console import print_out, printer
from nstrt.plugins.cli.flags import given_options, given_values, with_option_flags
from nstrt.plugins.cli.log import StepLog
from nstrt.plugins.cli.parameters import Quiet, StripMetadata, input_argument, output_option, takes
from nstrt.plugins.cli.signals import stop_on_signals
from nstrt.runtime.errors import PictureWriteError
from nstrt.runtime.system.files import real_path

if TYPE_CHECKING:
    from nstrt.runtime.batch.batch import Batch
    from nstrt.runtime.batch.job import Job

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
    style_mask: Annotated[
        Path | None,
        output_option(metavar="FILE", help="Where this mask is white, that painting counts."),
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
    strip_metadata: StripMetadata = False
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
    dry_run: Annotated[
        bool,
        output_option("--dry-run", help="Say what would be painted and how long; paint nothing."),
    ] = False
    log: Annotated[
        Path | None, output_option(metavar="FILE", help="Write one JSON object for each step.")
    ] = None
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

    notify = printer(quiet=arguments.quiet)
    jobs = jobs_from(
        arguments.photos,
        out_dir=arguments.out_dir,
        style=arguments.style,
        style_mask=arguments.style_mask,
        suffix=arguments.suffix,
        strip_metadata=arguments.strip_metadata,
        notify=notify,
        **given_values(given),
    )
    batch = Batch(
        jobs,
        force=arguments.force,
        processes=arguments.jobs,
        frames=arguments.frames,
        dry_run=arguments.dry_run,
        notify=notify,
    )
    if arguments.log is not None:
        _check_log(arguments.log, jobs, arguments.photos)
    _make_folder(arguments.out_dir, dry_run=arguments.dry_run)
    with ExitStack() as stack:
        log = None
        if arguments.log is not None and not arguments.dry_run:
            log = stack.enter_context(
                closing(
                    # A second run goes on where the first one stopped, and so does its log.
                    StepLog(
                        arguments.log,
                        notify,
                        append=not arguments.force,
                        overwrite=arguments.force,
                    )
                )
            )
        outcomes = _follow(batch, arguments, log)
    left = len(jobs) - outcomes.total
    seconds = time.perf_counter() - STARTED
    if arguments.as_json:
        print_out(json.dumps(outcomes.summary(left, seconds)))
    elif not arguments.quiet:
        print_out(outcomes.sentence(left, seconds))
    outcomes.print_errors(reasons=not arguments.as_json)
    if batch.stopped:
        return 130
    return outcomes.exit_code


def _check_log(log: Path, jobs: Sequence[Job], sources: Sequence[Path]) -> None:
    """Raise :class:`PictureWriteError` if the log is a file that the batch reads or writes."""
    files = set(sources)
    for job in jobs:
        options = Path(job.options.init), Path(job.options.weights)
        masks = {job.style_mask} if job.style_mask is not None else set()
        files |= {job.content, job.style, job.output, *masks, *options}
    if real_path(log) in {real_path(path) for path in files}:
        raise PictureWriteError(
            f"The log '{log}' would be written over a file of the batch; choose another name."
        )


def _make_folder(folder: Path, *, dry_run: bool) -> None:
    """Make the folder of the results, and those above it; a dry run only checks the name."""
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise PictureWriteError(f"'{path}' is a file; name a folder for the results.")
    try:
        if not dry_run:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PictureWriteError(
            f"The folder '{folder}' cannot be made ({error.strerror}); name another."
        ) from error


def _follow(batch: Batch, arguments: Arguments, log: StepLog | None) -> Outcomes:
    """Run the batch: show each event, and print each outcome with ``--json``."""
    from nstrt.plugins.cli.progress import jobs_display
    from nstrt.runtime.run.progress import Progress

    outcomes = Outcomes()
    with (
        stop_on_signals(batch.stop, exit_now=lambda: batch.stopped),
        jobs_display(len(batch.jobs), quiet=arguments.quiet or arguments.as_json) as display,
    ):
        for event in batch:
            progress = event.event if isinstance(event.event, Progress) else None
            if log is not None and progress is not None:
                log.add(progress, photo=str(event.job.content), output=str(event.job.output))
            name, words = event.job.content.name, describe_outcome(event.event)
            if words is None:
                display.update(event.number, name, progress, event.seconds_left)
            else:
                display.finish(event.number, name, words)
            outcome = outcomes.add(event)
            if outcome is not None and arguments.as_json:
                print_out(json.dumps(outcome))
    return outcomes
