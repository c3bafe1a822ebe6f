"""Pictures of a run: the photo, the paintings, and the masks of regions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nstrt.runtime.errors import OptionError
from nstrt.runtime.loss.guidance import (
    Mask,
    partition,
)
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.pictures import Picture, PictureSource, as_picture, resize

if TYPE_CHECKING:
    from nstrt.runtime.arrays import Array, Arrays

__all__ = [
    "InputSources",
    "MaskPicture",
    "PreviousFrame",
    "RegionSource",
    "RunInputs",
    "identity",
    "mask_count",
    "read_inputs",
    "resized",
]

RegionSource: TypeAlias = "tuple[PictureSource, PictureSource | None]"
"""A mask and the painting of its region; None for the main painting."""

_BLACK = 0.01
"""A mask whose largest value is below this counts as black."""

_ASPECT_TOLERANCE = 0.02
"""Relative difference allowed between a mask's and the photo's proportions."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Luma weights of ITU-R BT.601, as picture programs use them for gray values."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PreviousFrame:
    """A film's previous result, warped to the current frame: target of the temporal loss."""

    warped: NDArray[np.float32]
    """omega: height x width x 3 in 0..1, the previous result warped by the optical flow."""

    weight: NDArray[np.float32]
    """c: height x width, 1 where the flow is reliable and 0 at occlusions."""

    def __post_init__(self) -> None:
        if self.warped.shape != (*self.weight.shape, 3):
            raise OptionError(
                "A painting moved along is height x width x 3, and its weight height x width."
            )

    @property
    def sha256(self) -> str:
        """SHA-256 of both arrays."""
        digest = hashlib.sha256()
        for values in (self.warped, self.weight):
            digest.update(np.ascontiguousarray(values, np.float32).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False)
