"""How a picture was made, as it is stored in the picture: names and hashes, never paths."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nstrt.runtime.loss.terms import LossTerms
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.pictures import Picture
from nstrt.runtime.planning.plan import Plan
from nstrt.runtime.run.inputs import RunInputs, identity
from nstrt.runtime.system.host import versions

__all__ = ["differences", "recipe_of", "run_identity"]

_SHAPELESS = ("threads", "max_memory")
"""Options that say what a run may take, and shape no picture beyond its rounding."""


def run_identity(
    options: StylizeOptions, pictures: Mapping[str, str], start: Picture | None
) -> dict[str, Any]:
    """What makes a run the one that it is: checksums of its ``pictures``, by what they are to it,
    and its ``options``.

    Names and folders do not count, so that a run can be gone on with from elsewhere; nor does what
    it may take of the machine, which is in its plan.
    """
    asked = {name: value for name, value in options.as_dict().items() if name not in _SHAPELESS}
    asked["weights"] = Path(options.weights).name
    found = dict(pictures)
    if start is not None:
        # What was given in its place may have been no file.
        asked["init"] = ""
        found["picture for --init"] = start.sha256
    return {"pictures": found, "options": asked}


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
    """The facts of one run as plain values.

    ``weights`` is what the model file says of its weights; ``start`` is the picture file that
    the painting started from, if it was one.
    """
    recipe: dict[str, Any] = {
        "nstrt": version("nstrt"),
        **inputs.identities(),
        "options": _asked(options),
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


def differences(
    recipe: Mapping[str, Any],
    options: StylizeOptions,
    *,
    content: str,
    style: str,
    start: str | None,
) -> list[str]:
    """What in a result's recipe differs from a run to come, in words; nothing if it is its own.

    ``content``, ``style`` and ``start`` are the checksums of the picture files. Threads, memory
    and versions do not count: they change no more than rounding.
    """
    found = []
    for what, checksum in (("content", content), ("style", style), ("init", start)):
        if _checksum(recipe, what) != checksum:
            found.append(f"{_WORDS[what]} was another")
    for what, words in _MORE.items():
        if recipe.get(what):
            found.append(f"it had {words}")
    if recipe.get("stopped"):
        found.append(f"it was stopped after {recipe.get('steps')} steps")
    recorded_options = recipe.get("options")
    recorded_options = recorded_options if isinstance(recorded_options, dict) else {}
    # As JSON holds them: lists for tuples.
    for name, value in json.loads(json.dumps(_asked(options))).items():
        before = recorded_options.get(name, value)
        if name not in _SHAPELESS and before != value:
            flag = name.replace("_", "-")
            found.append(f"{flag} was {_shown(before)} and is {_shown(value)} now")
    return found


_MORE = {"styles": "several paintings", "regions": "regions", "protect": "a protected part"}
"""What the runs of a batch do not have."""

_WORDS = {"content": "the photo", "style": "the painting", "init": "what it starts from"}


def _checksum(recipe: Mapping[str, Any], what: str) -> str | None:
    identity = recipe.get(what)
    return identity.get("sha256") if isinstance(identity, dict) else None


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(_shown(part) for part in value) or "the preset's"
    return "the default" if value is None else str(value)


def _asked(options: StylizeOptions) -> dict[str, Any]:
    asked = options.as_dict()
    for name in ("init", "weights"):
        asked[name] = Path(asked[name]).name
    return asked
