"""Picture in memory: sRGB values in 0..1, an optional alpha channel and its origin."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nstrt.runtime.errors import OptionError
from nstrt.runtime.pictures.colors.gray import is_gray, keep_gray
from nstrt.runtime.pictures.limits import MIN_SIDE
from nstrt.runtime.pictures.metadata.metadata import (
    NO_METADATA,
    Metadata,
    metadata_of_pillow,
)
from nstrt.runtime.pictures.transparency import continue_colors, smooth_faint_colors
from nstrt.runtime.pictures.values import apply_orientation, quantize, to_unit_range

if TYPE_CHECKING:
    from PIL import Image

    from nstrt.runtime.pictures.colors.to_srgb import ColorSource

__all__ = ["Picture", "PictureSource"]

_TOLERANCE = 1e-3
"""Values at most this far outside 0..1 count as rounding and are clipped; others are refused."""

PictureSource: TypeAlias = "str | Path | bytes | Image.Image | NDArray[Any] | Picture | Any"
"""Types that :func:`as_picture` accepts; ``Any`` stands for ``torch.Tensor``, not imported here."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Picture:
    """Immutable picture with colours, transparency and origin."""

    rgb: NDArray[np.float32]
    """sRGB-encoded values in 0..1, (height, width, 3).

    Where ``alpha`` is 0, they continue the visible colours (:func:`continue_colors`), so that
    pictures of equal look are equal to the bit.
    """

    alpha: NDArray[np.float32] | None = None
    """Opacity of each pixel in 0..1, (height, width); ``None`` if all are opaque."""

    depth: int = 8
    """Bits per channel of the source and of saved results, 8 or 16."""

    name: str = ""
    """File name without folders; empty for pictures from memory."""

    sha256: str = ""
    """SHA-256 of the file, or of the values for pictures from memory."""

    notes: tuple[str, ...] = ()
    """Sentences on what reading repaired, converted or left out; they name the picture."""

    metadata: Metadata = NO_METADATA
    """Resolution, EXIF, IPTC and XMP data, for saving."""

    def __post_init__(self) -> None:
        if self.rgb.ndim != 3 or self.rgb.shape[2] != 3 or self.rgb.dtype != np.float32:
            raise OptionError("A picture's colours must be float32 values of (height, width, 3).")
        if self.alpha is not None and (
            self.alpha.shape != self.rgb.shape[:2] or self.alpha.dtype != np.float32
        ):
            raise OptionError("A picture's transparency must be float32 values of (height, width).")
        if self.depth not in (8, 16):
            raise OptionError(f"A picture has 8 or 16 bits per channel, not {self.depth}.")
        if self.alpha is not None:
            continued = continue_colors(self.rgb, self.alpha)
            if continued is not self.rgb:
                continued.setflags(write=False)
                object.__setattr__(self, "rgb", continued)
        if not self.sha256:
            object.__setattr__(self, "sha256", _hash(self.rgb, self.alpha))

    def __repr__(self) -> str:
        name = f"'{self.name}' " if self.name else ""
        alpha = "" if self.alpha is None else ", with transparency"
        return f"<Picture {name}{self.width}x{self.height}, {self.depth} bits{alpha}>"

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.rgb.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.rgb.shape[0])

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.width, self.height

    @property
    def is_gray(self) -> bool:
        """True if the three channels are equal to the bit."""
        return is_gray(self.rgb)

    @classmethod
    def from_array(cls, array: NDArray[Any], *, depth: int | None = None) -> Picture:
        """Copy a (height, width) or (height, width, 1, 3 or 4) array of sRGB values.

        uint8 values are in 0..255, uint16 in 0..65535, floating-point values in 0..1. ``depth``
        defaults to 8 for uint8 and 16 for other types. Raises :class:`OptionError` for other
        shapes, types and ranges.
        """
        values = np.asarray(array)
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
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
        return _build(values, depth=bits if depth is None else depth)

    @classmethod
    def from_pillow(cls, image: Image.Image) -> Picture:
        """Convert a Pillow image of any mode; apply its profile and orientation."""
        from nstrt.runtime.pictures.pillow import opened_content, pillow_samples

        content = opened_content(image)
        found = pillow_samples(image)
        samples = found.samples
        metadata = metadata_of_pillow(image, content=content, orientation=found.orientation)
        if samples.dtype.kind == "f":
            return replace(
                cls.from_array(apply_orientation(samples, found.orientation)),
                notes=found.notes,
                metadata=metadata,
            )
        if min(samples.shape[:2]) < MIN_SIDE:
            raise OptionError(
                f"The picture is {samples.shape[1]} x {samples.shape[0]} pixels; "
                f"it must be at least {MIN_SIDE} pixels wide and high."
            )
        picture = cls.from_samples(
            samples,
            color_channels=found.color_channels,
            source=found.source,
            orientation=found.orientation,
            notes=found.notes,
            metadata=metadata,
        )
        return picture if picture.depth == found.depth else replace(picture, depth=found.depth)

    @classmethod
    def from_samples(
        cls,
        samples: NDArray[Any],
        *,
        color_channels: int | None = None,
        source: ColorSource = None,
        orientation: int = 1,
        name: str = "",
        sha256: str = "",
        notes: tuple[str, ...] = (),
        metadata: Metadata = NO_METADATA,
    ) -> Picture:
        """Convert uint8 or uint16 samples as a file stores them, (height, width, channels).

        ``color_channels`` is 1 for gray, 3 for RGB or 4 for CMYK; a further channel is alpha. The
        default is 1 for up to two channels and 3 otherwise. ``source`` is an ICC profile
        or a colour encoding, ``orientation`` the EXIF value.
        """
        from nstrt.runtime.pictures.colors.to_srgb import to_srgb

        if color_channels is None:
            color_channels = 1 if samples.shape[2] <= 2 else 3
        depth = 8 if samples.dtype == np.uint8 else 16
        oriented = apply_orientation(samples, orientation)
        alpha = (
            None
            if oriented.shape[2] == color_channels
            else to_unit_range(oriented[..., color_channels : color_channels + 1])[..., 0]
        )
        colors = oriented[..., :color_channels]
        visible = None if alpha is None else alpha > 0
        srgb = keep_gray(to_srgb(colors, source=source, visible=visible), colors, visible)
        return _build(
            to_unit_range(srgb, channels=3),
            alpha=alpha,
            depth=depth,
            name=name,
            sha256=sha256,
            notes=notes,
            metadata=metadata,
        )

    def smoothed(self) -> Picture:
        """Blend nearly invisible colours, which are imprecise, into those beside them."""
        rgb = smooth_faint_colors(self.rgb, self.alpha)
        return self if rgb is self.rgb else replace(self, rgb=rgb)

    def opaque(self) -> Picture:
        """Blend the picture over white and drop its alpha channel."""
        if self.alpha is None:
            return self
        alpha = self.alpha[..., None]
        return replace(self, rgb=self.rgb * alpha + (1 - alpha), alpha=None)

    def to_pillow(self) -> Image.Image:
        """Convert to an 8-bit Pillow image: RGBA with an alpha channel, else RGB."""
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
        """Convert to a new (height, width, 3) array, or 4 channels with alpha.

        uint8 and uint16 values are rounded to the nearest level; float32 values are in 0..1.
        """
        target = np.dtype(dtype)
        if target not in (np.uint8, np.uint16, np.float32):
            raise OptionError(f"A picture can be given as uint8, uint16 or float32, not {target}.")
        channels = 3 if self.alpha is None else 4
        values = np.empty((self.height, self.width, channels), target)
        _fill(values[..., :3], self.rgb)
        if self.alpha is not None:
            _fill(values[..., 3], self.alpha)
        return values


