"""``nstrt stylize``: repaint one photo."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from nstrt.plugins.cli.clock import STARTED
from nstrt.plugins.cli.console import print_out, printer
from nstrt.plugins.cli.flags import given_options, with_option_flags
from nstrt.plugins.cli.parameters import (
    OUTPUT,
    Content,
    DryRun,
    Quiet,
    StripMetadata,
    Style,
    output_option,
    takes,
)
from nstrt.plugins.cli.plan_report import plan_lines, print_plan
from nstrt.plugins.cli.region import Region, parse_region
from nstrt.plugins.cli.signals import stop_on_signals
from nstrt.plugins.cli.stylize_report import result_lines, result_summary
from nstrt.runtime.errors import OptionError, PictureWriteError
from nstrt.runtime.system.files import real_path

if TYPE_CHECKING:
    from nstrt.runtime.options.options import StylizeOptions
    from nstrt.runtime.outputs.timelapse import Timelapse
    from nstrt.runtime.run.events import Event
    from nstrt.runtime.run.result import Result
    from nstrt.runtime.run.run import Run

__all__ = ["EXAMPLES", "Arguments", "command"]

EXAMPLES = """
nstrt stylize photo.jpg painting.jpg -o out.png
nstrt stylize photo.jpg painting.jpg -o out.png --preset best --size 1024
nstrt stylize photo.tif painting.jpg -o out.tif --original-size --content-weight 0.3
nstrt stylize photo.jpg painting.jpg -o out.png --preview live.png --timelapse out.webp
nstrt stylize photo.jpg painting.jpg -o out.png --add-style other.jpg --style-blend 2,1
nstrt stylize photo.jpg painting.jpg -o out.png --region sky.png:night.jpg --protect face.png
nstrt stylize photo.jpg painting.jpg -o out.png --seed 1 --log run.jsonl --json
nstrt stylize photo.jpg painting.jpg -o out.png --preset best --size 1024 --resume
"""

picture_option = partial(
    typer.Option, rich_help_panel="Several paintings, and masks", show_default=False
)


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The command line, but for the flags of :class:`StylizeOptions`."""

    content: Content
    style: Style
    add_style: Annotated[
        list[Path] | None,
        picture_option(
            metavar="FILE",
            help="Another painting, blended with STYLE (see --style-blend); any number of times.",
        ),
    ] = None
    style_mask: Annotated[
        list[str] | None,
        picture_option(
            metavar="MASK",
            help="Where the mask is white, STYLE counts; with --add-style once for each painting, "
            "in their order, and '' for a whole one.",
        ),
    ] = None
    region: Annotated[
        list[str] | None,
        picture_option(
            metavar="MASK[:PAINTING[:MASK]]",
            help="Where the mask is white, the style is another painting's, or without one "
            "STYLE's (see --rest); any number of times. The second mask is the painting's.",
        ),
    ] = None
    protect: Annotated[
        Path | None,
        picture_option(
            metavar="MASK", help="Where the mask is white, stay near the photo, as for faces."
        ),
    ] = None
    output: Annotated[
        Path,
        output_option(
            "-o",
            "--output",
            metavar="FILE",
            help="The result: .png, .tif, .jpg, .webp or .avif; 8 or 16 bits as the photo.",
        ),
    ]
    force: Annotated[bool, output_option("--force", help="Replace the result if it exists.")] = (
        False
    )
    strip_metadata: StripMetadata = False
    save_every: Annotated[
        int,
        output_option(
            metavar="N",
            min=0,
            help="Save the picture as it is every N steps, beside the result (8 bits, opaque).",
        ),
    ] = 0
    preview: Annotated[
        Path | None,
        output_option(
            metavar="FILE",
            help="A picture file that is rewritten as the picture improves, for a viewer that "
            "reloads.",
        ),
    ] = None
    preview_seconds: Annotated[
        float, output_option(metavar="X", min=0.1, help="Seconds between previews. [2]")
    ] = 2.0
    timelapse: Annotated[
        Path | None,
        output_option(
            metavar="FILE",
            help="A film of the painting coming into being: .webp, .gif or .mp4.",
        ),
    ] = None
    resume: Annotated[
        bool,
        output_option(
            "--resume",
            help="Go on from FILE.checkpoint, which a run that was stopped or killed left, with "
            "the same pictures and options, to the same result.",
        ),
    ] = False
    checkpoints: Annotated[
        bool,
        typer.Option(
            "--checkpoints/--no-checkpoints",
            help="Keep the run's state in FILE.checkpoint until the result is saved.",
            rich_help_panel=OUTPUT,
        ),
    ] = True
    checkpoint_seconds: Annotated[float | None, output_option(min=0, hidden=True)] = None
    log: Annotated[
        Path | None, output_option(metavar="FILE", help="Write one JSON object for each step.")
    ] = None
    dry_run: DryRun = False
    as_json: Annotated[bool, output_option("--json", help="Print one JSON summary on stdout.")] = (
        False
    )
    verbose: Annotated[
        bool, output_option("--verbose", help="Print engine, losses, scales and algorithms too.")
    ] = False
    quiet: Quiet = False

    @property
    def styles(self) -> list[Path]:
        """All paintings that are blended."""
        return [self.style, *(self.add_style or ())]

    @property
    def style_masks(self) -> list[Path | None] | None:
        """Masks of the paintings that are blended, in their order."""
        return [Path(name) if name else None for name in self.style_mask or ()] or None

    @cached_property
    def regions(self) -> list[Region]:
        """All regions; raises :class:`OptionError` for one without a mask or a painting."""
        return [parse_region(text) for text in self.region or ()]

    @property
    def hides_progress(self) -> bool:
        """True if nothing is asked or shown before the end of the run."""
        return self.quiet or self.as_json


