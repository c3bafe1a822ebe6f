"""What a Pillow picture holds, in the layout that :class:`Picture` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.errors import OptionError, PictureReadError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["samples_of"]

_ORIENTATION = 0x0112
_AS_THEY_ARE = ("L", "LA", "RGB", "RGBA", "CMYK", "F", "I")
_CONVERTED = {"1": "L", "La": "LA", "PA": "RGBA", "RGBa": "RGBA"}


def samples_of(image: Image.Image) -> tuple[NDArray[Any], bytes | None, int]:
    """Give a picture's values (height, width, channels), its ICC profile and its orientation."""
    try:
        image.load()
    except Exception as error:
        raise PictureReadError(
            "The Pillow picture cannot be loaded; its file is damaged or gone."
        ) from error
    samples = np.asarray(_plain(image))
    if image.mode == "I":
        if samples.min() < 0 or samples.max() > 65535:
            raise OptionError(
                "A Pillow picture of mode I must hold values between 0 and 65535; "
                "convert it to mode L or RGB first."
            )
        samples = samples.astype(np.uint16)
    if samples.dtype.kind == "u":
        samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    if samples.ndim == 2:
        samples = samples[..., np.newaxis]
    profile = image.info.get("icc_profile")
    return samples, profile if isinstance(profile, bytes) else None, _orientation(image)


def _plain(image: Image.Image) -> Image.Image:
    """Convert the modes that have no layout of their own here."""
    mode = image.mode
    if mode == "LAB":
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None
        return converted
    if mode in ("1", "L", "P", "RGB") and image.has_transparency_data:
        return image.convert("LA" if mode in ("1", "L") else "RGBA")
    if mode in _AS_THEY_ARE or mode.startswith("I;16"):
        return image
    return image.convert(_CONVERTED.get(mode, "RGB"))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        # Pillow raises many kinds of errors on broken EXIF data, which then says nothing.
        return 1
