"""``nstrt stylize``: a photo, a painting, the photo repainted."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer

from nstrt.plugins.cli.flags import given_options, with_option_flags
from nstrt.plugins.cli.log import step_log
from nstrt.runtime.model.errors import OutputExistsError, PictureWriteError

if TYPE_CHECKING:
    from nstrt.runtime.events import Preview
    from nstrt.runtime.result import Result
    from nstrt.runtime.run import Run

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "stylize"
EXAMPLES = """
nstrt stylize photo.jpg painting.jpg -o out.png
nstrt stylize photo.jpg painting.jpg -o out.png --preset best --size 1024
nstrt stylize photo.tif painting.jpg -o out.tif --original-size --content-weight 0.3
nstrt stylize photo.jpg painting.jpg -o out.png --seed 1 --log run.jsonl --json
"""

OUTPUT = "Output"


@with_option_flags
def command(
    content: Path = typer.Argument(
        ..., metavar="CONTENT", help="The photo.", show_default=False, rich_help_panel="Arguments"
    ),
    style: Path = typer.Argument(
        ..., metavar="STYLE", help="The painting.", show_default=False, rich_help_panel="Arguments"
    ),
    output: Path = typer.Option(
        ...,
        "-o",
        "--output",
        metavar="FILE",
        help="The result: .png, .tif, .jpg, .webp or .avif.",
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
        help="Save the picture as it is every N steps, beside the result.",
        rich_help_panel=OUTPUT,
        show_default=False,
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
    quiet: bool = typer.Option(
        False, "-q", "--quiet", help="Print nothing but errors.", rich_help_panel=OUTPUT
    ),
    given: dict[str, Any] | None = None,
) -> int:
    """Repaint the photo CONTENT in the style of the painting STYLE."""
    from nstrt.plugins.cli import STARTED
    from nstrt.runtime.pictures import check_writable

    options = given_options(given or {})
    force = force or _asked_to_replace(output, quiet=quiet or as_json)
    check_writable(output, overwrite=force)
    _check_steps(output, save_every, force)
    say = _silent if quiet else _to_stderr

    with ExitStack() as stack:
        write_log = stack.enter_context(step_log(log, say))
        from nstrt.runtime.transfer import StyleTransfer

        run = StyleTransfer(options, notify=say).run(
            content, style, preview_steps=save_every or None, started=STARTED
        )
        stop = stack.enter_context(_interruptible(run))
        result = _follow(run, output, write_log, quiet=quiet or as_json)
        notes = _saved(result, output, force)
    if as_json:
        print(json.dumps(_summary(result, output, notes)))
    elif not quiet:
        _report(result, output, notes)
    return 130 if stop.asked else 0


def _follow(run: Run, output: Path, write_log: Any, *, quiet: bool) -> Result:
    """Draw, log and save what the run tells until it is over."""
    from nstrt.plugins.cli.progress import progress_display
    from nstrt.runtime.events import Finished, Preview, Step

    with progress_display(quiet=quiet) as display:
        for event in run:
            display(event)
            if isinstance(event, Step):
                write_log(event)
            elif isinstance(event, Preview):
                _save_step(event, output)
            elif isinstance(event, Finished):
                return event.result
    raise AssertionError("a run ends with Finished")


class _Stop:
    """Whether the person pressed Ctrl-C."""

    asked = False


@contextmanager
def _interruptible(run: Run) -> Iterator[_Stop]:
    """Ctrl-C ends the run after its step and keeps the picture; a second one ends at once."""
    stop = _Stop()

    def stopping(number: int, frame: FrameType | None) -> None:
        if stop.asked or not run.painting:
            raise KeyboardInterrupt
        stop.asked = True
        run.stop()

    earlier = signal.signal(signal.SIGINT, stopping)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, earlier)


def _asked_to_replace(output: Path, *, quiet: bool) -> bool:
    if quiet or not output.is_file() or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    return typer.confirm(f"{output} exists; replace it?", abort=True, err=True)


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


def _saved(result: Result, output: Path, force: bool) -> list[str]:
    """Save the result; where that fails now, save it elsewhere: minutes of work are not lost."""
    try:
        return result.save(output, overwrite=force)
    except PictureWriteError as error:
        folder = Path(tempfile.mkdtemp(prefix="nstrt-"))
        try:
            result.save(folder / f"{output.stem}.png")
        except PictureWriteError:
            raise error from None
        raise PictureWriteError(f"{error} The finished picture is safe in {folder}.") from error


def _save_step(event: Preview, output: Path) -> None:
    from nstrt.runtime.pictures import Picture, save

    path = _step_path(output, event.step)
    save(Picture(rgb=event.rgb), path, recipe=None, overwrite=True)


def _report(result: Result, output: Path, notes: list[str]) -> None:
    plan = result.plan
    picture = result.picture
    head = "Stopped; the best picture so far is" if result.stopped else "Saved"
    print(f"{head} {output} ({picture.width}x{picture.height} pixels)")
    print(
        f"  {result.seconds:.0f} s, {result.steps} steps, engine {plan.engine} on {plan.provider} "
        f"({plan.device}, {plan.threads} threads, {plan.precision})"
    )
    print(
        f"  painted {100 * result.painted:.0f} %, loss {result.terms.loss:.4f} "
        f"(content {result.terms.content:.3f}, style {result.terms.style:.4f})"
    )
    for line in (*plan.reasons, *notes):
        print(f"  {line}")


def _summary(result: Result, output: Path, notes: list[str]) -> dict[str, Any]:
    return {
        "output": str(output),
        "width": result.picture.width,
        "height": result.picture.height,
        "stopped": result.stopped,
        "notes": notes,
        **result.recipe,
    }


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def _silent(line: str) -> None:
    pass
