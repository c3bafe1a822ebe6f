"""``nstrt info``: what would run here, or how a picture was made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from nstrt.plugins.cli.console import tell
from nstrt.runtime.model.errors import PictureReadError

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "info"
EXAMPLES = """
nstrt info
nstrt info out.png
nstrt info --json
"""


def command(
    picture: Path = typer.Argument(
        None, metavar="[PICTURE]", help="A result: shows how it was made.", show_default=False
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> int:
    """Show what would run on this machine, or how PICTURE was made."""
    if picture is not None:
        facts = _recipe(picture)
    else:
        from nstrt.runtime.info import describe

        facts = {**describe(), "weights": _weights()}
    if as_json:
        tell(json.dumps(facts, indent=1))
        return 0
    if picture is not None:
        tell(_in_short(facts))
    _show(facts)
    return 0


def _recipe(picture: Path) -> dict[str, Any]:
    from nstrt.runtime.pictures import read_recipe

    recipe = read_recipe(picture)
    if recipe is None:
        raise PictureReadError(
            f"'{picture}' does not say how it was made: nstrt did not make it, or another "
            "program saved it since."
        )
    return recipe


def _in_short(recipe: dict[str, Any]) -> str:
    """What most people want to know of a picture, in one line."""
    finest = recipe["plan"]["scales"][-1]
    stopped = f", stopped after {recipe['steps']} steps" if recipe.get("stopped") else ""
    return (
        f"{recipe['content']['name'] or 'a picture'} in the style of "
        f"{recipe['style']['name'] or 'a picture'}: preset {recipe['options']['preset']}, worked "
        f"at {finest['width']}x{finest['height']} pixels, {recipe['seconds']:.0f} s{stopped}"
    )


def _weights() -> dict[str, str]:
    """Which weights can be had here; only the exporter knows."""
    try:
        from nstrt.exporter.weights import weights_found
    except ImportError:
        return {"exporter": 'not installed; add it with: pip install "nstrt[full]"'}
    return weights_found()


def _show(facts: dict[str, Any], indent: int = 0) -> None:
    for name, value in facts.items():
        label = " " * indent + name.replace("_", " ")
        if isinstance(value, dict):
            tell(label)
            _show(value, indent + 2)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            tell(label)
            for item in value:
                tell(" " * (indent + 2) + ", ".join(f"{k} {v}" for k, v in item.items()))
        elif isinstance(value, list):
            tell(f"{label}: {', '.join(_plain(item) for item in value) or 'none'}")
        else:
            tell(f"{label}: {_plain(value)}")


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ":".join(_plain(item) for item in value)
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
