"""``nstrt stylize``: a photo, a painting, the photo repainted."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nstrt.plugins.cli.console import print_out, printer
from nstrt.plugins.cli.flags import OUTPUT, QUIET, given_options, with_option_flags
from nstrt.plugins.cli.interrupt import stop_on_sigint
from nstrt.plugins.cli.log import StepLog
from nstrt.runtime.errors import OptionError, OutputExistsError, PictureWriteError

if TYPE_CHECKING:
    from nstrt.runtime.outputs.timelapse import Timelapse
    from nstrt.runtime.run.events import Event, Preview, Started
    from nstrt.runtime.run.result import Result
    from nstrt.runtime.run.run import Run

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "stylize"
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

PICTURES = "Several paintings, and masks"


@with_option_flags
def command(
    content: Path = typer.Argument(
        ..., metavar="CONTENT", help="The photo.", show_default=False, rich_help_panel="Arguments"
    ),
    style: Path = typer.Argument(
        ..., metavar="STYLE", help="The painting.", show_default=False, rich_help_panel="Arguments"
    ),
    add_style: list[Path] = typer.Option(
        [],
        "--add-style",
        metavar="FILE",
        help="Another painting, blended with STYLE (see --style-blend); any number of times.",
        rich_help_panel=PICTURES,
        show_default=False,
    ),
    region: list[str] = typer.Option(
        [],
        "--region",
        metavar="MASK[:PAINTING]",
        help="Where the mask is white, the style is another painting's, or without one STYLE's "
        "(see --rest); any number of times.",
        rich_help_panel=PICTURES,
        show_default=False,
    ),
    protect: Path = typer.Option(
        None,
        "--protect",
        metavar="MASK",
        help="Where the mask is white, stay near the photo, as for faces.",
        rich_help_panel=PICTURES,
        show_default=False,
    ),
    output: Path = typer.Option(
        ...,
        "-o",
        "--output",
        metavar="FILE",
        help="The result: .png, .tif, .jpg, .webp or .avif; 8 or 16 bits as the photo.",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
    force: bool = typer.Option(
        False, "--force", help="Replace the result if it exists.", rich_help_panel=OUTPUT
    ),
    save_every: int = typer.Option(
        0,
        "--save-every",
        metavar="N",
        min=0,
        help="Save the picture as it is every N steps, beside the result (8 bits, opaque).",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
    preview: Path = typer.Option(
        None,
        "--preview",
        metavar="FILE",
        help="A picture file that is rewritten as the picture improves, for a viewer that reloads.",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
    preview_seconds: float = typer.Option(
        2.0,
        "--preview-seconds",
        metavar="X",
        min=0.1,
        help="Seconds between previews. [2]",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
    timelapse: Path = typer.Option(
        None,
        "--timelapse",
        metavar="FILE",
        help="A film of the painting coming into being: .webp, .gif or .mp4.",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
    resume: bool = typer.Option(
        False,
        "--resume",
        help="Go on from FILE.checkpoint, which a run that was stopped or killed left, with the "
        "same pictures and options, to the same result.",
        rich_help_panel=OUTPUT,
    ),
    checkpoints: bool = typer.Option(
        True,
        "--checkpoints/--no-checkpoints",
        help="Keep the run's state in FILE.checkpoint until the result is saved.",
        rich_help_panel=OUTPUT,
    ),
    checkpoint_seconds: float = typer.Option(
        None, "--checkpoint-seconds", min=0, hidden=True, rich_help_panel=OUTPUT
    ),
    log: Path = typer.Option(
        None,
        "--log",
        metavar="FILE",
        help="Write one JSON object for each step.",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
    as_json: bool = typer.Option(
        False, "--json", help="Print one JSON summary on stdout.", rich_help_panel=OUTPUT
    ),
    quiet: bool = QUIET,
    given: dict[str, Any] | None = None,
) -> int:
    """Repaint the photo CONTENT in the style of the painting STYLE."""
    from nstrt.plugins.cli.clock import STARTED
    from nstrt.runtime.pictures import check_writable
    from nstrt.runtime.run.checkpointing import checkpoint_path

    options = given_options(given or {})
    regions = [_region(text) for text in region]
    used = [content, style, *add_style, *([] if protect is None else [protect])]
    used += [path for pair in regions for path in pair if path is not None]
    used += [Path(options.init), Path(options.weights)]
    checkpoint = checkpoint_path(output)
    files = {
        "result": output,
        "log": log,
        "preview": preview,
        "film": timelapse,
        "checkpoint": checkpoint,
    }
    for what, path in files.items():
        if path is not None:
            _check_apart(path, used, what)
            used.append(path)
    if resume and not checkpoints:
        raise OptionError("--resume needs the checkpoint; leave --no-checkpoints out.")
    resumed = resume and checkpoint.exists()
    # What a stopped run left is replaced by what it comes to.
    force = force or resumed or _asked_to_replace(output, quiet=quiet or as_json)
    check_writable(output, overwrite=force)
    _check_steps(output, save_every, force)
    say = printer(quiet=quiet)
    if resume and not resumed:
        say(f"There is no {checkpoint}: starting from the beginning")
    elif checkpoints and checkpoint.exists() and not resume:
        say(
            f"{checkpoint} is of a run that was not finished, and will be replaced; --resume would "
            "go on from it"
        )

    from nstrt.runtime.outputs.preview_file import PreviewFile
    from nstrt.runtime.outputs.timelapse import Timelapse
    from nstrt.runtime.style_transfer import StyleTransfer

    with ExitStack() as held:
        lines = held.enter_context(closing(StepLog(log, say, further=resumed)))
        watchers: list[Callable[[Event], None]] = []
        if preview is not None:
            shown = PreviewFile(preview, seconds=preview_seconds, overwrite=force, notify=say)
            watchers.append(shown.update)
        film: Timelapse | None = None
        if timelapse is not None:
            film = held.enter_context(Timelapse(timelapse, overwrite=force))
            watchers.append(film.update)
        run = StyleTransfer(options, notify=say).run(
            content,
            [style, *add_style],
            regions=regions,
            protect=protect,
            preview_steps=save_every or None,
            started=STARTED,
            checkpoint=checkpoint if checkpoints else None,
            resume=resume,
            checkpoint_seconds=checkpoint_seconds,
        )
        # Before there is a picture to keep, there is nothing to wait for.
        held.enter_context(
            stop_on_sigint(run.stop, at_once=lambda: run.stop_asked or not run.painting)
        )
        result = _follow(run, output, lines, watchers, say, quiet=quiet or as_json)
        notes = result.save_or_rescue(output, overwrite=force)
        run.remove_checkpoint()
        if film is not None:
            notes.append(_film_saved(film))
    if as_json:
        print_out(json.dumps(_summary(result, output, notes)))
    elif not quiet:
        _report(result, output, notes, checkpoint if checkpoint.exists() else None)
    return 130 if result.stopped and run.stop_asked else 0


def _film_saved(film: Timelapse) -> str:
    """What became of the film; the picture is saved already."""
    try:
        film.save()
    except PictureWriteError as error:
        raise PictureWriteError(f"The result is saved, its film is not: {error}") from error
    return f"the film is {film.path}"


def _follow(
    run: Run,
    output: Path,
    lines: StepLog,
    watchers: Sequence[Callable[[Event], None]],
    say: Callable[[str], None],
    *,
    quiet: bool,
) -> Result:
    """Draw, log and save what the run tells until it is over."""
    from nstrt.plugins.cli.progress import progress_display
    from nstrt.runtime.run.events import Finished, Preview, Started, Step

    with progress_display(quiet=quiet) as display:
        for event in run:
            display(event)
            for see in watchers:
                see(event)
            if isinstance(event, Started) and not quiet:
                say(_intention(run, event))
            elif isinstance(event, Step):
                lines.write(event)
            elif isinstance(event, Preview):
                _save_step(event, output, say)
            elif isinstance(event, Finished):
                return event.result
    raise AssertionError("a run ends with Finished")


def _check_apart(path: Path, others: list[Path], what: str) -> None:
    """Refuse to write over what the run reads, whatever name it goes by."""
    for other in others:
        if path.resolve() == other.resolve():
            raise PictureWriteError(
                f"The {what} '{path}' would be written over '{other}'; choose another name."
            )


def _asked_to_replace(output: Path, *, quiet: bool) -> bool:
    if quiet or not output.is_file() or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    return typer.confirm(f"{output} exists; replace it?", abort=True, err=True)


def _region(text: str) -> tuple[Path, Path | None]:
    """A mask and its painting; a colon may also be part of a name, as on Windows."""
    whole = Path(text)
    places = [place for place, letter in enumerate(text) if letter == ":"]
    pairs = [(Path(text[:place]), Path(text[place + 1 :])) for place in places]
    for pair in pairs:
        if all(path.is_file() for path in pair):
            return pair
    if not pairs or whole.is_file():
        return whole, None
    if text.endswith(":") or text.startswith(":"):
        raise OptionError(f"--region cannot be '{text}'; write it as mask.png:painting.jpg.")
    return pairs[-1]


def _step_path(output: Path, step: int | str) -> Path:
    number = f"{step:05}" if isinstance(step, int) else step
    return output.with_name(f"{output.stem}-step{number}{output.suffix}")


def _check_steps(output: Path, every: int, force: bool) -> None:
    if not every or force:
        return
    for path in output.parent.glob(_step_path(Path(_escaped(output.name)), "*").name):
        raise OutputExistsError(
            f"'{path}' exists from an earlier run; add --force to replace such pictures."
        )


def _escaped(name: str) -> str:
    import glob

    return glob.escape(name)


def _save_step(event: Preview, output: Path, say: Callable[[str], None]) -> None:
    from nstrt.runtime.pictures import Picture, save

    path = _step_path(output, event.step)
    try:
        save(Picture(rgb=event.rgb), path, recipe=None, overwrite=True)
    except PictureWriteError as error:
        say(f"A picture on the way was not saved: {error}")


def _report(result: Result, output: Path, notes: list[str], checkpoint: Path | None) -> None:
    plan = result.plan
    picture = result.picture
    if result.stopped:
        print_out(
            f"Stopped after {result.steps} of {plan.steps} steps; the best picture so far is kept"
        )
        if checkpoint is not None:
            print_out(f"  the same command with --resume goes on from {checkpoint}")
    print_out(f"Saved {output} ({picture.width}x{picture.height} pixels)")
    print_out(
        f"  {result.seconds:.0f} s, {result.steps} steps, engine {plan.engine} on {plan.provider} "
        f"({plan.device}, {plan.threads} threads, {plan.precision})"
    )
    print_out(
        f"  painted {100 * result.painted:.0f} %, loss {result.terms.loss:.4f} "
        f"(content {result.terms.content:.3f}, style {result.terms.style:.4f})"
    )
    if plan.nodes:
        placed = ", ".join(f"{count} on {name}" for name, count in plan.nodes.items())
        print_out(f"  nodes of the network by ONNX Runtime's own record: {placed}")
    for line in (*plan.reasons, *notes):
        print_out(f"  {line}")


def _intention(run: Run, event: Started) -> str:
    """What is about to be done, so that swapped pictures are noticed."""
    finest = event.plan.scales[-1]
    sources = run.sources
    photo, *paintings = (Path(str(source)).name for source in (sources.content, *sources.styles))
    painting = " and ".join(paintings)
    if sources.regions:
        count = len(sources.regions)
        painting += f", {count} region{'s' * (count > 1)} apart"
    going_on = f"Going on after step {event.step}: painting" if event.step else "Painting"
    return (
        f"{going_on} {photo} in the style of {painting}: {finest.width}x{finest.height} pixels, "
        f"{len(event.plan.scales)} scales, {event.plan.steps} steps"
    )


def _summary(result: Result, output: Path, notes: list[str]) -> dict[str, Any]:
    return {
        "output": str(output),
        "width": result.picture.width,
        "height": result.picture.height,
        "notes": notes,
        **result.recipe,
    }
