"""Converts between pictures and the protocol's pixel formats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nstrt.runtime.pictures import Picture

__all__ = ["FORMATS", "PixelFormat", "from_pixels", "to_pixels"]


@dataclass(frozen=True)
class PixelFormat:
    """A pixel format of the protocol."""

    channels: int
    """3, or 4 with transparency."""

    sample: str
    """A channel's type, by NumPy's name."""

    @property
    def size(self) -> int:
        """Bytes of a pixel."""
        return self.channels * int(self.sample[-1])


FORMATS = {
    "rgb8": PixelFormat(3, "<u1"),
    "rgba8": PixelFormat(4, "<u1"),
    "rgb16": PixelFormat(3, "<u2"),
    "rgba16": PixelFormat(4, "<u2"),
    "rgbf": PixelFormat(3, "<f4"),
    "rgbaf": PixelFormat(4, "<f4"),
}


def from_pixels(pixels: memoryview, *, width: int, height: int, format: PixelFormat) -> Picture:
    """Decode pixels; floats outside 0..1 are clipped, NaN becomes 0."""
    import numpy as np

    from nstrt.runtime.pictures import Picture

    values: NDArray[Any] = np.frombuffer(pixels, format.sample)
    values = values.reshape(height, width, format.channels)
    if values.dtype.kind == "u":
        return Picture.from_array(values.astype(values.dtype.newbyteorder("="), copy=False))
    alpha = _unit(values[..., 3]) if format.channels == 4 else None
    return Picture(rgb=_unit(values[..., :3]), alpha=alpha, depth=16)


def to_pixels(
    rgb: NDArray[np.float32], alpha: NDArray[np.float32] | None, format: PixelFormat
) -> memoryview:
    """Encode colours and transparency.

    A picture without transparency becomes opaque; a format without it drops it.
    """
    import numpy as np

    height, width = rgb.shape[:2]
    sample = np.dtype(format.sample)
    pixels = np.empty((height, width, format.channels), sample)
    _fill(pixels[..., :3], rgb)
    if format.channels == 4 and alpha is not None:
        _fill(pixels[..., 3:], alpha[..., None])
    elif format.channels == 4:
        pixels[..., 3] = 1 if sample.kind == "f" else np.iinfo(sample).max
    return pixels.reshape(-1).view(np.uint8).data


def _unit(values: NDArray[Any]) -> NDArray[np.float32]:
    import numpy as np

    unit = np.empty(values.shape, np.float32)
    np.clip(values, 0, 1, out=unit)
    np.nan_to_num(unit, copy=False, nan=0.0)
    unit += 0  # -0 becomes 0, so that equal pictures have equal hashes.
    return unit


def _fill(pixels: NDArray[Any], values: NDArray[np.float32]) -> None:
    import numpy as np

    from nstrt.runtime.pictures.values import quantize

    if pixels.dtype.kind == "f":
        np.clip(values, 0, 1, out=pixels)
    else:
        quantize(values, pixels)
