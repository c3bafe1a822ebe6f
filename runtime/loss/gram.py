"""The Gram loss of a layer (Gatys, Ecker and Bethge, 2016).

For features F, channels x positions, and the painting's Gram matrix A::

    G = F F' / positions,   loss = mean((G - A)^2) / mean(A^2)

    d loss / dF = 4 (G - A) F / (positions * channels^2 * mean(A^2))
"""

from __future__ import annotations

import math
from functools import cached_property

from nstrt.runtime.arrays import Array, arrays_of
from nstrt.runtime.loss.layer_target import EPSILON, Pull
from nstrt.runtime.loss.moments import Moments

__all__ = ["GramTarget"]


class GramTarget:
    """The Gram matrix that a layer is to reach."""

    def __init__(self, moments: Moments, *, relative: bool) -> None:
        self.gram = moments.second
        """A: channels x channels."""
        self._relative = relative

    @cached_property
    def energy(self) -> Array:
        """Denominator: mean(A^2), or 1 for losses that are not relative."""
        if not self._relative:
            return 1.0
        arrays = arrays_of(self.gram)
        square = arrays.to_double(arrays.dot(self.gram, self.gram))
        return arrays.clamp_min(square / math.prod(self.gram.shape), EPSILON)

    def loss(self, moments: Moments) -> Array:
        """The loss of an image with these moments."""
        return self._loss(moments.second - self.gram)

    def loss_and_pull(self, moments: Moments) -> tuple[Array, Pull]:
        """The loss of an image with these moments, and its gradient."""
        difference = moments.second - self.gram
        loss = self._loss(difference)
        difference *= 4 / (math.prod(self.gram.shape) * self.energy)
        return loss, Pull(factor=difference)

    def _loss(self, difference: Array) -> Array:
        square = arrays_of(difference).sum_of_squares(difference)
        return square / math.prod(self.gram.shape) / self.energy
