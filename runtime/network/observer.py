"""Who looks at a network's features, and pulls at them on the way back."""

from __future__ import annotations

from typing import Protocol

from nstrt.runtime.arrays import Array

__all__ = ["FeatureObserver", "place_of"]


class FeatureObserver(Protocol):
    """Somebody who looks at features, and pulls at them on the way back."""

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers it looks at."""

    def observe(self, layer: str, values: Array, top: int, left: int = 0) -> None:
        """Features, channels x rows x columns, from row ``top`` and column ``left`` on; they are
        valid until it returns."""

    def add_gradient(
        self, layer: str, values: Array, gradient: Array, top: int, left: int = 0
    ) -> None:
        """Add the loss's gradient with respect to the features ``values`` to ``gradient``."""


def place_of(values: Array, top: int, left: int) -> tuple[slice, slice]:
    """The rows and columns of a whole layer that features from row ``top`` and column ``left`` on
    are."""
    return slice(top, top + values.shape[1]), slice(left, left + values.shape[2])
