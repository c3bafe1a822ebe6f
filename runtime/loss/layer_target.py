"""What the style losses of a layer have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from nstrt.runtime.arrays import Array
from nstrt.runtime.loss.moments import Moments

__all__ = ["EPSILON", "LayerTarget", "Pull"]

EPSILON = 1e-12
"""Smallest denominator of a relative loss."""


@dataclass(frozen=True, kw_only=True)
class Pull:
    """Gradient of a loss of moments at features F, times the positions: factor F + shift."""

    factor: Array
    """Channels x channels."""

    shift: Array | None = None
    """One number for each channel; None for zeros."""

    def scaled(self, number: Array) -> Pull:
        """The gradient of ``number`` times the loss; overwrites this one."""
        factor, shift = self.factor, self.shift
        factor *= number
        if shift is not None:
            shift *= number
        return self


class LayerTarget(Protocol):
    """Moments that a layer is to reach, and the loss that compares them."""

    def loss(self, moments: Moments) -> Array:
        """The loss of an image with these moments, in double precision."""

    def loss_and_pull(self, moments: Moments) -> tuple[Array, Pull]:
        """The loss of an image with these moments, and its gradient at the features."""
