"""How a picture was made, as it is stored in the picture: names and hashes, never paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nstrt.runtime.machine import versions
from nstrt.runtime.options import INITS, StylizeOptions
from nstrt.runtime.pictures import Picture
from nstrt.runtime.plan import Plan
from nstrt.runtime.terms import LossTerms

__all__ = ["asked_for", "recipe_of"]


def asked_for(options: StylizeOptions, pictures: Mapping[str, Picture]) -> dict[str, Any]:
    """What makes a run the one that it is: checksums of its ``pictures``, by what they are to it,
    and its ``options``.

    Names and folders do not count, so that a run can be gone on with from elsewhere.
    """
    asked = options.as_dict()
    asked["weights"] = Path(options.weights).name
    if options.init not in INITS:
        del asked["init"]
    checksums = {name: picture.sha256 for name, picture in pictures.items()}
    return {"pictures": checksums, "options": asked}


def recipe_of(
    options: StylizeOptions,
    plan: Plan,
    *,
    weights: Mapping[str, str],
    content: Picture,
    style: Picture,
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
    asked = options.as_dict()
    asked["init"] = options.init if start is None else start.name
    asked["weights"] = Path(options.weights).name
    recipe: dict[str, Any] = {
        "nstrt": version("nstrt"),
        "content": _identity(content),
        "style": _identity(style),
        "options": asked,
        "weights": dict(weights),
        "plan": plan.as_dict(),
        "versions": versions(),
        "losses": {**asdict(terms), "painted": painted},
        "steps": steps,
        "stopped": stopped,
        "seconds": round(seconds, 2),
    }
    if start is not None:
        recipe["init"] = _identity(start)
    return recipe


def _identity(picture: Picture) -> dict[str, str]:
    return {"name": picture.name, "sha256": picture.sha256}
