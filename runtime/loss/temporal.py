"""Temporal loss of a film's frame (Ruder, Dosovitskiy and Brox, 2016, equation 7).

    temporal_weight * mean(c * (x - omega)^2)

x is the frame's image, omega the last frame's result warped to this frame, and c the confidence of
the optical flow, 0..1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from nstrt.runtime.arrays import Array, arrays_of, bands_of
from nstrt.runtime.loss.terms import LossTerms

__all__ = ["TemporalLoss"]


@dataclass(frozen=True, kw_only=True)
class TemporalLoss:
    """The temporal loss against one warped frame.

    It depends on the image alone, so every engine adds it in the same way, in tiles too.
    """

    weight: float
    """temporal_weight."""

    target: Array
    """omega: 1 x 3 x height x width."""

    root: Array
    """sqrt(c): height x width."""

    def added(self, terms: LossTerms, image: Array, gradient: Array | None = None) -> LossTerms:
        """Return ``terms`` with this loss at ``image`` included.

        Adds the loss's gradient, weight * 2 c (x - omega) / numbers, to ``gradient`` if given.
        """
        squares = []
        for rows in bands_of(image):
            band = (..., rows, slice(None))
            difference = image[band] - self.target[band]
            difference *= self.root[band]
            squares.append(arrays_of(difference).sum_of_squares(difference))
            if gradient is not None:
                difference *= self.root[band]
                difference *= 2 * self.weight / math.prod(image.shape)
                gradient[band] += difference
        loss = float(sum(squares[1:], squares[0])) / math.prod(image.shape)
        return replace(terms, loss=terms.loss + self.weight * loss, temporal=loss)
