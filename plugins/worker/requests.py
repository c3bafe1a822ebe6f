"""The requests of the protocol; :mod:`~nstrt.plugins.worker.request_parser` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeAlias

from nstrt.plugins.worker.pixels import PixelFormat
from nstrt.runtime.options.options import StylizeOptions

__all__ = [
    "Cancel",
    "Estimate",
    "FilePicture",
    "Hello",
    "Id",
    "InputPicture",
    "JobRequest",
    "PictureSize",
    "PixelPicture",
    "Prepare",
    "Quit",
    "Region",
    "Request",
    "SizedPicture",
    "Stop",
    "Stylize",
]

Id: TypeAlias = int | str
"""A host's name for a request."""


@dataclass(frozen=True)
class FilePicture:
    """A picture in a file."""

    path: str


@dataclass(frozen=True)
class PictureSize:
    """A picture of which only the size is known."""

    width: int
    height: int


@dataclass(frozen=True)
class PixelPicture:
    """A picture whose pixels are in the payload."""

    width: int
    height: int
    format: PixelFormat

    @property
    def nbytes(self) -> int:
        """Bytes of its pixels."""
        return self.width * self.height * self.format.size


InputPicture: TypeAlias = FilePicture | PixelPicture
"""A picture of a ``stylize`` request."""

SizedPicture: TypeAlias = FilePicture | PictureSize
"""A picture of an ``estimate`` request."""


@dataclass(frozen=True)
class Hello:
    id: Id
    protocol: int
    token: object
    labels: Mapping[str, str] = field(default_factory=dict)
    """The host's labels of options, for sentences."""


@dataclass(frozen=True)
class Prepare:
    id: Id
    options: StylizeOptions


@dataclass(frozen=True)
class Estimate:
    id: Id
    content: SizedPicture
    style: SizedPicture | None
    options: StylizeOptions
    add_styles: tuple[SizedPicture, ...] = ()
    regions: tuple[SizedPicture | None, ...] = ()
    """The style pictures of regions; None for the main ones."""
    protect: bool = False


@dataclass(frozen=True)
class Region:
    """A part of the content with its own style picture."""

    mask: InputPicture
    style: InputPicture | None
    """None for the main style pictures."""
    style_mask: InputPicture | None = None
    """White on the part of ``style`` that counts."""


@dataclass(frozen=True)
class Stylize:
    id: Id
    content: InputPicture
    style: InputPicture
    options: StylizeOptions
    previews: float
    """Seconds between previews; 0 for none."""
    result: PixelFormat
    result_name: str
    add_styles: tuple[InputPicture, ...] = ()
    """Style pictures that are blended with the first."""
    style_masks: tuple[InputPicture | None, ...] = (None,)
    """A mask or None for ``style`` and each of ``add_styles``."""
    regions: tuple[Region, ...] = ()
    protect: InputPicture | None = None
    """The mask of the protected part."""

    @property
    def nbytes(self) -> int:
        """Bytes of the payload."""
        return sum(picture.nbytes for picture in self.pixels)

    @property
    def pixels(self) -> list[PixelPicture]:
        """The pictures in the payload, in their order."""
        return [picture for picture in self.pictures if isinstance(picture, PixelPicture)]

    @property
    def pictures(self) -> list[InputPicture]:
        """All pictures, in the order of their pixels in the payload."""
        styles = zip((self.style, *self.add_styles), self.style_masks, strict=True)
        given = [self.content, *chain.from_iterable(styles)]
        for each in self.regions:
            given += [each.mask, each.style, each.style_mask]
        given.append(self.protect)
        return [picture for picture in given if picture is not None]


@dataclass(frozen=True)
class Cancel:
    id: Id
    job: Id


@dataclass(frozen=True)
class Stop:
    id: Id
    job: Id


@dataclass(frozen=True)
class Quit:
    id: Id


JobRequest: TypeAlias = Prepare | Estimate | Stylize
"""A request that waits in the queue."""

Request: TypeAlias = Hello | Cancel | Stop | Quit | JobRequest
