"""Whose colours a result has: what is painted from, and what is made of it, by option ``color``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nstrt.runtime.pictures import Picture, gray, gray_pair, match_colours, with_colours_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nstrt.runtime.options.options import StylizeOptions

__all__ = ["ColorMode"]


class ColorMode:
    """What is painted from, as ``color`` asks, and what is made of it."""

    def __init__(self, options: StylizeOptions, photo: Picture, painting: Picture) -> None:
        self._options = options
        self.photo, self.painting = photo, painting
        self._gray = options.color == "content"
        self.content = photo
        if self._gray:
            self.content, self.style = gray_pair(photo, painting)
        else:
            self.style = self.manner(painting)
        if options.color == "match-style":
            self.content = match_colours(photo, painting, options.color_match)

    def manner(self, painting: Picture) -> Picture:
        """A further painting as it is painted from."""
        if self._gray:
            return gray_pair(self.photo, painting)[1]
        if self._options.color == "match-content":
            return match_colours(painting, self.photo, self._options.color_match)
        return painting

    def coloured(self, rgb: NDArray[np.float32]) -> NDArray[np.float32]:
        """A painted picture, height x width x 3 in 0..1, with the colours that it is to have."""
        return with_colours_of(rgb, self.photo.rgb) if self._gray else rgb

    def as_painted(self, result: Picture) -> Picture:
        """A finished result as the network saw it."""
        return gray(result) if self._gray else result
