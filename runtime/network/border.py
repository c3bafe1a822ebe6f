"""The border of a picture: extended by its own edge before the network.

Fewer features of the deeper layers, which pad with zeros, look at the outermost pixels. The content
loss holds these less, so the style loss would give them what it misses elsewhere: a discoloured
strip. Copies of the edge take their place.
"""

from __future__ import annotations

import numpy as np

from nstrt.runtime.arrays import Array, Mask, arrays_of

__all__ = ["Border"]


class Border:
    """Extends pictures by ``width`` pixels of their own edge on all sides; 0 changes nothing."""

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
        extended[..., :n, n:-n] = image[..., :1, :]
        extended[..., -n:, n:-n] = image[..., -1:, :]
        extended[..., :n] = extended[..., n : n + 1]
        extended[..., -n:] = extended[..., -n - 1 : -n]
        return extended

    def within(self, gradient: Array) -> Array:
        """The gradient at an image from that at the extended one: its transpose, a new array."""
        n = self.width
        if not n:
            return gradient
        rows = arrays_of(gradient).copy(gradient[..., n:-n, :])
        rows[..., 0, :] += gradient[..., :n, :].sum(-2)
        rows[..., -1, :] += gradient[..., -n:, :].sum(-2)
        inside = arrays_of(gradient).copy(rows[..., n:-n])
        inside[..., 0] += rows[..., :n].sum(-1)
        inside[..., -1] += rows[..., -n:].sum(-1)
        return inside

    def around_mask(self, mask: Mask) -> Mask:
        """The extended mask, height x width."""
        return np.pad(mask, self.width, mode="edge") if self.width else mask
