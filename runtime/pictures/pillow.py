"""Convert Pillow images to the samples that :class:`Picture` accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.errors import OptionError, PictureReadError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["pillow_samples"]

_EXIF_ORIENTATION = 0x0112
_SUPPORTED = ("L", "LA", "RGB", "RGBA", "CMYK", "F", "I")
_CONVERTED = {"1": "L", "La": "LA", "PA": "RGBA", "RGBa": "RGBA"}


def pillow_samples(image: Image.Image) -> tuple[NDArray[Any], bytes | None, int]:
    """Return an image's samples (height, width, channels), ICC profile and EXIF orientation."""
    try:
        image.load()
    except Exception as error:
        raise PictureReadError(
            "The Pillow picture cannot be loaded; its file is damaged or gone."
        ) from error
    samples = np.asarray(_to_supported_mode(image))
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


def _to_supported_mode(image: Image.Image) -> Image.Image:
    """Convert an image of an unsupported mode to a supported one."""
    mode = image.mode
    if mode == "LAB":
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None
        return converted
    if mode in ("1", "L", "P", "RGB") and image.has_transparency_data:
        return image.convert("LA" if mode in ("1", "L") else "RGBA")
    if mode in _SUPPORTED or mode.startswith("I;16"):
        return image
    return image.convert(_CONVERTED.get(mode, "RGB"))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:
        # Pillow raises many kinds of exceptions for broken EXIF data.
        return 1
