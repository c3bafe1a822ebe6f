"""Colours of a run, by option ``color``: of the pictures it reads and of its result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nstrt.runtime.pictures import Picture, match_colors, to_gray, to_gray_pair, with_chroma_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nstrt.runtime.options.options import StylizeOptions

__all__ = ["ColorMode"]


class ColorMode:
    """Photo and painting in the colours that the network sees, and the way back."""

    def __init__(self, options: StylizeOptions, photo: Picture, painting: Picture) -> None:
        self._options = options
        self.photo, self.painting = photo, painting
        self._gray = options.color == "content"
        self._photo_is_gray = self._gray and photo.is_gray
        self.content = photo.smoothed()
        if self._gray:
            self.content, self.style = to_gray_pair(self.content, painting)
        else:
            self.style = self.prepared_style(painting)
        if options.color == "match-style":
            self.content = match_colors(self.content, painting, options.color_match)

    def prepared_style(self, painting: Picture) -> Picture:
        """Another painting in the colours that the network sees."""
        if self._gray:
            return to_gray_pair(self.photo, painting)[1]
        if self._options.color == "match-content":
            return match_colors(painting, self.photo, self._options.color_match)
        return painting

    def finished(self, rgb: NDArray[np.float32]) -> NDArray[np.float32]:
        """An optimised image, height x width x 3 in 0..1, in the colours of the result."""
        if not self._gray or self._photo_is_gray:
            return rgb
        return with_chroma_of(rgb, self.photo.rgb, self.photo.alpha)

    def as_seen(self, result: Picture) -> Picture:
        """A picture with the colours of a result as the network sees it."""
        return to_gray(result) if self._gray else result
