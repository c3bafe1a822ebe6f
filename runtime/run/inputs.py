"""Pictures of a run: the photo, the paintings, and the masks of regions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.arrays import Mask
from nstrt.runtime.errors import OptionError
from nstrt.runtime.loss.guidance import partition
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.pictures import Picture, PictureSource, resize_visible
from nstrt.runtime.pictures.mask import MaskPicture
from nstrt.runtime.run.painting import identity, read_painting, read_visible
from nstrt.runtime.system.words import spelled

if TYPE_CHECKING:
    from nstrt.runtime.arrays import Array, Arrays

__all__ = [
    "InputSources",
    "MaskSources",
    "PreviousFrame",
    "RegionSource",
    "RunInputs",
    "mask_count",
    "read_inputs",
    "resized",
]

RegionSource: TypeAlias = (
    "tuple[PictureSource, PictureSource | None]"
    " | tuple[PictureSource, PictureSource | None, PictureSource | None]"
)
"""A mask, the painting of its region (None for the main one), and that painting's own mask."""

MaskSources: TypeAlias = "PictureSource | Sequence[PictureSource | None] | None"
"""A mask of the only painting, or for each of several a mask or None."""


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

    style_masks: tuple[PictureSource | None, ...] = ()
    """A mask or None for each of the main paintings; empty if there are none."""

    regions: tuple[tuple[PictureSource, PictureSource | None, PictureSource | None], ...] = ()
    """Masks, each with the painting of its region and the mask of that painting."""

    protect: PictureSource | None = None
    """Mask of the part that stays near the photo."""

    previous: PreviousFrame | None = None
    """The painting of a film's previous frame, warped to this one."""

    @classmethod
    def of(
        cls,
        content: PictureSource,
        style: PictureSource | Sequence[PictureSource],
        regions: Sequence[RegionSource] = (),
        protect: PictureSource | None = None,
        previous: PreviousFrame | None = None,
        style_mask: MaskSources = None,
    ) -> InputSources:
        """Normalise the arguments; ``style`` is one painting, or a list or tuple of several."""
        several = tuple(style) if isinstance(style, list | tuple) else (style,)
        if not several:
            raise OptionError("There is no painting; name one at least.")
        for region in regions:
            if not isinstance(region, list | tuple) or len(region) not in (2, 3):
                raise OptionError(
                    "A region is a mask and a painting (or None), as a pair, and may have the "
                    "painting's mask third."
                )
        masks: tuple[PictureSource | None, ...] = ()
        if style_mask is not None:
            masks = tuple(style_mask) if isinstance(style_mask, list | tuple) else (style_mask,)
        if masks and len(masks) != len(several):
            raise OptionError(
                f"{spelled('style_mask')} names {len(masks)} mask{'s' * (len(masks) > 1)} for "
                f"{len(several)} main painting{'s' * (len(several) > 1)}; give one for each, in "
                "their order."
            )
        return cls(
            content=content,
            styles=several,
            style_masks=masks,
            regions=tuple(
                (region[0], region[1], region[2] if len(region) == 3 else None)
                for region in regions
            ),
            protect=protect,
            previous=previous,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class RunInputs:
    """The pictures of a run, read and checked."""

    content: Picture
    """The photo."""

    paintings: tuple[Picture, ...]
    """The main paintings, one for each weight of ``blend``, then those of the regions.

    A painting's opacity says how much each of its pixels counts.
    """

    painting_identities: tuple[Mapping[str, object], ...]
    """:attr:`Painting.identity` of each painting."""

    blend: tuple[float, ...]
    """Weight of each main painting."""

    regions: tuple[tuple[MaskPicture, int | None], ...] = ()
    """Masks, each with the index of its painting; None for the main ones."""

    protect: MaskPicture | None = None
    """Mask of the part that stays near the photo."""

    photo_stays: bool = False
    """The photo stays untouched outside the regions."""

    previous: PreviousFrame | None = None
    """The painting of a film's previous frame, warped to this one."""

    temporal_weight: float = 0.0
    """Weight of the temporal loss."""

    around: Picture | None = None
    """The photo that stays, in the colours that the network sees; None for ``content``."""

    @property
    def masks(self) -> int:
        """Number of masks at each layer: regions, their rest, and protection."""
        return mask_count(len(self.regions), self.protect is not None, stays=self.photo_stays)

    @property
    def part_of_paintings(self) -> bool:
        """True if of some painting a part counts."""
        return any(painting.alpha is not None for painting in self.paintings)

    @property
    def are_gray(self) -> bool:
        """True if the network sees no colour in the photo and the paintings."""
        pictures = [self.content, *self.paintings, *([self.around] if self.around else [])]
        return all(picture.is_gray for picture in pictures)

    def with_colors(
        self,
        content: Picture,
        paintings: Sequence[Picture],
        as_seen: Callable[[Picture], Picture],
    ) -> RunInputs:
        """A copy with the photo and the paintings in the colours that the network sees.

        ``as_seen`` converts a picture in the colours of a result.
        """
        previous = self.previous
        if previous is not None:
            previous = replace(previous, warped=as_seen(Picture(rgb=previous.warped)).rgb)
        return replace(
            self,
            content=content,
            paintings=tuple(paintings),
            previous=previous,
            around=as_seen(self.content) if self.photo_stays else None,
        )

    def composite(self, rgb: NDArray[np.float32], photo: Picture) -> NDArray[np.float32]:
        """An image, height x width x 3, composited over the photo that stays."""
        if not self.photo_stays:
            return rgb
        height, width = rgb.shape[:2]
        _, rest = self.region_masks(width, height)
        background = resize_visible(photo.rgb, photo.alpha, width, height)
        result = background + (1 - rest)[..., None] * (rgb - background)
        return np.clip(result, 0, 1, out=result)

    def checksums(self) -> dict[str, str]:
        """SHA-256 of each picture, by its role."""
        checksums = {"photo": self.content.sha256, "painting": self.paintings[0].sha256}
        for number, painting in enumerate(self.paintings[1:], 2):
            checksums[f"painting {number}"] = painting.sha256
        for number, (mask, index) in enumerate(self.regions, 1):
            checksums[f"mask of region {number}"] = mask.sha256
            if index is not None:
                checksums[f"painting of region {number}"] = self.paintings[index].sha256
        if self.protect is not None:
            checksums["mask that protects"] = self.protect.sha256
        for number, painting in enumerate(self.paintings, 1):
            if painting.alpha is not None:
                which = f"painting {number}" if number > 1 else "the painting"
                values = np.ascontiguousarray(painting.alpha)
                checksums[f"part of {which}"] = hashlib.sha256(values.data).hexdigest()
        if self.previous is not None:
            checksums["painting of the frame before"] = self.previous.sha256
        return checksums

    def notes(self, start: Picture | None) -> tuple[str, ...]:
        """Notes of all pictures and of the one to start from, each once."""
        pictures: list[Picture | MaskPicture] = [self.content, *self.paintings]
        pictures += [mask for mask, _ in self.regions]
        pictures += [picture for picture in (self.protect, start) if picture is not None]
        return tuple(dict.fromkeys(note for picture in pictures for note in picture.notes))

    def identities(self) -> dict[str, Any]:
        """Names and checksums of the pictures, for a recipe."""
        count = len(self.blend)
        identities: dict[str, Any] = {
            "content": identity(self.content),
            "style": dict(self.painting_identities[0]),
        }
        if count > 1:
            identities["styles"] = [
                {**painting, "weight": weight}
                for painting, weight in zip(self.painting_identities, self.blend, strict=False)
            ]
        if self.regions:
            identities["regions"] = [
                {"mask": identity(mask)}
                | ({} if index is None else {"style": dict(self.painting_identities[index])})
                for mask, index in self.regions
            ]
        if self.protect is not None:
            identities["protect"] = identity(self.protect)
        return identities

    def region_masks(self, width: int, height: int) -> tuple[list[Mask], Mask]:
        """Masks of the regions at a size, and the rest that they leave; they sum to 1."""
        if not self.regions:
            return [], np.ones((height, width), np.float32)
        return partition([mask.at(width, height) for mask, _ in self.regions])


def read_inputs(sources: InputSources, options: StylizeOptions) -> RunInputs:
    """Read a run's pictures.

    Raises :class:`NstrtError` for pictures that cannot be read or do not fit together.
    """
    count = len(sources.styles)
    blend = options.style_blend or (1.0,) * count
    if len(blend) != count:
        raise OptionError(
            f"{spelled('style_blend')} lists {len(blend)} weight{'s' * (len(blend) > 1)} for "
            f"{count} main painting{'s' * (count > 1)}; give one for each, in their order."
        )
    if options.rest == "photo":
        _check_rest(sources)
    if count > 1 and any(
        painting is None and part is not None for _, painting, part in sources.regions
    ):
        raise OptionError(
            "A region can take a part of the main painting only if there is one; name the "
            "region's painting."
        )
    if sources.protect is not None and not (options.content_layers and options.content_weight):
        raise OptionError(
            f"{spelled('protect')} holds nothing without content layers and a content weight."
        )
    content = read_visible(sources.content, "photo")
    read = partial(read_painting, margin=options.style_margin)
    masks = sources.style_masks or (None,) * count
    paintings = list(map(read, sources.styles, masks))
    regions: list[tuple[MaskPicture, int | None]] = []
    for mask, painting, part in sources.regions:
        index = None
        if painting is not None or part is not None:
            index = len(paintings)
            paintings.append(read(sources.styles[0] if painting is None else painting, part))
        regions.append((MaskPicture.read(mask, content), index))
    protect = sources.protect
    return RunInputs(
        content=content,
        paintings=tuple(painting.picture for painting in paintings),
        painting_identities=tuple(painting.identity for painting in paintings),
        blend=blend,
        regions=tuple(regions),
        protect=None if protect is None else MaskPicture.read(protect, content),
        photo_stays=options.rest == "photo",
        previous=sources.previous,
        temporal_weight=options.temporal_weight,
    )


def mask_count(regions: int, protect: bool, *, stays: bool) -> int:
    """Number of masks at each layer for ``regions`` regions, their rest and protection.

    There is no mask for the rest if the photo ``stays`` there.
    """
    return regions + (not stays) + protect if regions or protect else 0


def resized(picture: Picture, width: int, height: int, arrays: Arrays) -> Array:
    """A picture at another size, contiguous, 1 x 3 x height x width."""
    return arrays.from_numpy(
        resize_visible(picture.rgb, picture.alpha, width, height).transpose(2, 0, 1)[None]
    )


def _check_rest(sources: InputSources) -> None:
    if not sources.regions:
        raise OptionError(
            f"{spelled('rest', 'photo')} leaves nothing to paint; add {spelled('regions')}."
        )
    if all(painting is not None for _, painting, _ in sources.regions):
        raise OptionError(
            f"With {spelled('rest', 'photo')} nothing would be painted in the main painting's "
            "manner; give a region without a painting of its own."
        )
