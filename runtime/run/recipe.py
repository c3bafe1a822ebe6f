"""Recipe of a picture, stored inside it: names and checksums, never paths."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nstrt.runtime.loss.terms import LossTerms
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.options.presets import PRESETS
from nstrt.runtime.pictures import Picture
from nstrt.runtime.planning.plan import Plan
from nstrt.runtime.run.inputs import RunInputs
from nstrt.runtime.run.painting import identity
from nstrt.runtime.system.host import versions

__all__ = ["differences", "recipe_of", "recipe_of_kind", "run_identity"]

_RESOURCE_OPTIONS = ("threads", "max_memory")
"""Options that limit resources and change nothing but rounding."""


def run_identity(
    options: StylizeOptions, pictures: Mapping[str, str], start: Picture | None
) -> dict[str, Any]:
    """Identity of a run: checksums of its ``pictures`` by role, and its options.

    Names and folders are left out, so that a run can resume elsewhere. Resource limits are left
    out, because the plan has them.
    """
    given = {
        name: value for name, value in options.as_dict().items() if name not in _RESOURCE_OPTIONS
    }
    given["weights"] = Path(options.weights).name
    checksums = dict(pictures)
    if start is not None:
        # An array or image in place of a file has no name.
        given["init"] = ""
        checksums["picture to start from"] = start.sha256
    return {"pictures": checksums, "options": given}


def recipe_of(
    options: StylizeOptions,
    plan: Plan,
    *,
    weights: Mapping[str, str],
    inputs: RunInputs,
    start: Picture | None,
    terms: LossTerms,
    painted: float,
    steps: int,
    stopped: bool,
    seconds: float,
) -> dict[str, Any]:
    """The recipe of one run as plain values.

    ``weights`` describes the network's weights; ``start`` is the picture that the run began with.
    """
    recipe: dict[str, Any] = {
        "nstrt": version("nstrt"),
        **inputs.identities(),
        "options": _option_values(options),
        "weights": dict(weights),
        "plan": plan.as_dict(),
        "versions": versions(),
        "losses": {**asdict(terms), "painted": painted},
        "steps": steps,
        "stopped": stopped,
        "seconds": round(seconds, 2),
    }
    if start is not None:
        recipe["init"] = identity(start)
    return recipe


def recipe_of_kind(kind: str) -> dict[str, Any]:
    """The recipe of a ``preview``, ``sheet`` or ``film``, which no run can repeat."""
    return {"nstrt": version("nstrt"), kind: True}


def differences(
    recipe: Mapping[str, Any],
    options: StylizeOptions,
    *,
    content: str,
    style: str,
    style_mask: str | None,
    start: str | None,
) -> list[str]:
    """Phrases for how a result's recipe differs from a planned run; empty if it does not.

    ``content``, ``style``, ``style_mask`` and ``start`` are checksums of the picture files.
    Threads, memory and versions are ignored, because they change nothing but rounding.
    """
    phrases = []
    for what, checksum in (("content", content), ("style", style), ("init", start)):
        if _checksum(recipe, what) != checksum:
            phrases.append(f"{_WORDS[what]} was another")
    painting = recipe.get("style")
    if _checksum(painting if isinstance(painting, dict) else {}, "mask") != style_mask:
        phrases.append("the painting's mask was another")
    for what, words in _EXTRA_INPUTS.items():
        if recipe.get(what):
            phrases.append(f"it had {words}")
    if recipe.get("stopped"):
        phrases.append(f"it was stopped after {recipe.get('steps')} steps")
    recorded_options = recipe.get("options")
    recorded_options = recorded_options if isinstance(recorded_options, dict) else {}
    preset, recorded_preset = options.preset, recorded_options.get("preset", options.preset)
    values, preset_values = _stored_values(options), _stored_preset_values(preset)
    recorded_preset_values = _stored_preset_values(recorded_preset)
    for name, value in values.items():
        # An option that the recipe's version did not have was at its default.
        before = recorded_options.get(name, recorded_preset_values.get(name, value))
        if name in _RESOURCE_OPTIONS or before == value:
            continue
        # The names of two presets stand for the options that differ between them.
        presets = preset_values.get(name), recorded_preset_values.get(name)
        if name == "preset" or (value, before) != presets:
            phrases.append(f"{name.replace('_', '-')} was {_shown(before)} and is {_shown(value)}")
    return phrases


_EXTRA_INPUTS = {"styles": "several paintings", "regions": "regions", "protect": "a protected part"}
"""Inputs that no run of a batch has."""

_WORDS = {"content": "the photo", "style": "the painting", "init": "what it starts from"}


def _checksum(recipe: Mapping[str, Any], what: str) -> str | None:
    identity = recipe.get(what)
    return identity.get("sha256") if isinstance(identity, dict) else None


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(_shown(part) for part in value) or "the preset's"
    return "the default" if value is None else str(value)


def _stored_values(options: StylizeOptions) -> dict[str, Any]:
    """Option values as JSON stores them: lists for tuples."""
    values: dict[str, Any] = json.loads(json.dumps(_option_values(options)))
    return values


def _stored_preset_values(preset: object) -> dict[str, Any]:
    """The values of a preset; empty if this version has no such preset."""
    return _stored_values(StylizeOptions.of(str(preset))) if preset in PRESETS else {}


def _option_values(options: StylizeOptions) -> dict[str, Any]:
    """Option values with file names in place of paths."""
    values = options.as_dict()
    for name in ("init", "weights"):
        values[name] = Path(values[name]).name
    return values