def _unit_from_array(values: NDArray[Any]) -> NDArray[np.float32]:
    """Convert to float32 in 0..1 with at least three channels; refuse other types and ranges."""
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        return to_unit_range(values, channels=max(3, values.shape[2]))
    if values.dtype not in (np.float32, np.float64):
        raise OptionError(
            "A picture array must hold uint8, uint16, float32 or float64 values, "
            f"not {values.dtype}."
        )
    if values.shape[2] == 4:
        # Invisible colours may be anything, also out of range.
        hidden = values[..., 3].astype(np.float32) <= 0
        values = values.copy()
        values[hidden, :3] = 0
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
    unit += 0  # -0 becomes 0, so that equal pictures have equal hashes.
    return unit


def _build(
    values: NDArray[np.float32],
    *,
    depth: int,
    alpha: NDArray[np.float32] | None = None,
    name: str = "",
    sha256: str = "",
    notes: tuple[str, ...] = (),
    metadata: Metadata = NO_METADATA,
) -> Picture:
    """Build a picture from arrays that it owns, and make them read-only."""
    if values.shape[2] == 4:
        values, alpha = np.ascontiguousarray(values[..., :3]), values[..., 3].copy()
    values.setflags(write=False)
    if alpha is not None:
        alpha.setflags(write=False)
    return Picture(
        rgb=values,
        alpha=alpha,
        depth=depth,
        name=name,
        sha256=sha256,
        notes=notes,
        metadata=metadata,
    )


def _fill(target: NDArray[Any], values: NDArray[np.float32]) -> None:
    if target.dtype == np.float32:
        np.clip(values, 0, 1, out=target)
    else:
        quantize(values, target)


def _hash(rgb: NDArray[np.float32], alpha: NDArray[np.float32] | None) -> str:
    digest = hashlib.sha256(f"{rgb.shape}{alpha is not None}".encode())
    digest.update(np.ascontiguousarray(rgb).data)
    if alpha is not None:
        digest.update(np.ascontiguousarray(alpha).data)
    return digest.hexdigest()
