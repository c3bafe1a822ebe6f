"""A picture in memory: sRGB values between 0 and 1, whatever it was made from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nstrt.runtime.errors import OptionError
from nstrt.runtime.pictures.values import quantised, unit_values, upright

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["MIN_SIDE", "Picture", "PictureSource"]

MIN_SIDE = 16
"""The network shrinks pictures four times by two; smaller ones have nothing left."""

_TOLERANCE = 1e-3
"""Values this far outside 0..1 are rounding, and are clipped; farther ones are a mistake."""

PictureSource: TypeAlias = "str | Path | Image.Image | NDArray[Any] | Picture | Any"
"""What :func:`as_picture` takes; the ``Any`` is a ``torch.Tensor``, which is never imported."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A picture: its colours, its transparency, and where it came from."""

    rgb: NDArray[np.float32]
    """sRGB-encoded values between 0 and 1: (height, width, 3)."""

    alpha: NDArray[np.float32] | None = None
    """How opaque each pixel is, between 0 and 1: (height, width); ``None`` when all are."""

    depth: int = 8
    """Bits per channel of the source, 8 or 16: results are saved with as many."""

    name: str = ""
    """The file's name without folders; empty for pictures from memory."""

    sha256: str = ""
    """Of the file's bytes; of the values for pictures from memory."""

    def __post_init__(self) -> None:
        if self.rgb.ndim != 3 or self.rgb.shape[2] != 3 or self.rgb.dtype != np.float32:
            raise OptionError("A picture's colours must be float32 values of (height, width, 3).")
        if self.alpha is not None and (
            self.alpha.shape != self.rgb.shape[:2] or self.alpha.dtype != np.float32
        ):
            raise OptionError("A picture's transparency must be float32 values of (height, width).")
        if self.depth not in (8, 16):
            raise OptionError(f"A picture has 8 or 16 bits per channel, not {self.depth}.")
        if not self.sha256:
            object.__setattr__(self, "sha256", _hash(self.rgb, self.alpha))

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return int(self.rgb.shape[1])

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return int(self.rgb.shape[0])

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.width, self.height

    @classmethod
    def from_array(cls, array: NDArray[Any], *, depth: int | None = None) -> Picture:
        """Take an array of (height, width) or (height, width, 1, 3 or 4) sRGB values.

        uint8 counts to 255, uint16 to 65535, floating-point values go from 0 to 1. ``depth``
        says how many bits a saved result has; by default 8 for uint8 and 16 for the others.
        The array is copied.
        """
        values = np.asarray(array)
        if values.ndim == 2:
            values = values[..., np.newaxis]
        if values.ndim != 3 or values.shape[2] not in (1, 3, 4):
            raise OptionError(
                "A picture array must be (height, width) or (height, width, channels) with "
                f"1, 3 or 4 channels, not {'x'.join(map(str, np.shape(array))) or 'one number'}."
            )
        if min(values.shape[:2]) < MIN_SIDE:
            raise OptionError(
                f"The picture is {values.shape[1]} x {values.shape[0]} pixels; "
                f"it must be at least {MIN_SIDE} pixels wide and high."
            )
        values = _unit_from_array(values)
        bits = 8 if np.asarray(array).dtype == np.uint8 else 16
        return _assembled(values, depth=bits if depth is None else depth)

    @classmethod
    def from_pillow(cls, image: Image.Image) -> Picture:
        """Take a Pillow picture of any mode, with its profile and orientation applied."""
        from nstrt.runtime.pictures.pillow import samples_of

        samples, profile, orientation = samples_of(image)
        if samples.dtype.kind == "f":
            return cls.from_array(upright(samples, orientation))
        if min(samples.shape[:2]) < MIN_SIDE:
            raise OptionError(
                f"The picture is {samples.shape[1]} x {samples.shape[0]} pixels; "
                f"it must be at least {MIN_SIDE} pixels wide and high."
            )
        return cls.from_samples(
            samples,
            colours=4 if image.mode == "CMYK" else None,
            profile=profile,
            orientation=orientation,
        )

    @classmethod
    def from_samples(
        cls,
        samples: NDArray[Any],
        *,
        colours: int | None = None,
        profile: bytes | None = None,
        orientation: int = 1,
        name: str = "",
        sha256: str = "",
    ) -> Picture:
        """Take uint8 or uint16 values as a file stores them: (height, width, channels).

        ``colours`` of the channels are gray (1), RGB (3) or CMYK (4), and one that follows is
        the transparency. Left out, it is 1 for up to two channels and else 3. ``profile`` is an
        ICC profile, ``orientation`` EXIF's.
        """
        from nstrt.runtime.pictures.icc import to_srgb

        if colours is None:
            colours = 1 if samples.shape[2] <= 2 else 3
        depth = 8 if samples.dtype == np.uint8 else 16
        turned = upright(samples, orientation)
        opaque = turned.shape[2] == colours
        return _assembled(
            unit_values(to_srgb(turned[..., :colours], profile=profile), channels=3),
            alpha=None if opaque else unit_values(turned[..., colours : colours + 1])[..., 0],
            depth=depth,
            name=name,
            sha256=sha256,
        )

    def opaque(self) -> Picture:
        """The same on white paper: transparent parts white, nothing see-through."""
        if self.alpha is None:
            return self
        alpha = self.alpha[..., None]
        return replace(self, rgb=self.rgb * alpha + (1 - alpha), alpha=None)

    def to_pillow(self) -> Image.Image:
        """Give an 8-bit Pillow picture: RGBA when there is transparency, else RGB."""
        from PIL import Image

        return Image.fromarray(self.to_array(np.uint8))

    @overload
    def to_array(self, dtype: type[np.uint8]) -> NDArray[np.uint8]: ...

    @overload
    def to_array(self, dtype: type[np.uint16]) -> NDArray[np.uint16]: ...

    @overload
    def to_array(self, dtype: type[np.float32] = ...) -> NDArray[np.float32]: ...

    @overload
    def to_array(self, dtype: DTypeLike) -> NDArray[Any]: ...

    def to_array(self, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """Give (height, width, 3) values, or 4 with transparency, in a new array.

        uint8 and uint16 are rounded to the nearest level, float32 goes from 0 to 1.
        """
        wanted = np.dtype(dtype)
        if wanted not in (np.uint8, np.uint16, np.float32):
            raise OptionError(f"A picture can be given as uint8, uint16 or float32, not {wanted}.")
        channels = 3 if self.alpha is None else 4
        values = np.empty((self.height, self.width, channels), wanted)
        _fill(values[..., :3], self.rgb)
        if self.alpha is not None:
            _fill(values[..., 3], self.alpha)
        return values


def _unit_from_array(values: NDArray[Any]) -> NDArray[np.float32]:
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        return unit_values(values, channels=max(3, values.shape[2]))
    if values.dtype not in (np.float32, np.float64):
        raise OptionError(
            "A picture array must hold uint8, uint16, float32 or float64 values, "
            f"not {values.dtype}."
        )
    lowest, highest = float(values.min()), float(values.max())
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise OptionError("The picture array holds values that are not numbers (NaN or infinity).")
    if lowest < -_TOLERANCE or highest > 1 + _TOLERANCE:
        raise OptionError(
            "A floating-point picture must hold values between 0 and 1, but these go from "
            f"{lowest:g} to {highest:g}; divide by the largest possible value first."
        )
    unit = np.empty((*values.shape[:2], max(3, values.shape[2])), np.float32)
    np.clip(values, 0, 1, out=unit, casting="same_kind")
    return unit


def _assembled(
    values: NDArray[np.float32],
    *,
    depth: int,
    alpha: NDArray[np.float32] | None = None,
    name: str = "",
    sha256: str = "",
) -> Picture:
    """Make a picture of values that belong to it, and keep them from being changed."""
    if values.shape[2] == 4:
        values, alpha = np.ascontiguousarray(values[..., :3]), values[..., 3].copy()
    values.setflags(write=False)
    if alpha is not None:
        alpha.setflags(write=False)
    return Picture(rgb=values, alpha=alpha, depth=depth, name=name, sha256=sha256)


def _fill(target: NDArray[Any], values: NDArray[np.float32]) -> None:
    if target.dtype == np.float32:
        np.clip(values, 0, 1, out=target)
    else:
        quantised(values, target)


def _hash(rgb: NDArray[np.float32], alpha: NDArray[np.float32] | None) -> str:
    digest = hashlib.sha256(f"{rgb.shape}{alpha is not None}".encode())
    digest.update(np.ascontiguousarray(rgb).data)
    if alpha is not None:
        digest.update(np.ascontiguousarray(alpha).data)
    return digest.hexdigest()