@dataclass(frozen=True, kw_only=True)
class Target:
    """Files of the result, once they are checked."""

    checkpoint: Path
    """File of the run's state; it may not exist."""

    resumed: bool
    """True if the run continues from the checkpoint."""

    overwrite: bool
    """True if existing outputs are replaced."""


@with_option_flags
@takes(Arguments)
def command(arguments: Arguments, *, given: dict[str, Any]) -> int:
    """Repaint the photo CONTENT in the style of the painting STYLE."""
    options = given_options(given)
    notify = printer(quiet=arguments.quiet)
    if arguments.dry_run:
        _print_plan(arguments, options, notify)
        return 0
    target = _check_target(arguments, options, notify)
    run, result, notes = _paint(arguments, options, target, notify)
    kept = result.stopped and arguments.checkpoints and target.checkpoint.exists()
    checkpoint = target.checkpoint if kept else None
    if arguments.as_json:
        print_out(json.dumps(result_summary(result, arguments.output, notes, checkpoint)))
    elif not arguments.quiet:
        lines = result_lines(
            result, run.sources, arguments.output, notes, checkpoint, verbose=arguments.verbose
        )
        for line in lines:
            print_out(line)
    return 130 if result.stopped and run.stop_asked else 0


def _check_target(
    arguments: Arguments, options: StylizeOptions, notify: Callable[[str], None]
) -> Target:
    """Check the outputs before the work, and ask on a terminal before a result is replaced.

    Raises :class:`PictureWriteError` or :class:`OptionError` for outputs that cannot be written.
    """
    from nstrt.runtime.pictures import check_writable
    from nstrt.runtime.run.checkpoint_file import is_checkpoint
    from nstrt.runtime.run.checkpoint_schedule import checkpoint_path

    output, checkpoint = arguments.output, checkpoint_path(arguments.output)
    inputs = _input_files(arguments, options)
    _check_distinct(arguments, inputs, checkpoint)
    if arguments.resume and not arguments.checkpoints:
        raise OptionError("--resume needs the checkpoint; leave --no-checkpoints out.")
    exists = checkpoint.exists()
    resumed = arguments.resume and exists
    # A result beside a checkpoint is that of the run that was stopped.
    overwrite = arguments.force or resumed or _confirm_replacing(arguments)
    check_writable(output, overwrite=overwrite)
    if arguments.save_every:
        from nstrt.plugins.cli.step_pictures import check_step_pictures

        check_step_pictures(output, inputs=inputs, overwrite=overwrite)
    if arguments.resume and not exists:
        notify(f"There is no {checkpoint}: starting from the beginning")
    elif arguments.checkpoints and is_checkpoint(checkpoint) and not arguments.resume:
        notify(
            f"{checkpoint} is of a run that was not finished, and will be replaced; --resume would "
            "go on from it"
        )
    return Target(checkpoint=checkpoint, resumed=resumed, overwrite=overwrite)


def _input_files(arguments: Arguments, options: StylizeOptions) -> list[Path]:
    """Files that the run reads."""
    paths = [arguments.content, *arguments.styles, arguments.protect]
    paths += arguments.style_masks or ()
    paths += [path for region in arguments.regions for path in region]
    return [
        *(path for path in paths if path is not None),
        Path(options.init),
        Path(options.weights),
    ]


def _check_distinct(arguments: Arguments, inputs: Sequence[Path], checkpoint: Path) -> None:
    """Refuse to write over an input or another output, whatever name it goes by."""
    outputs = {
        "result": arguments.output,
        "log": arguments.log,
        "preview": arguments.preview,
        "film": arguments.timelapse,
        "checkpoint": checkpoint,
    }
    others = list(inputs)
    for kind, path in outputs.items():
        if path is None:
            continue
        for other in others:
            if real_path(path) == real_path(other):
                raise PictureWriteError(
                    f"The {kind} '{path}' would be written over '{other}'; choose another name."
                )
        others.append(path)


def _confirm_replacing(arguments: Arguments) -> bool:
    """Ask on a terminal whether an existing result may be replaced."""
    output = arguments.output
    if arguments.hides_progress or not output.is_file():
        return False
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    return typer.confirm(f"{output} exists; replace it?", abort=True, err=True)


