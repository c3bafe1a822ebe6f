"""``nstrt explore``: small pictures of many settings, on contact sheets."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from nstrt.plugins.cli.console import print_err, print_out, printer
from nstrt.plugins.cli.flags import given_options, given_values, with_option_flags
from nstrt.plugins.cli.parameters import (
    AsJson,
    Content,
    DryRun,
    Quiet,
    Style,
    input_option,
    output_option,
    takes,
)
from nstrt.plugins.cli.plan_report import (
    LONG_SECONDS,
    cost_line,
    enlargement_lines,
    print_plan,
)
from nstrt.plugins.cli.signals import stop_on_signals
from nstrt.runtime.errors import PictureWriteError
from nstrt.runtime.system.files import real_path

if TYPE_CHECKING:
    from nstrt.runtime.analysis.grid_search import Cell, Exploration
    from nstrt.runtime.planning.estimate import Estimate

__all__ = ["EXAMPLES", "Arguments", "command"]

EXAMPLES = """
nstrt explore photo.jpg painting.jpg --vary strength=0.2,0.5,0.8 -o sheet.jpg
nstrt explore photo.jpg painting.jpg --vary strength=0.3,0.7 --vary style-scale=0.5,1,2 -o sheet.jpg
nstrt explore photo.jpg painting.jpg --vary color=style,content --preset fast -o sheet.png --json
"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The command line, but for the flags of :class:`StylizeOptions`."""

    content: Content
    style: Style
    style_mask: Annotated[
        Path | None,
        input_option(metavar="MASK", help="Where the mask is white, the painting counts."),
    ] = None
    vary: Annotated[
        list[str],
        input_option(
            metavar="OPTION=X,Y...",
            help="An option of nstrt stylize and the values to try. Given again: the first goes "
            "across, the second down, each combination of further ones has a sheet of its own.",
        ),
    ]
    output: Annotated[
        Path,
        output_option(
            "-o",
            "--output",
            metavar="FILE",
            help="The sheet: .jpg, .png, .tif, .webp or .avif.",
        ),
    ]
    force: Annotated[bool, output_option("--force", help="Replace the sheet if it exists.")] = False
    dry_run: DryRun = False
    as_json: AsJson = False
    quiet: Quiet = False


@with_option_flags(
    helps={
        "size": "Long side of each small picture in pixels. [192]",
        "original_size": "For the commands that are printed, not for the small pictures.",
    }
)
@takes(Arguments)
def command(arguments: Arguments, *, given: dict[str, Any]) -> int:
    """Try options on CONTENT at small size, for a sheet to choose from."""
    given_options(given)
    from nstrt.runtime.analysis.grid_search import SIZE, Exploration, parse_axis, sheet_paths

    values = given_values(given)
    size = values.pop("size", SIZE)
    exploration = Exploration(
        arguments.content,
        arguments.style,
        [parse_axis(text) for text in arguments.vary],
        style_mask=arguments.style_mask,
        given=values,
        size=size,
        notify=printer(quiet=arguments.quiet),
    )
    sheets = sheet_paths(arguments.output, exploration.pages)
    _check_sheets(sheets, arguments)
    if arguments.dry_run or not (arguments.quiet or arguments.as_json):
        estimate = exploration.estimate()
        lines = list(_plan_lines(exploration, estimate))
        if arguments.dry_run:
            print_plan(estimate, lines, as_json=arguments.as_json, quiet=arguments.quiet)
            return 0
        for line in lines:
            print_err(line)
    _follow(exploration, quiet=arguments.quiet or arguments.as_json)
    if not exploration.results:
        raise KeyboardInterrupt
    _save_sheets(exploration, sheets, arguments)
    if arguments.as_json:
        print_out(json.dumps(_summary(exploration, sheets, arguments)))
    elif not arguments.quiet:
        for cell in exploration.cells:
            print_out(f"{cell.number:>3}  {_stylize_command(cell, arguments)}")
        for path in sheets:
            print_out(f"Saved {path}")
        for note in exploration.notes:
            print_out(f"  {note}")
    return 130 if exploration.stopped else 0


def _plan_lines(exploration: Exploration, estimate: Estimate) -> Iterator[str]:
    """Number and size of the pictures, time and memory."""
    finest = estimate.plan.scales[-1]
    count, pages = len(exploration.cells), exploration.pages
    yield (
        f"{count} picture{'s' * (count > 1)} of {finest.width}x{finest.height} pixels on "
        f"{pages} sheet{'s' * (pages > 1)}."
    )
    yield cost_line(estimate.plan, estimate.seconds)
    yield from enlargement_lines(estimate.plan, exploration.pictures[0].size)
    if estimate.seconds > LONG_SECONDS:
        yield (
            "That is more than ten minutes: fewer values, a smaller --size or --preset fast take "
            "less, and Ctrl-C keeps the pictures so far."
        )


def _check_sheets(sheets: Sequence[Path], arguments: Arguments) -> None:
    """Refuse sheets that cannot be written, before the work."""
    from nstrt.runtime.pictures import check_writable

    given = arguments.content, arguments.style, arguments.style_mask
    sources = [path for path in given if path is not None]
    for path in sheets:
        if real_path(path) in map(real_path, sources):
            raise PictureWriteError(
                f"The sheet '{path}' would be written over its source; choose another name."
            )
        check_writable(path, overwrite=arguments.force)


def _follow(exploration: Exploration, *, quiet: bool) -> None:
    """Paint all cells and show their progress."""
    from nstrt.plugins.cli.progress import jobs_display
    from nstrt.runtime.options.text import format_flags
    from nstrt.runtime.run.events import Finished

    with (
        stop_on_signals(exploration.stop, exit_now=lambda: exploration.stopped),
        jobs_display(len(exploration.cells), quiet=quiet) as display,
    ):
        for cell, event in exploration:
            name = shlex.join(format_flags(cell.changes))
            if isinstance(event, Finished):
                painted, seconds = 100 * event.painted, event.result.seconds
                display.finish(cell.number, name, f"painted {painted:.0f} %  {seconds:.0f} s")
            else:
                display.update(cell.number, name, event)


def _save_sheets(exploration: Exploration, sheets: Sequence[Path], arguments: Arguments) -> None:
    from nstrt.runtime.analysis.contact_sheet import contact_sheet
    from nstrt.runtime.pictures import rescued, save
    from nstrt.runtime.run.recipe import recipe_of_kind

    content, style = arguments.content, arguments.style
    for page, path in enumerate(sheets):
        sheet = contact_sheet(
            exploration, page, content=content.name, style=style.name, stem=content.stem
        )
        write = partial(save, sheet, recipe=recipe_of_kind("sheet"), overwrite=arguments.force)
        rescued(write, path)


def _stylize_command(cell: Cell, arguments: Arguments) -> str:
    """The command line that paints a cell at full size."""
    content = arguments.content
    return cell.command(str(content), str(arguments.style), f"{content.stem}-{cell.number}.png")


def _summary(
    exploration: Exploration, sheets: Sequence[Path], arguments: Arguments
) -> dict[str, Any]:
    cells = []
    for cell in exploration.cells:
        result = exploration.results.get(cell.number)
        cells.append(
            {
                "number": cell.number,
                "sheet": str(sheets[cell.page]),
                "row": cell.row,
                "column": cell.column,
                "options": dict(cell.changes),
                "command": _stylize_command(cell, arguments),
                "painted": None if result is None else result.painted,
                "loss": None if result is None else result.terms.loss,
            }
        )
    return {
        "sheets": [str(path) for path in sheets],
        "notes": list(exploration.notes),
        "cells": cells,
    }
