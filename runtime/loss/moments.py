"""Moments of features over positions: the statistics that the style losses compare."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from nstrt.runtime.arrays import Array, arrays_of
from nstrt.runtime.kernels.gram import GramSum, products_for
from nstrt.runtime.loss.guidance import RegionGuidance
from nstrt.runtime.network.feature_observer import place_of

__all__ = ["MomentObserver", "Moments", "row_slices"]

_GUIDED_NUMBERS = 1 << 22
"""Most numbers of features that are multiplied by a guidance channel at once."""


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Moments of one layer's features F, channels x positions."""

    second: Array
    """The Gram matrix F F' / positions, channels x channels; F F' itself for raw sums."""

    mean: Array | None = None
    """F's mean over positions, one number for each channel; None if no loss reads it."""

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return int(self.second.nbytes + (0 if self.mean is None else self.mean.nbytes))

    def scaled(self, factor: float) -> Moments:
        """Both moments times ``factor``."""
        mean = None if self.mean is None else self.mean * factor
        return Moments(second=self.second * factor, mean=mean)

    @staticmethod
    def blend(parts: Sequence[Moments], weights: Sequence[float]) -> Moments:
        """Weighted mean of several paintings' moments: those of all their positions together."""
        total = sum(weights)
        scaled = [part.scaled(w / total) for part, w in zip(parts, weights, strict=True)]
        means = [part.mean for part in scaled if part.mean is not None]
        return Moments(
            second=sum(part.second for part in scaled), mean=sum(means) if means else None
        )


class MomentObserver:
    """Sums the moments of an image's features, or of the region of ``guide``.

    With a guidance channel T, positions count by T^2. ``means`` asks for first moments, too.
    ``raw`` leaves second moments as sums over positions.
    """

    def __init__(
        self,
        layers: Iterable[str],
        guide: RegionGuidance | None = None,
        *,
        means: bool = False,
        raw: bool = False,
        large: bool = False,
    ) -> None:
        self.large = large
        """Compiled kernels pay for their loading."""
        self.layers = tuple(name for name in layers if guide is None or name in guide.values)
        """Layers to observe; a region that is empty at a layer leaves it out."""
        self._guide, self._raw = guide, raw
        self._products: dict[str, GramSum] = {}
        self._sums: dict[str, Array] | None = {} if means else None
        self._positions: dict[str, float] = (
            dict.fromkeys(self.layers, 0)
            if guide is None
            else {name: guide.energies[name] for name in self.layers}
        )

    def observe(self, layer: str, values: Array, top: int, left: int = 0) -> None:
        """Add features, channels x rows x columns, from row ``top`` and column ``left`` on."""
        if layer not in self._positions:
            return
        arrays = arrays_of(values)
        # Sums over a million positions exceed half precision's range.
        values = arrays.upcast_half(values)
        if layer not in self._products:
            products = products_for(values, large=self.large)
            self._products[layer] = products.GramSum(len(values), values)
        if self._guide is None:
            self._products[layer].add(values)
            self._add_sum(layer, values)
            self._positions[layer] += math.prod(values.shape[1:])
            return
        channel = self._guide.values[layer][place_of(values, top, left)]
        for rows in row_slices(values):
            guided = values[:, rows] * channel[rows]
            self._products[layer].add(guided)
            self._add_sum(layer, guided, channel[rows])

    def add_gradient(
        self, layer: str, values: Array, gradient: Array, top: int, left: int = 0
    ) -> None:
        """No gradient: this observer only reads."""

    def positions(self, layer: str) -> float:
        """Positions of a layer observed so far; in a region, the sum of T^2."""
        return self._positions[layer]

    def moments(self) -> dict[str, Moments]:
        """Moments by layer."""
        found = {}
        for layer, product in self._products.items():
            positions, second = self._positions[layer], product.matrix()
            found[layer] = Moments(
                second=second if self._raw else second / positions,
                mean=None if self._sums is None else self._sums[layer] / positions,
            )
        return found

    def _add_sum(self, layer: str, values: Array, channel: Array | None = None) -> None:
        if self._sums is None:
            return
        # Single precision within a piece, double precision over the pieces.
        total = (values if channel is None else values * channel).sum((1, 2))
        total = arrays_of(values).to_double(total)
        before = self._sums.get(layer)
        self._sums[layer] = total if before is None else before + total


def row_slices(values: Array) -> Iterator[slice]:
    """Slices of rows that are small enough to be copied at once."""
    rows = max(1, _GUIDED_NUMBERS // (values.shape[0] * max(1, values.shape[2])))
    for top in range(0, values.shape[1], rows):
        yield slice(top, top + rows)