def _print_plan(
    arguments: Arguments, options: StylizeOptions, notify: Callable[[str], None]
) -> None:
    """Print the plan of a dry run; raises the errors that the run would end with."""
    from nstrt.runtime.pictures import check_writable
    from nstrt.runtime.run.checkpoint_schedule import checkpoint_path

    checkpoint = checkpoint_path(arguments.output)
    _check_distinct(arguments, _input_files(arguments, options), checkpoint)
    check_writable(arguments.output, overwrite=True)
    resumed = arguments.resume and checkpoint.exists()
    run = _new_run(arguments, options, notify, checkpoint=checkpoint if resumed else None)
    estimate = run.estimate()
    lines = list(plan_lines(run, estimate.plan, estimate.seconds))
    if resumed:
        lines.append(f"It goes on from {checkpoint}; the time is that of the rest.")
    elif arguments.resume:
        lines.append(f"There is no {checkpoint}: it starts from the beginning.")
    print_plan(estimate, lines, as_json=arguments.as_json, quiet=arguments.quiet)


def _new_run(
    arguments: Arguments,
    options: StylizeOptions,
    notify: Callable[[str], None],
    *,
    checkpoint: Path | None,
) -> Run:
    from nstrt.runtime.style_transfer import StyleTransfer

    return StyleTransfer(options, notify=notify).run(
        arguments.content,
        arguments.styles,
        style_mask=arguments.style_masks,
        regions=arguments.regions,
        protect=arguments.protect,
        preview_steps=arguments.save_every or None,
        started=STARTED,
        checkpoint=checkpoint,
        resume=arguments.resume and checkpoint is not None,
        checkpoint_seconds=arguments.checkpoint_seconds,
    )


def _paint(
    arguments: Arguments,
    options: StylizeOptions,
    target: Target,
    notify: Callable[[str], None],
) -> tuple[Run, Result, list[str]]:
    """Run, and save the result and the timelapse; returns notes for the report too."""
    from nstrt.runtime.outputs.timelapse import Timelapse

    with ExitStack() as stack:
        outputs = _open_outputs(arguments, target, notify, stack)
        checkpoint = target.checkpoint if arguments.checkpoints else None
        run = _new_run(arguments, options, notify, checkpoint=checkpoint)
        # Before the first step there is no picture to save: Ctrl-C ends the program.
        stack.enter_context(
            stop_on_signals(run.stop, exit_now=lambda: run.stop_asked or not run.painting)
        )
        result = _follow(run, outputs, notify, quiet=arguments.hides_progress)
        notes = [
            *result.notes,
            *result.save_or_rescue(
                arguments.output,
                overwrite=target.overwrite,
                strip_metadata=arguments.strip_metadata,
            ),
        ]
        run.remove_checkpoint()
        notes += [_save_film(output) for output in outputs if isinstance(output, Timelapse)]
    return run, result, notes


class Output(Protocol):
    """A file that is written while the run goes on."""

    def update(self, event: Event) -> None: ...


def _open_outputs(
    arguments: Arguments, target: Target, notify: Callable[[str], None], stack: ExitStack
) -> list[Output]:
    """The outputs that the command line names; ``stack`` closes them."""
    from nstrt.plugins.cli.log import StepLog
    from nstrt.plugins.cli.step_pictures import StepPictures
    from nstrt.runtime.outputs.preview_file import PreviewFile
    from nstrt.runtime.outputs.timelapse import Timelapse

    outputs: list[Output] = []
    if arguments.log is not None:
        log = StepLog(arguments.log, notify, append=target.resumed, overwrite=arguments.force)
        outputs.append(stack.enter_context(closing(log)))
    if arguments.preview is not None:
        seconds, overwrite = arguments.preview_seconds, target.overwrite
        outputs.append(
            PreviewFile(arguments.preview, seconds=seconds, overwrite=overwrite, notify=notify)
        )
    if arguments.timelapse is not None:
        film = Timelapse(arguments.timelapse, overwrite=target.overwrite)
        outputs.append(stack.enter_context(film))
    if arguments.save_every:
        outputs.append(StepPictures(arguments.output, notify))
    return outputs


def _follow(
    run: Run, outputs: Sequence[Output], notify: Callable[[str], None], *, quiet: bool
) -> Result:
    """Iterate the run: show each event and pass it to the outputs."""
    from nstrt.plugins.cli.progress import run_display
    from nstrt.runtime.run.events import Finished, Started

    with run_display(quiet=quiet) as show:
        for event in run:
            show(event)
            for output in outputs:
                output.update(event)
            if isinstance(event, Started) and not quiet:
                going_on = f"Going on after step {event.step}: " if event.step else ""
                verb = f"{going_on}Painting "
                for line in plan_lines(run, event.plan, event.seconds_left, verb=verb):
                    notify(line)
            elif isinstance(event, Finished):
                return event.result
    raise AssertionError("a run ends with Finished")


def _save_film(film: Timelapse) -> str:
    """Save the timelapse of a run whose result is saved; returns a note."""
    try:
        film.save()
    except PictureWriteError as error:
        raise PictureWriteError(f"The result is saved, its film is not: {error}") from error
    return f"the film is {film.path}"
