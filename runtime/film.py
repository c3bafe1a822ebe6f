"""The frames of a film, each begun from the last one's painting, moved along with what it shows.

Ruder, Dosovitskiy and Brox, "Artistic Style Transfer for Videos", 2016.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.flow import check_flow, consistency, dense_flow, warped
from nstrt.runtime.model import ModelStore, OptionError
from nstrt.runtime.options import StylizeOptions
from nstrt.runtime.pictures import Picture, PictureSource, as_picture, resize
from nstrt.runtime.result import Result
from nstrt.runtime.transfer import StyleTransfer

__all__ = ["FilmPainter", "Follower", "Moved", "flicker", "frame_options", "moved", "temporal_loss"]


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A painted frame as the next one shows it: the target of the temporal loss."""

    warped: NDArray[np.float32]
    """omega: height x width x 3 in 0..1, the last painting moved to where its things are now."""

    weight: NDArray[np.float32]
    """c: height x width, 1 where the movement is known and 0 where something was hidden."""


def moved(
    painted: NDArray[np.float32], before: NDArray[np.float32], now: NDArray[np.float32]
) -> Moved:
    """The painting of the frame ``before`` as the frame ``now`` shows it; all of one size,
    height x width x 3 in 0..1."""
    backward = dense_flow(now, before)
    return Moved(
        warped=warped(painted, backward), weight=consistency(dense_flow(before, now), backward)
    )


def temporal_loss(image: NDArray[np.float32], target: Moved) -> float:
    """mean(c (x - omega)^2) over all values of a frame (Ruder et al., equation 7)."""
    weighted = target.weight[..., None] * np.square(image - target.warped)
    return float(weighted.mean(dtype=np.float64))


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
            total += temporal_loss(x, target) * x.size
            weights += float(target.weight.sum(dtype=np.float64)) * x.shape[2]
        last = x, y
    if not weights:
        raise OptionError(
            "Flicker is a matter of two frames or more that have something in common."
        )
    return float(np.sqrt(total / weights))


class Follower:
    """Carries paintings from frame to frame.

    Raises :class:`~nstrt.runtime.model.PackageMissingError` where OpenCV is missing.
    """

    def __init__(self) -> None:
        check_flow()
        self._last: tuple[PictureSource, PictureSource] | None = None

    def follow(self, frame: PictureSource, painted: PictureSource) -> None:
        """``painted`` was made of ``frame``; files are read when the next frame needs them."""
        self._last = frame, painted

    def start(self, frame: Picture) -> Picture | None:
        """What the painting of ``frame`` starts from, at the last painting's size; None for the
        first.

        That is the last painting moved along by the optical flow from frame to frame, and the
        frame itself where flow cannot be trusted: where something was hidden before, or came in
        at the border.
        """
        if self._last is None:
            return None
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
        return Picture(rgb=weight * target.warped + (1 - weight) * y)


def frame_options(options: StylizeOptions) -> StylizeOptions:
    """How frames after the first are painted: at the finest scale alone, because coarser ones
    would dissolve what was carried over."""
    return replace(options, scales=1, iterations=options.schedule[-1:])


class FilmPainter:
    """Paints frames, one after the other, in the manner of ``style``.

    The first is painted coarse to fine as any picture; each later one as :func:`frame_options`
    says, from what :class:`Follower` carries over.

    Raises :class:`~nstrt.runtime.model.PackageMissingError` where OpenCV is missing.
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
            start = self._follower.start(frame)
            result = self._transfer.run(frame, self._style, start=start).result()
            self._follower.follow(frame, result.picture)
            self._transfer = self._later
            yield result
