"""Statistics of a painting that the losses compare with, and their observer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nstrt.runtime.arrays import Array, Arrays, Mask, arrays_of
from nstrt.runtime.loss.guidance import RegionGuidance
from nstrt.runtime.loss.moments import Moments, row_slices
from nstrt.runtime.loss.objective import LossWeights, moment_observer
from nstrt.runtime.network.border import Border
from nstrt.runtime.network.feature_observer import ObserverGroup, place_of

__all__ = ["StyleObserver", "StyleStatistics"]


@dataclass(frozen=True, kw_only=True)
class StyleStatistics:
    """What the losses read of a painting, or of several together."""

    moments: Mapping[str, Moments]
    """Moments by style layer."""

    energies: Mapping[str, Array]
    """Mean square of the features by content layer, in double precision."""

    @property
    def nbytes(self) -> int:
        """Bytes of the moments."""
        return sum(moments.nbytes for moments in self.moments.values())

    @staticmethod
    def blend(parts: Sequence[StyleStatistics], weights: Sequence[float]) -> StyleStatistics:
        """Weighted mean of several paintings' statistics."""
        if len(parts) == 1:
            return parts[0]
        return StyleStatistics(
            moments={
                layer: Moments.blend([part.moments[layer] for part in parts], weights)
                for layer in parts[0].moments
            },
            energies=StyleStatistics.blend_energies(parts, weights),
        )

    @staticmethod
    def blend_energies(
        parts: Sequence[StyleStatistics], weights: Sequence[float]
    ) -> Mapping[str, Array]:
        """Weighted mean of several paintings' energies, by content layer."""
        total = sum(weights)
        return {
            layer: sum(
                part.energies[layer] * (weight / total)
                for part, weight in zip(parts, weights, strict=True)
            )
            for layer in parts[0].energies
        }


class StyleObserver(ObserverGroup):
    """Observes a painting's features; those that ``guide`` leaves out do not count."""

    @classmethod
    def of_part(
        cls, weights: LossWeights, mask: Mask | None, border: Border, arrays: Arrays
    ) -> StyleObserver:
        """An observer of the extended painting, of which the part in ``mask`` counts.

        ``mask`` is height x width of the painting; None for all of it.
        """
        if mask is None:
            return cls(weights)
        # Of a small part nothing may be left at a deep layer.
        seen = border.around_mask(mask)
        return cls(weights, RegionGuidance.of(seen, weights.layers, arrays, whole=True))

    def __init__(self, weights: LossWeights, guide: RegionGuidance | None = None) -> None:
        self._guide, self._raw = guide, not weights.gram_mean
        self._moments = moment_observer(weights, guide)
        self._energies = _EnergyObserver(weights.content_layers, guide)
        super().__init__(self._moments, self._energies)

    def statistics(self) -> StyleStatistics:
        """The statistics, after all features were observed."""
        moments = self._moments.moments()
        if self._raw and self._guide is not None:
            # Sums over as many positions as the whole painting has.
            moments = {
                name: each.scaled(math.prod(channel.shape) / self._guide.energies[name])
                for name, each in moments.items()
                for channel in [self._guide.values[name]]
            }
        return StyleStatistics(moments=moments, energies=self._energies.energies())


class _EnergyObserver:
    """Sums the squares of features."""

    def __init__(self, layers: Mapping[str, float], guide: RegionGuidance | None) -> None:
        self.layers = tuple(name for name in layers if guide is None or name in guide.values)
        self._guide = guide
        self._squares: dict[str, Array] = {}
        self._counts = dict.fromkeys(self.layers, 0.0)

    def observe(self, layer: str, values: Array, top: int, left: int = 0) -> None:
        values = arrays_of(values).upcast_half(values)
        if self._guide is None:
            self._add(layer, values, values.shape[1] * values.shape[2])
            return
        channel = self._guide.values[layer][place_of(values, top, left)]
        for rows in row_slices(values):
            positions = float(arrays_of(values).sum_of_squares(channel[rows]))
            self._add(layer, values[:, rows] * channel[rows], positions)

    def _add(self, layer: str, values: Array, positions: float) -> None:
        arrays = arrays_of(values)
        self._counts[layer] += positions * len(values)
        # Single precision within a piece, double precision over the pieces.
        square = arrays.to_double(arrays.dot(values, values))
        before = self._squares.get(layer)
        self._squares[layer] = square if before is None else before + square

    def add_gradient(
        self, layer: str, values: Array, gradient: Array, top: int, left: int = 0
    ) -> None:
        """No gradient: this observer only reads."""

    def energies(self) -> dict[str, Array]:
        return {layer: square / self._counts[layer] for layer, square in self._squares.items()}
