"""``nstrt info``: facts about this machine, or how a picture was made."""

from __future__ import annotations

import json
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
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
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
    if picture is not None:
        facts = _recipe(picture)
    else:
        from nstrt.runtime.analysis.environment import describe

        facts = {**describe(), "weights": describe_weights()}
    if as_json:
        print_out(json.dumps(facts, indent=1))
        return 0
    if picture is not None:
        print_out(_headline(facts))
    for line in format_facts(facts):
        print_out(line)
    return 0


def _recipe(picture: Path) -> dict[str, Any]:
    from nstrt.runtime.pictures import read_recipe

    recipe = read_recipe(picture)
    if recipe is not None and recipe.get("preview"):
        raise PictureReadError(
            f"'{picture}' is a preview, which does not say how it was made; name the result."
        )
    if recipe is None:
        raise PictureReadError(
            f"'{picture}' does not say how it was made: nstrt did not make it, or another "
            "program saved it since."
        )
    return recipe


def _headline(recipe: dict[str, Any]) -> str:
    """Pictures, preset, size and time of a run, in one line."""
    finest = recipe["plan"]["scales"][-1]
    stopped = f", stopped after {recipe['steps']} steps" if recipe.get("stopped") else ""
    return (
        f"{recipe['content']['name'] or 'a picture'} in the style of "
        f"{recipe['style']['name'] or 'a picture'}: preset {recipe['options']['preset']}, worked "
        f"at {finest['width']}x{finest['height']} pixels, {recipe['seconds']:.0f} s{stopped}"
    )
