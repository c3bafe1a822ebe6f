"""``nstrt info``: facts about this machine, or how a picture was made."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from nstrt.plugins.cli.console import print_out
from nstrt.plugins.cli.facts import describe_weights, format_facts
from nstrt.runtime.errors import OptionError, PictureReadError

__all__ = ["EXAMPLES", "command"]

EXAMPLES = """
nstrt info
nstrt info out.png
nstrt info out.png --full
nstrt info --json
nstrt info --report
"""


def command(
    picture: Annotated[
        Path | None,
        typer.Argument(
            metavar="[PICTURE]", help="A result: shows how it was made.", show_default=False
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Print all options, algorithms and versions too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all as one JSON object.")] = False,
    report: Annotated[
        bool,
        typer.Option(
            "--report",
            help="Print all that helps to find a fault, GIMP's part too, to paste.",
        ),
    ] = False,
) -> int:
    """Show what would run on this machine, or how PICTURE was made."""
    if report:
        if as_json or picture is not None:
            other = "--json" if as_json else "a picture"
            raise OptionError(f"--report is a text of its own; ask for it without {other}.")
        from nstrt.plugins.cli.report import report_lines

        for line in report_lines():
            print_out(line)
        return 0
    for line in _lines(picture, full=full, as_json=as_json):
        print_out(line)
    return 0


def _lines(picture: Path | None, *, full: bool, as_json: bool) -> Iterable[str]:
    from nstrt.plugins.cli.info_summary import machine_lines, picture_lines

    summary: Iterable[str]
    if picture is None:
        from nstrt.runtime.analysis.environment import describe

        facts = {**describe(), "weights": describe_weights()}
        summary = machine_lines(facts)
    else:
        facts = _recipe(picture)
        try:
            summary = list(picture_lines(facts, picture))
        except (LookupError, TypeError, ValueError, AttributeError):
            # Another version wrote the recipe: its facts are shown as they are.
            return [json.dumps(facts, indent=1)] if as_json else format_facts(facts)
    if as_json:
        return [json.dumps(facts, indent=1)]
    if full:
        return [*summary, *format_facts(facts)]
    command = ["nstrt", "info", *([] if picture is None else [str(picture)]), "--full"]
    return [*summary, f"All of it: {shlex.join(command)}"]


_KINDS = {"preview": "a preview", "sheet": "a contact sheet", "film": "the film of a run"}
"""Pictures of nstrt that are no results, by the key in their recipe."""


def _recipe(picture: Path) -> dict[str, Any]:
    from nstrt.runtime.pictures import read_recipe

    recipe = read_recipe(picture)
    for kind, words in _KINDS.items():
        if recipe is not None and recipe.get(kind):
            raise PictureReadError(
                f"'{picture}' is {words}, which does not say how it was made; name a result."
            )
    if recipe is None:
        raise PictureReadError(
            f"'{picture}' does not say how it was made: nstrt did not make it, or another "
            "program saved it since."
        )
    return recipe
