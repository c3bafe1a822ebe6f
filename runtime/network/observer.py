"""Interface between a network and the losses that read its features."""

from __future__ import annotations

from typing import Protocol

from nstrt.runtime.arrays import Array

__all__ = ["FeatureObserver", "place_of"]


class FeatureObserver(Protocol):
    """Observes features in a forward pass and adds gradients to them in a backward pass."""

    @property
    def layers(self) -> tuple[str, ...]:
        """The observed layers."""

    def observe(self, layer: str, values: Array, top: int, left: int = 0) -> None:
        """Read features, channels x rows x columns, from row ``top`` and column ``left`` of the
        layer on. They are valid only during the call."""

    def add_gradient(
        self, layer: str, values: Array, gradient: Array, top: int, left: int = 0
    ) -> None:
        """Add the loss's gradient with respect to the features ``values`` to ``gradient``."""


def place_of(values: Array, top: int, left: int) -> tuple[slice, slice]:
    """Rows and columns of the whole layer that ``values``, from row ``top`` and column ``left``
    on, occupy."""
    return slice(top, top + values.shape[1]), slice(left, left + values.shape[2])
