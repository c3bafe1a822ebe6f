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
"""Relative difference allowed between a mask's and the photo's proportions."""


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
    def read(cls, source: PictureSource, photo: Picture) -> MaskPicture:
        """Read a mask for ``photo``, of any size with the photo's proportions.

        Raises :class:`OptionError` for other proportions, and for a black mask.
        """
        picture = as_picture(source)
        name = f"The mask '{picture.name}'" if picture.name else "The mask"
        ratio = picture.width * photo.height / (picture.height * photo.width)
        slack = _ASPECT_TOLERANCE + 1 / min(*picture.size, *photo.size)
        if not 1 / (1 + slack) <= ratio <= 1 + slack:
            raise OptionError(
                f"{name} is {picture.width}x{picture.height} pixels and the photo "
                f"{photo.width}x{photo.height}; save it with the photo's proportions."
            )
        values = np.clip(picture.rgb @ _LUMA, 0, 1)
        # White is exactly 1 in spite of rounding.
        values[values > 1 - 1e-6] = 1
        if picture.alpha is not None:
            values *= picture.alpha
        if values.max() < _BLACK:
            raise OptionError(f"{name} is black all over; paint white what it is for.")
        return cls(values=values, name=picture.name, sha256=picture.sha256, notes=picture.notes)

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
