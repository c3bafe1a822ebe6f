"""Masks from pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from nstrt.runtime.arrays import Mask
from nstrt.runtime.errors import OptionError
from nstrt.runtime.pictures.load import as_picture
from nstrt.runtime.pictures.picture import Picture, PictureSource

__all__ = ["MaskPicture"]

_BLACK = 0.01
"""A mask whose largest value is below this counts as black."""


_ASPECT_TOLERANCE = 0.02
"""Relative difference allowed between a mask's and its picture's proportions."""


_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Luma weights of ITU-R BT.601, as picture programs use them for gray values."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskPicture:
    """A mask: the gray values of a picture times its transparency."""

    values: Mask
    """Height x width, from 0 (black or transparent) to 1 (white)."""

    name: str
    """File name without folders; empty for pictures from memory."""

    sha256: str
    """As :attr:`Picture.sha256`."""

    notes: tuple[str, ...] = ()
    """As :attr:`Picture.notes`."""

    @classmethod
    def read(cls, source: PictureSource, picture: Picture, role: str = "photo") -> MaskPicture:
        """Read a mask for ``picture``, of any size with its proportions.

        ``role`` names the picture in the error's sentence. Raises :class:`OptionError` for other
        proportions, and for a black mask.
        """
        mask = as_picture(source)
        name = f"The mask '{mask.name}'" if mask.name else "The mask"
        ratio = mask.width * picture.height / (mask.height * picture.width)
        slack = _ASPECT_TOLERANCE + 1 / min(*mask.size, *picture.size)
        if not 1 / (1 + slack) <= ratio <= 1 + slack:
            whose = f"the {role} '{picture.name}'" if picture.name else f"the {role}"
            raise OptionError(
                f"{name} is {mask.width}x{mask.height} pixels and {whose} "
                f"{picture.width}x{picture.height}; save it with the {role}'s proportions."
            )
        values = np.clip(mask.rgb @ _LUMA, 0, 1)
        # White is exactly 1 in spite of rounding.
        values[values > 1 - 1e-6] = 1
        if mask.alpha is not None:
            values *= mask.alpha
        if values.max() < _BLACK:
            raise OptionError(f"{name} is black all over; paint white what it is for.")
        return cls(values=values, name=mask.name, sha256=mask.sha256, notes=mask.notes)

    def at(self, width: int, height: int) -> Mask:
        """The mask at another size.

        Box means when shrinking and linear interpolation when enlarging keep flat areas exact.
        """
        rows, columns = self.values.shape
        if (rows, columns) == (height, width):
            return self.values
        method = Image.Resampling.BOX if width <= columns else Image.Resampling.BILINEAR
        mask = Image.fromarray(self.values).resize((width, height), method)
        return np.clip(np.asarray(mask, np.float32), 0, 1)
