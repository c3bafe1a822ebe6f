"""Interface for code that observes features and adds gradients to them."""

from __future__ import annotations

from typing import Protocol

from nstrt.runtime.arrays import Array

__all__ = ["FeatureObserver", "ObserverGroup", "place_of"]


class FeatureObserver(Protocol):
    """Observes features on the forward pass and adds gradients to them on the backward pass."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers to observe."""

    def observe(self, layer: str, values: Array, top: int, left: int = 0) -> None:
        """Receive features, channels x rows x columns, from row ``top`` and column ``left`` on.

        They are valid until this returns.
        """

    def add_gradient(
        self, layer: str, values: Array, gradient: Array, top: int, left: int = 0
    ) -> None:
        """Add the loss's gradient with respect to the features ``values`` to ``gradient``."""


class ObserverGroup:
    """Several observers of one image's features."""

    def __init__(self, *observers: FeatureObserver) -> None:
        self._observers = observers
        self.layers = tuple(dict.fromkeys(name for each in observers for name in each.layers))
        """Layers that any of them observes."""

    def observe(self, layer: str, values: Array, top: int, left: int = 0) -> None:
        """Pass features to each observer of the layer."""
        for observer in self._observers:
            if layer in observer.layers:
                observer.observe(layer, values, top, left)

    def add_gradient(
        self, layer: str, values: Array, gradient: Array, top: int, left: int = 0
    ) -> None:
        """Let each observer of the layer add its gradient."""
        for observer in self._observers:
            if layer in observer.layers:
                observer.add_gradient(layer, values, gradient, top, left)


def place_of(values: Array, top: int, left: int) -> tuple[slice, slice]:
    """Rows and columns of the layer that ``values``, from ``top`` and ``left`` on, cover."""
    return slice(top, top + values.shape[1]), slice(left, left + values.shape[2])
