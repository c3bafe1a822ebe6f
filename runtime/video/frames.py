"""Start picture, temporal target and options of a film's frames after the first.

Ruder, Dosovitskiy and Brox, "Artistic Style Transfer for Videos", 2016.
"""

from __future__ import annotations

from dataclasses import replace

from nstrt.runtime.errors import OptionError
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.pictures import Picture, PictureSource, as_picture, resize_visible
from nstrt.runtime.run.inputs import PreviousFrame
from nstrt.runtime.video.optical_flow import check_opencv, warp_previous

__all__ = ["FrameWarper", "frame_options"]


class FrameWarper:
    """Warps the painting of the previous frame to the next one.

    Raises :class:`PackageMissingError` if OpenCV is not installed.
    """

    def __init__(self) -> None:
        check_opencv()
        self._previous: tuple[PictureSource, PictureSource] | None = None

    def set_previous(self, frame: PictureSource, painting: PictureSource) -> None:
        """Set the previous frame and its painting; files are read in :meth:`warp_to`."""
        self._previous = frame, painting

    def warp_to(self, frame: Picture) -> tuple[Picture | None, PreviousFrame | None]:
        """The start picture and the temporal target for ``frame``; None for the first frame.

        The start has the size of the previous painting. It is that painting, warped by optical
        flow, where the flow is consistent, and ``frame`` elsewhere.

        Raises :class:`OptionError` if ``frame`` and the previous frame differ in size.
        """
        if self._previous is None:
            return None, None
        before, painting = (as_picture(source) for source in self._previous)
        if before.size != frame.size:
            raise OptionError(
                f"All frames of a film have one size, and this one has {frame.width}x"
                f"{frame.height} pixels where the last had {before.width}x{before.height}."
            )
        x, y = (
            resize_visible(picture.rgb, picture.alpha, painting.width, painting.height)
            for picture in (before, frame)
        )
        target = warp_previous(painting.rgb, x, y)
        weight = target.weight[..., None]
        return Picture(rgb=weight * target.warped + (1 - weight) * y), target


def frame_options(options: StylizeOptions) -> StylizeOptions:
    """The options of frames after the first: one scale, with the steps of a frame."""
    # Coarser scales would blur the warped start.
    return replace(options, scales=1, iterations=(options.frame_steps,))
