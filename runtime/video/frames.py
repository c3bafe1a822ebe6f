"""The frames of a film, each begun from the last one's painting, moved along with what it shows,
and held to it by the temporal loss of ``loss.objective``.

Ruder, Dosovitskiy and Brox, "Artistic Style Transfer for Videos", 2016.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.errors import OptionError
from nstrt.runtime.model import ModelStore
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.pictures import Picture, PictureSource, as_picture, resize
from nstrt.runtime.run.inputs import PreviousFrame
from nstrt.runtime.run.result import Result
from nstrt.runtime.style_transfer import StyleTransfer
from nstrt.runtime.video.optical_flow import check_flow, moved

__all__ = ["FilmPainter", "Follower", "flicker", "frame_options"]


def flicker(paintings: Iterable[PictureSource], frames: Iterable[PictureSource]) -> float:
    """How much paintings change beyond what their frames do: the root mean square, over trusted
    pixels, of each painting's difference from the last one moved along.

    Frames are brought to the paintings' size. At least two of each.
    """
    total = weights = 0.0
    last: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
    for painted, frame in zip(paintings, frames, strict=True):
        x = as_picture(painted).opaque().rgb
        y = resize(as_picture(frame).opaque().rgb, x.shape[1], x.shape[0])
        if last is not None:
            target = moved(last[0], last[1], y)
            total += float(
                (target.weight[..., None] * np.square(x - target.warped)).sum(dtype=np.float64)
            )
            weights += float(target.weight.sum(dtype=np.float64)) * x.shape[2]
        last = x, y
    if not weights:
        raise OptionError(
            "Flicker is a matter of two frames or more that have something in common."
        )
    return float(np.sqrt(total / weights))


class Follower:
    """Carries paintings from frame to frame.

    Raises :class:`PackageMissingError` where OpenCV is missing.
    """

    def __init__(self) -> None:
        check_flow()
        self._last: tuple[PictureSource, PictureSource] | None = None

    def follow(self, frame: PictureSource, painted: PictureSource) -> None:
        """``painted`` was made of ``frame``; files are read when the next frame needs them."""
        self._last = frame, painted

    def carry(self, frame: Picture) -> tuple[Picture | None, PreviousFrame | None]:
        """What the painting of ``frame`` starts from, at the last painting's size, and what it is
        held to; None for the first.

        It starts from the last painting moved along by the optical flow from frame to frame, and
        from the frame itself where flow cannot be trusted: where something was hidden before, or
        came in at the border.
        """
        if self._last is None:
            return None, None
        before, painted = (as_picture(source).opaque() for source in self._last)
        if before.size != frame.size:
            raise OptionError(
                f"All frames of a film have one size, and this one has {frame.width}x"
                f"{frame.height} pixels where the last had {before.width}x{before.height}."
            )
        x, y = (
            resize(picture.rgb, painted.width, painted.height)
            for picture in (before, frame.opaque())
        )
        target = moved(painted.rgb, x, y)
        weight = target.weight[..., None]
        return Picture(rgb=weight * target.warped + (1 - weight) * y), target


def frame_options(options: StylizeOptions) -> StylizeOptions:
    """How frames after the first are painted: at the finest scale alone, because coarser ones
    would dissolve what was carried over."""
    return replace(options, scales=1, iterations=options.schedule[-1:])


class FilmPainter:
    """Paints frames, one after the other, in the manner of ``style``.

    The first is painted coarse to fine as any picture; each later one as :func:`frame_options`
    says, from what :class:`Follower` carries over.

    Raises :class:`PackageMissingError` where OpenCV is missing.
    """

    def __init__(
        self,
        style: PictureSource,
        options: StylizeOptions | None = None,
        *,
        store: ModelStore | None = None,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        self._follower = Follower()
        options = options or StylizeOptions.of()
        self._style = as_picture(style).opaque()
        self._transfer = StyleTransfer(options, store=store, notify=notify)
        self._later = self._transfer.with_options(frame_options(options))

    def paint(self, frames: Iterable[PictureSource]) -> Iterator[Result]:
        """Paint frames of one size; gives each one's result as it is done."""
        for source in frames:
            frame = as_picture(source).opaque()
            start, target = self._follower.carry(frame)
            run = self._transfer.run(frame, self._style, start=start, moved=target)
            result = run.result()
            self._follower.follow(frame, result.picture)
            self._transfer = self._later
            yield result
