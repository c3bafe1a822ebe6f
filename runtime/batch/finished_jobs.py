"""Results of jobs that exist already, compared with the jobs by the recipe inside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nstrt.runtime.batch.job import Job
from nstrt.runtime.errors import PictureReadError
from nstrt.runtime.options.choices import INITS
from nstrt.runtime.pictures import read_picture, read_recipe
from nstrt.runtime.run.recipe import differences
from nstrt.runtime.run.result import STRIPPED
from nstrt.runtime.system.files import sha256_of

__all__ = ["differences_of_result"]


def differences_of_result(
    job: Job, *, follows: bool = False, repainted: bool = False
) -> list[str] | None:
    """Phrases for how the existing result of a job differs from the job; None without a result.

    The list is empty if a batch may skip the job. ``follows``: the job is a frame that starts from
    a previous one; ``repainted``: that one was painted anew.
    """
    if not job.output.is_file():
        return None
    try:
        recipe = read_recipe(job.output)
    except PictureReadError:
        recipe = None
    if recipe is None or "options" not in recipe:
        return ["it does not say how it was made"]
    changes = differences(
        recipe,
        job.options,
        content=_checksum(job.content),
        style=_checksum(job.style),
        style_mask=None if job.style_mask is None else _checksum(job.style_mask),
        start=_init_checksum(job, recipe, follows=follows),
    )
    if job.strip_metadata != bool(recipe.get(STRIPPED)):
        has = "keeps" if job.strip_metadata else "lacks"
        changes.append(f"it {has} the photo's own data")
    if repainted:
        changes.append("the frame before it is painted anew")
    return changes


def _init_checksum(job: Job, recipe: Mapping[str, Any], *, follows: bool) -> str | None:
    """The checksum of the picture that the run starts from; None if it starts from no file."""
    init = recipe.get("init")
    if follows and isinstance(init, dict):
        # The start was warped from the previous frames, and their recipes were checked.
        checksum: str | None = init.get("sha256")
        return checksum
    return None if job.options.init in INITS else _checksum(Path(job.options.init))


def _checksum(path: Path) -> str:
    """The checksum of a picture file, equal to :attr:`Picture.sha256`."""
    try:
        return sha256_of(path)
    except OSError:
        # Reading the picture raises an error that says what is wrong with the file.
        return read_picture(path).sha256
