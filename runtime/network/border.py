"""The border of a picture: extended by its mirror image before the network.

Fewer features of the deeper layers, which pad with zeros, look at the outermost pixels. The content
loss holds these less, so the style loss would give them what it misses elsewhere: a discoloured
strip. Their mirror images take their place. Copies of the edge alone would turn into dashes.
"""

from __future__ import annotations

import numpy as np

from nstrt.runtime.arrays import Array, Mask, arrays_of

__all__ = ["Border"]


class Border:
    """Extends pictures by ``width`` mirrored pixels on all sides; 0 changes nothing.

    Their sides are at least ``width`` pixels long.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._extended: Array | None = None

    def around(self, image: Array) -> Array:
        """The extended image, ... x (height + 2 width) x (width + 2 width).

        It is valid until the next call.
        """
        n = self.width
        if not n:
            return image
        shape = (*image.shape[:-2], image.shape[-2] + 2 * n, image.shape[-1] + 2 * n)
        if self._extended is None or self._extended.shape != shape:
            self._extended = arrays_of(image).empty(shape, image)
        extended = self._extended
        extended[..., n:-n, n:-n] = image
        for outside, inside in self._mirrored():
            extended[..., outside, n:-n] = extended[..., inside, n:-n]
        for outside, inside in self._mirrored():
            extended[..., outside] = extended[..., inside]
        return extended

    def within(self, gradient: Array) -> Array:
        """The gradient at an image from that at the extended one, which it overwrites.

        It is the transpose of :meth:`around`, in a new array.
        """
        n = self.width
        if not n:
            return gradient
        for outside, inside in self._mirrored():
            gradient[..., inside] += gradient[..., outside]
        for outside, inside in self._mirrored():
            gradient[..., inside, :] += gradient[..., outside, :]
        return arrays_of(gradient).copy(gradient[..., n:-n, n:-n])

    def around_mask(self, mask: Mask) -> Mask:
        """The extended mask, height x width."""
        return np.pad(mask, self.width, mode="symmetric") if self.width else mask

    def _mirrored(self) -> list[tuple[int, int]]:
        """Lines outside the picture, and those inside that they mirror; from both ends."""
        n = self.width
        first = [(n - 1 - line, n + line) for line in range(n)]
        return first + [(-1 - outside, -1 - inside) for outside, inside in first]