class InputSources:
    """Pictures of a run as the caller gave them."""

    content: PictureSource
    """The photo."""

    styles: tuple[PictureSource, ...]
    """The main paintings, to be blended."""

    regions: tuple[RegionSource, ...] = ()
    """Masks, each with the painting of its region."""

    protect: PictureSource | None = None
    """Mask of the part that stays near the photo."""

    moved: PreviousFrame | None = None
    """The painting of a film's frame before, moved along."""

    @classmethod
    def of(
        cls,
        content: PictureSource,
        style: PictureSource | Sequence[PictureSource],
        regions: Sequence[RegionSource] = (),
        protect: PictureSource | None = None,
        moved: PreviousFrame | None = None,
    ) -> InputSources:
        """Normalise the arguments; ``style`` is one painting, or a list or tuple of several."""
        several = tuple(style) if isinstance(style, list | tuple) else (style,)
        if not several:
            raise OptionError("There is no painting; name one at least.")
        for region in regions:
            if not isinstance(region, list | tuple) or len(region) != 2:
                raise OptionError("A region is a mask and a painting (or None), as a pair.")
        return cls(
            content=content,
            styles=several,
            regions=tuple((mask, painting) for mask, painting in regions),
            protect=protect,
            moved=moved,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskPicture:
    """A mask: the gray values of a picture."""

    values: Mask
    """Height x width, 0 for black to 1 for white; what is transparent counts as black."""

    name: str
    """The file's name without folders; empty for pictures from memory."""

    sha256: str
    """See :attr:`nstrt.runtime.pictures.Picture.sha256`."""

    @classmethod
    def read(cls, source: PictureSource, photo: Picture) -> MaskPicture:
        """A mask for a photo, of any size in its proportions.

        Raises :class:`OptionError` if it has others, or is black.
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
        # White is all of it, not nearly so.
        values[values > 1 - 1e-6] = 1
        if picture.alpha is not None:
            values *= picture.alpha
        if values.max() < _BLACK:
            raise OptionError(f"{name} is black all over; paint white what it is for.")
        return cls(values=values, name=picture.name, sha256=picture.sha256)

    def at(self, width: int, height: int) -> Mask:
        """In another size, by means of what each pixel covers, or linear between pixels: what is
        black or white around a pixel is so in it."""
        rows, columns = self.values.shape
        if (rows, columns) == (height, width):
            return self.values
        way = Image.Resampling.BOX if width <= columns else Image.Resampling.BILINEAR
        found = Image.fromarray(self.values).resize((width, height), way)
        return np.clip(np.asarray(found, np.float32), 0, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class RunInputs:
    """What is painted, in whose manner, and where."""

    content: Picture
    """The photo."""

    paintings: tuple[Picture, ...]
    """The main ones, as many as ``blend`` has weights, then those of regions."""

    blend: tuple[float, ...]
    """How much each main painting counts."""

    regions: tuple[tuple[MaskPicture, int | None], ...] = ()
    """Masks with the index of their painting; None for the main ones."""

    protect: MaskPicture | None = None
    """What stays near the photo."""

    photo_stays: bool = False
    """Whether the photo is untouched where no region is."""

    moved: PreviousFrame | None = None
    """The painting of a film's frame before, moved along."""

    temporal_weight: float = 0.0
    """How much the picture is held to it."""

    around: Picture | None = None
    """The photo that stays, as the network is to see it; None for the content as it is."""

    @property
    def masks(self) -> int:
        """How many masks are held at each layer: of regions, of their rest, and of what is
        protected; 0 if a style is for the whole picture."""
        return mask_count(len(self.regions), self.protect is not None, stays=self.photo_stays)

    def painted_as(
        self,
        content: Picture,
        paintings: Sequence[Picture],
        seen: Callable[[Picture], Picture],
    ) -> RunInputs:
        """The same with the photo and the paintings as colours ask for; ``seen`` gives what is in
        a result's own colours as the network is to see it."""
        moved = self.moved
        if moved is not None:
            moved = replace(moved, warped=seen(Picture(rgb=moved.warped)).rgb)
        return replace(
            self,
            content=content,
            paintings=tuple(paintings),
            moved=moved,
            around=seen(self.content) if self.photo_stays else None,
        )

    def composite(self, rgb: NDArray[np.float32], photo: Picture) -> NDArray[np.float32]:
        """A painted picture, height x width x 3, with the photo where it stays."""
        if not self.photo_stays:
            return rgb
        height, width = rgb.shape[:2]
        _, rest = self.region_masks(width, height)
        under = resize(photo.rgb, width, height)
        found = under + (1 - rest)[..., None] * (rgb - under)
        return np.clip(found, 0, 1, out=found)

    def checksums(self) -> dict[str, str]:
        """Those of the picture files, by what they are."""
        found = {"photo": self.content.sha256, "painting": self.paintings[0].sha256}
        for number, painting in enumerate(self.paintings[1:], 2):
            found[f"painting {number}"] = painting.sha256
        for number, (mask, index) in enumerate(self.regions, 1):
            found[f"mask of region {number}"] = mask.sha256
            if index is not None:
                found[f"painting of region {number}"] = self.paintings[index].sha256
        if self.protect is not None:
            found["mask of --protect"] = self.protect.sha256
        if self.moved is not None:
            found["painting of the frame before"] = self.moved.sha256
        return found

    def identities(self) -> dict[str, Any]:
        """The pictures by name and checksum, as a recipe has them."""
        count = len(self.blend)
        found: dict[str, Any] = {
            "content": identity(self.content),
            "style": identity(self.paintings[0]),
        }
        if count > 1:
            found["styles"] = [
                {**identity(painting), "weight": weight}
                for painting, weight in zip(self.paintings, self.blend, strict=False)
            ]
        if self.regions:
            found["regions"] = [
                {"mask": identity(mask)}
                | ({} if index is None else {"style": identity(self.paintings[index])})
                for mask, index in self.regions
            ]
        if self.protect is not None:
            found["protect"] = identity(self.protect)
        return found

    def region_masks(self, width: int, height: int) -> tuple[list[Mask], Mask]:
        """Masks of the regions at a size, and the rest that they leave; they sum to 1."""
        if not self.regions:
            return [], np.ones((height, width), np.float32)
        return partition([mask.at(width, height) for mask, _ in self.regions])


def read_inputs(sources: InputSources, options: StylizeOptions) -> RunInputs:
    """Read a run's pictures.

    Raises :class:`NstrtError` for what cannot be read, or does not go
    together.
    """
    count = len(sources.styles)
    blend = options.style_blend or (1.0,) * count
    if len(blend) != count:
        raise OptionError(
            f"--style-blend lists {len(blend)} weights for {count} main "
            f"painting{'s' * (count > 1)}; give one for each: STYLE first, then each --add-style."
        )
    if options.rest == "photo":
        _check_rest(sources)
    if sources.protect is not None and not (options.content_layers and options.content_weight):
        raise OptionError("--protect holds nothing without content layers and a content weight.")
    content = as_picture(sources.content)
    # What lies under transparent pixels is nobody's style.
    paintings = [as_picture(source).opaque() for source in sources.styles]
    regions: list[tuple[MaskPicture, int | None]] = []
    for mask, painting in sources.regions:
        index = None
        if painting is not None:
            index = len(paintings)
            paintings.append(as_picture(painting).opaque())
        regions.append((MaskPicture.read(mask, content), index))
    protect = sources.protect
    return RunInputs(
        content=content,
        paintings=tuple(paintings),
        blend=blend,
        regions=tuple(regions),
        protect=None if protect is None else MaskPicture.read(protect, content),
        photo_stays=options.rest == "photo",
        moved=sources.moved,
        temporal_weight=options.temporal_weight,
    )


def mask_count(regions: int, protect: bool, *, stays: bool) -> int:
    """How many masks are held at each layer for so many regions, their rest (unless the photo
    ``stays`` there), and what is protected."""
    return regions + (not stays) + protect if regions or protect else 0


def resized(picture: Picture, width: int, height: int, arrays: Arrays) -> Array:
    """A picture in another size, 1 x 3 x height x width, contiguous."""
    return arrays.from_numpy(resize(picture.rgb, width, height).transpose(2, 0, 1)[None])


def _check_rest(sources: InputSources) -> None:
    if not sources.regions:
        raise OptionError("--rest photo leaves nothing to paint; add a --region.")
    if all(painting is not None for _, painting in sources.regions):
        raise OptionError(
            "With --rest photo nothing would be painted in STYLE's manner; give a region without "
            "a painting of its own, as --region mask.png."
        )


def identity(picture: Picture | MaskPicture) -> dict[str, str]:
    """A picture's name and checksum."""
    return {"name": picture.name, "sha256": picture.sha256}
