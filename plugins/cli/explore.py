"""``nstrt explore``: which settings? Small pictures of many, on one sheet."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nstrt.plugins.cli.console import print_out, printer
from nstrt.plugins.cli.flags import OUTPUT, Quiet, given_options, given_values, with_option_flags
from nstrt.plugins.cli.interrupt import stop_on_sigint
from nstrt.runtime.errors import PictureWriteError

if TYPE_CHECKING:
    from nstrt.runtime.analysis.grid_search import Cell, Exploration

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "explore"
EXAMPLES = """
nstrt explore photo.jpg painting.jpg --vary strength=0.2,0.5,0.8 -o sheet.jpg
nstrt explore photo.jpg painting.jpg --vary strength=0.3,0.7 --vary style-scale=0.5,1,2 -o sheet.jpg
nstrt explore photo.jpg painting.jpg --vary color=style,content --preset fast -o sheet.png --json
"""


@with_option_flags
def command(
    content: Path = typer.Argument(
        ..., metavar="CONTENT", help="The photo.", show_default=False, rich_help_panel="Arguments"
    ),
    style: Path = typer.Argument(
        ..., metavar="STYLE", help="The painting.", show_default=False, rich_help_panel="Arguments"
    ),
    vary: list[str] = typer.Option(
        ...,
        "--vary",
        metavar="OPTION=X,Y...",
        help="An option of nstrt stylize and the values to try. Given again: the first goes "
        "across, the second down, each combination of further ones has a sheet of its own.",
        rich_help_panel="Arguments",
        show_default=False,
    ),
    output: Path = typer.Option(
        ...,
        "-o",
        "--output",
        metavar="FILE",
        help="The sheet: .jpg, .png, .tif, .webp or .avif.",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
    force: bool = typer.Option(
        False, "--force", help="Replace the sheet if it exists.", rich_help_panel=OUTPUT
    ),
    as_json: bool = typer.Option(
        False, "--json", help="Print one JSON object on stdout.", rich_help_panel=OUTPUT
    ),
    quiet: Quiet = False,
    given: dict[str, Any] | None = None,
) -> int:
    """Try options on CONTENT at small size (--size, else 192), for a sheet to choose from."""
    given_options(given or {})
    from nstrt.plugins.cli.progress import Item, counting_display
    from nstrt.runtime.analysis.contact_sheet import contact_sheet
    from nstrt.runtime.analysis.grid_search import SIZE, Exploration, parse_axis, sheet_paths
    from nstrt.runtime.pictures import check_writable, save
    from nstrt.runtime.run.events import Finished

    values = given_values(given or {})
    size = values.pop("size", SIZE)
    say = printer(quiet=quiet)
    axes = [parse_axis(text) for text in vary]
    exploration = Exploration(content, style, axes, given=values, size=size, notify=say)
    sheets = sheet_paths(output, exploration.pages)
    for path in sheets:
        if path.resolve() in (content.resolve(), style.resolve()):
            raise PictureWriteError(
                f"The sheet '{path}' would be written over its source; choose another name."
            )
        check_writable(path, overwrite=force)

    with (
        stop_on_sigint(exploration.stop, at_once=lambda: exploration.stopped),
        counting_display(len(exploration.cells), quiet=quiet or as_json) as show,
    ):
        for cell, event in exploration:
            over = None
            if isinstance(event, Finished):
                over = f"painted {100 * event.painted:.0f} %  {event.result.seconds:.0f} s"
            show(
                Item(
                    number=cell.number,
                    name=_words(cell),
                    fraction=event.fraction,
                    seconds_left=event.seconds_left,
                    over=over,
                )
            )
    if not exploration.results:
        raise KeyboardInterrupt
    for page, path in enumerate(sheets):
        sheet = contact_sheet(
            exploration, page, content=content.name, style=style.name, stem=content.stem
        )
        save(sheet, path, recipe=None, overwrite=force)
    if as_json:
        print_out(json.dumps(_facts(exploration, content, style, sheets)))
    elif not quiet:
        for cell in exploration.cells:
            print_out(f"{cell.number:>3}  {_command(cell, content, style)}")
        for path in sheets:
            print_out(f"Saved {path}")
    return 130 if exploration.stopped else 0


def _command(cell: Cell, content: Path, style: Path) -> str:
    return cell.command(str(content), str(style), f"{content.stem}-{cell.number}.png")


def _words(cell: Cell) -> str:
    from nstrt.runtime.options.text import format_flags

    return shlex.join(format_flags(cell.changes))


def _facts(
    exploration: Exploration, content: Path, style: Path, sheets: list[Path]
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
                "command": _command(cell, content, style),
                "painted": None if result is None else result.painted,
                "loss": None if result is None else result.terms.loss,
            }
        )
    return {"sheets": [str(path) for path in sheets], "cells": cells}
