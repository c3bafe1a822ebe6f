"""The result of a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nstrt.runtime.loss.terms import LossTerms
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.pictures import Picture, rescued, save
from nstrt.runtime.planning.plan import Plan
from nstrt.runtime.system.words import is_offered, spelled

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["STRIPPED", "Result", "enlargement_notes"]

STRIPPED = "stripped"
"""Entry of a recipe whose file was saved without the photo's data."""

_MUCH_ENLARGED = 1.5
"""Enlargement above which a note names the size that needs none."""


def enlargement_notes(painted: int, long_side: int) -> Iterator[str]:
    """A note if a result that was painted at ``painted`` pixels was much enlarged.

    There is none in a dialog that enlarges every result.
    """
    times = long_side / painted
    if times > _MUCH_ENLARGED and is_offered("original_size"):
        yield (
            f"The result was painted at {painted} pixels and enlarged {times:.1f} times; "
            f"{spelled('size', long_side)} would paint it at full size."
        )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Result:
    """A finished picture, with the plan and the recipe that made it."""

    picture: Picture
    """The picture, with the photo's transparency and depth."""

    options: StylizeOptions
    """Options of the run."""

    plan: Plan
    """Plan of the run."""

    terms: LossTerms
    """The loss of the picture at the finest scale that was reached."""

    painted: float
    """One minus the style loss over that of the photo itself, 0 to 1."""

    seconds: float
    """Duration of the run in seconds."""

    stopped: bool
    """True if the run ended before its plan was complete."""

    steps: int
    """Steps that were taken."""

    recipe: dict[str, Any]
    """Recipe, as it is stored in the file; it contains no paths."""

    notes: tuple[str, ...] = ()
    """Sentences, each once: what reading the pictures repaired, converted or left out, and which
    size needs no large enlargement."""

    def __repr__(self) -> str:
        return (
            f"<Result {self.picture.width}x{self.picture.height}, "
            f"painted {100 * self.painted:.0f} % in {self.steps} step{'s' * (self.steps != 1)}, "
            f"{self.seconds:.1f} s"
            f"{', stopped' * self.stopped}>"
        )

    def to_pillow(self) -> Image.Image:
        """The picture as an 8-bit Pillow image."""
        return self.picture.to_pillow()

    def to_array(self, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """The picture as height x width x 3, or 4 with transparency.

        float32 goes from 0 to 1; uint8 and uint16 use their whole range.
        """
        return self.picture.to_array(dtype)

    def save(
        self, path: str | Path, *, overwrite: bool = False, strip_metadata: bool = False
    ) -> list[str]:
        """Write the picture with its recipe and the photo's data, whole or not at all.

        The photo's data are its resolution and its EXIF, IPTC and XMP properties, such as author,
        time and place; ``strip_metadata`` leaves them out. Returns sentences on what is left out
        otherwise.
        """
        recipe = {**self.recipe, STRIPPED: True} if strip_metadata else self.recipe
        return save(
            self.picture, path, recipe=recipe, overwrite=overwrite, strip_metadata=strip_metadata
        )

    def save_or_rescue(
        self, path: str | Path, *, overwrite: bool = False, strip_metadata: bool = False
    ) -> list[str]:
        """Save the picture, or keep it in the temporary folder if ``path`` cannot be written.

        Then raises :class:`PictureWriteError`, which names that folder.
        """

        def write(target: Path) -> list[str]:
            return self.save(target, overwrite=overwrite, strip_metadata=strip_metadata)

        return rescued(write, Path(path))
