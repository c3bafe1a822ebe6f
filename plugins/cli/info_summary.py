"""``nstrt info`` in at most ten lines: a picture's recipe, or this machine."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nstrt.plugins.cli.settings import changed_values, settings_of
from nstrt.runtime.options.choices import INITS

__all__ = ["machine_lines", "picture_lines"]

_MACHINE_PROVIDERS = {"tensorrt": "TensorRT", "cuda": "CUDA", "coreml": "Core ML"}
"""Names of the providers besides the processor."""


def picture_lines(recipe: Mapping[str, Any], picture: Path) -> Iterator[str]:
    """Pictures, size, time and settings of a result, and the command that repeats it.

    The recipe may be another version's: facts that it lacks are left out.
    """
    from nstrt.runtime.planning.estimate import duration, place

    plan, options = recipe["plan"], recipe["options"]
    names = " and ".join(_name(each, "a painting") for each in _paintings(recipe))
    yield f"{picture.name}: {_name(recipe['content'], 'a photo')} in the style of {names}"
    finest, count = plan["scales"][-1], len(plan["scales"])
    yield (
        f"size: painted at {finest['width']}x{finest['height']} pixels, "
        f"in {count} scale{'s' * (count > 1)}"
    )
    most = sum(scale["iterations"] for scale in plan["scales"])
    steps = recipe["steps"]
    stopped = f", stopped early, of {most}" if recipe.get("stopped") else ""
    yield (
        f"time: {duration(recipe['seconds'])}, {steps} step{'s' * (steps != 1)}{stopped}, "
        f"{place(plan['provider'])} ({plan['device']})"
    )
    yield f"memory: {plan['memory'] / 1e9:.1f} GB planned"
    painted = recipe.get("losses", {}).get("painted")
    if painted is not None:
        yield f"painted: {100 * painted:.0f} % of the way from the photo's texture"
    extra = [f"{flag} {_name(pictures[0], 'a mask')}" for flag, *pictures in _masks(recipe)]
    yield f"settings: {', '.join([*settings_of(options), *extra]) or 'the defaults'}"
    yield f"made by: nstrt {recipe['nstrt']}"
    if recipe.get("init") and options.get("init") in INITS:
        # It started from the frame before, which the recipe does not hold.
        yield "again: as a frame of a film, by nstrt batch --frames"
    else:
        yield f"again: {shlex.join(_command(recipe, picture))}"


def _name(identity: Mapping[str, Any], otherwise: str) -> str:
    """A picture's file name; ``otherwise`` for a picture from memory."""
    return str(identity.get("name") or otherwise)


def _paintings(recipe: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The main paintings."""
    return list(recipe.get("styles") or [recipe["style"]])


def _masks(recipe: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Flag and mask of each painting, region and protected part; regions have more pictures."""
    for painting in _paintings(recipe):
        if painting.get("mask"):
            yield "style mask", painting["mask"]
    for region in recipe.get("regions", ()):
        painting = region.get("style")
        if painting is None:
            yield "region", region["mask"]
        elif painting.get("mask"):
            yield "region", region["mask"], painting, painting["mask"]
        else:
            yield "region", region["mask"], painting
    if recipe.get("protect"):
        yield "protect", recipe["protect"]


def _command(recipe: Mapping[str, Any], picture: Path) -> list[str]:
    """The command line that paints the picture again."""
    from nstrt.runtime.options.text import format_flags

    paintings = _paintings(recipe)
    first, *others = paintings
    words = ["nstrt", "stylize", _name(recipe["content"], "PHOTO"), _name(first, "PAINTING")]
    words += ["-o", picture.name]
    for other in others:
        words += ["--add-style", _name(other, "PAINTING")]
    masks = [painting.get("mask") for painting in paintings]
    if any(masks):
        for mask in masks:
            words += ["--style-mask", _name(mask, "MASK") if mask else ""]
    for flag, *pictures in _masks(recipe):
        if flag != "style mask":
            otherwise = ("MASK", "PAINTING", "MASK")
            words += [f"--{flag}", ":".join(map(_name, pictures, otherwise))]
    return [*words, *format_flags(changed_values(recipe["options"]))]


def machine_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Where this machine paints, with what, and whether it is ready."""
    from nstrt.runtime.planning.estimate import place

    versions, processor = facts["versions"], facts["processor"]
    chosen = facts["would_run"]
    yield f"nstrt {versions['nstrt']}, Python {versions['python']}, {versions['system']}"
    yield f"paints: {place(chosen['provider'])} ({chosen['device']})"
    threads = processor["threads"]
    yield (
        f"processor: {processor['name']}, {threads} core{'s' * (threads != 1)}, "
        f"{processor['free_memory']} of memory free"
    )
    cards = [
        name
        for provider, name in _MACHINE_PROVIDERS.items()
        if facts["providers"].get(provider, "").startswith("runs")
    ]
    yield f"graphics cards by: {', '.join(cards) or 'none of TensorRT, CUDA, Core ML runs here'}"
    yield f"default size: {chosen['default_size']} pixels on the long side"
    files, folder = facts["models"]["files"], facts["models"]["folder"]
    ready = "ready" if files else "prepared at the first run (about a minute, once)"
    yield f"network: {ready}, in {folder}"
    if not facts["compiled_loops"].startswith("cached"):
        yield f"compiled loops: {facts['compiled_loops']}"
    weights = facts["weights"]
    yield f"weights: {'; '.join(f'{name}: {words}' for name, words in weights.items())}"
