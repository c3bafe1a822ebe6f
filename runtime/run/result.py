"""What a run gives: the picture, and how it was made."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nstrt.runtime.errors import PictureWriteError
from nstrt.runtime.loss.terms import LossTerms
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.pictures import Picture, save
from nstrt.runtime.planning.plan import Plan

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Result"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """A finished picture."""

    picture: Picture
    """The picture, with the photo's transparency and depth."""

    options: StylizeOptions
    """What was asked for."""

    plan: Plan
    """What ran."""

    terms: LossTerms
    """The loss of the picture at the finest scale that was reached."""

    painted: float
    """How far it came from the photo's texture to the painting's, 0 to 1."""

    seconds: float
    """How long it took."""

    stopped: bool
    """Whether it was stopped before the plan was done."""

    steps: int
    """Steps that were taken."""

    recipe: dict[str, Any]
    """How it was made, as it is stored in the file: never a path."""

    def to_pillow(self) -> Image.Image:
        """The picture as an 8-bit Pillow image."""
        return self.picture.to_pillow()

    def to_array(self, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """The picture as height x width x 3 (4 with transparency): float32 in 0..1, uint8 or
        uint16."""
        return self.picture.to_array(dtype)

    def save(self, path: str | Path, *, overwrite: bool = False) -> list[str]:
        """Write it with its recipe, whole or not at all; returns what the format cannot hold."""
        return save(self.picture, path, recipe=self.recipe, overwrite=overwrite)

    def save_or_rescue(self, path: str | Path, *, overwrite: bool = False) -> list[str]:
        """The same; where that fails now, minutes of work are not lost: it is saved in the system's
        folder for temporary files, and the error says where."""
        path = Path(path)
        try:
            return self.save(path, overwrite=overwrite)
        except PictureWriteError as error:
            try:
                folder = Path(tempfile.mkdtemp(prefix="nstrt-"))
                self.save(folder / f"{path.stem}.png")
            except (OSError, PictureWriteError):
                raise error from None
            raise PictureWriteError(f"{error} The finished picture is safe in {folder}.") from error
