"""A painting of a run, and the part of it that counts: visible, in its mask, within its margin."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.arrays import Mask
from nstrt.runtime.errors import OptionError
from nstrt.runtime.pictures import Picture, PictureSource, as_picture, resize
from nstrt.runtime.pictures.margin import find_margin
from nstrt.runtime.pictures.mask import MaskPicture
from nstrt.runtime.system.words import is_offered, spelled

__all__ = ["Painting", "identity", "read_painting", "read_visible", "visible_part"]

_LEAST_PART = 1e-3
"""Smallest share of a painting that can stand for its style."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Painting:
    """A painting as it was read."""

    picture: Picture
    """Its opacity is the part that counts; None for all of it."""

    identity: dict[str, object]
    """Name and checksum of its file, and those of its mask, if there is one."""


def read_painting(
    source: PictureSource, mask: PictureSource | None = None, *, margin: str = "keep"
) -> Painting:
    """Read a painting and its mask; ``margin`` is the option ``style_margin``.

    The part that counts is the painting's opacity times the mask, without a margin that is
    cropped. Colours elsewhere are continued from that part, so that they change nothing.

    Raises :class:`NstrtError` for pictures that cannot be read, for a mask of other proportions,
    and for a part of less than a thousandth.
    """
    picture = read_visible(source, "painting")
    found: dict[str, object] = {**identity(picture)}
    part = np.ones((picture.height, picture.width), np.float32)
    notes = picture.notes
    if picture.alpha is not None:
        part *= picture.alpha
    if mask is not None:
        given = MaskPicture.read(mask, picture, "painting")
        found["mask"] = identity(given)
        notes += given.notes
        part *= given.at(*picture.size)
    note = _without_margin(picture, part, crop=margin == "crop")
    if part.mean(dtype=np.float64) < _LEAST_PART:
        raise OptionError(
            f"Less than a thousandth of {_named(picture)} is left by its mask and transparency; "
            "leave more of it."
        )
    # Paintings that count as a whole stay equal to the bit.
    alpha = None if part.min() == 1 else part
    painting = replace(picture, alpha=alpha, notes=(*notes, *note))
    return Painting(picture=painting.smoothed(), identity=found)


def visible_part(painting: Picture, width: int, height: int) -> Mask | None:
    """How much each pixel of a painting counts at a size, height x width; None for all of it."""
    return None if painting.alpha is None else resize(painting.alpha, width, height)


def read_visible(source: PictureSource, role: str) -> Picture:
    """Read a picture; raise :class:`OptionError` if none of its pixels is visible.

    ``role`` names the picture in the error's sentence.
    """
    picture = as_picture(source)
    if picture.alpha is None or picture.alpha.any():
        return picture
    name = f"The {role} '{picture.name}'" if picture.name else f"The {role}"
    raise OptionError(f"{name} is transparent all over; choose one with something to see.")


def identity(picture: Picture | MaskPicture) -> dict[str, str]:
    """A picture's name and checksum."""
    return {"name": picture.name, "sha256": picture.sha256}


def _without_margin(picture: Picture, part: NDArray[np.float32], *, crop: bool) -> tuple[str, ...]:
    """Clear a margin in ``part`` if it is cropped; returns a sentence on it, or none."""
    margin, name = find_margin(picture.rgb), _named(picture)
    if not margin:
        words = f"{spelled('style_margin', 'crop')} found no margin around {name}."
        return (words,) if crop else ()
    outside = np.ones(part.shape, bool)
    outside[margin.inside(*part.shape)] = False
    if crop:
        part[outside] = 0
        return (f"The margin of {name} is no part of its style: {margin.words()}.",)
    if part[outside].mean() < 0.5:
        return ()
    advice = "crop it to leave that out"
    if is_offered("style_margin"):
        advice = f"{spelled('style_margin', 'crop')} leaves it out"
    return (
        f"It seems that {name} has a margin ({margin.words()}), which is painted as part of its "
        f"style; {advice}.",
    )


def _named(picture: Picture) -> str:
    return f"the painting '{picture.name}'" if picture.name else "the painting"
