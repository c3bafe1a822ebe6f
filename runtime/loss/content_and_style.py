"""Loss and gradient from features that arrive piece by piece: in bands of rows, in tiles, or whole.

With D = G - A, the style loss's gradient at the features is

    dS_l / dF = 4 D F / (positions * channels^2 * mean(A^2))

with a guidance channel T

    dS_l / dF = share * 4 T * (D (T * F)) / (sum(T^2) * channels^2 * mean(A^2))

and the content loss's is 2 (F - P) / (numbers * mean(P^2)), times their weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from nstrt.runtime.arrays import Array, arrays_of
from nstrt.runtime.kernels.gram import GramSum, products_for
from nstrt.runtime.loss.guidance import RegionGuidance
from nstrt.runtime.loss.objective import LossWeights, Objective, StyleTarget
from nstrt.runtime.loss.terms import LossTerms
from nstrt.runtime.loss.total_variation import total_variation
from nstrt.runtime.model import shape_of
from nstrt.runtime.network.feature_observer import place_of

__all__ = ["ContentObserver", "GramObserver", "LossAccumulator", "terms_of"]

_GUIDED_NUMBERS = 1 << 22
"""Most numbers of features that are multiplied by a guidance channel at once."""


class GramObserver:
    """Sums Gram matrices of an image, or of the region of ``guide``."""

    def __init__(
        self, layers: Iterable[str], guide: RegionGuidance | None = None, *, large: bool = False
    ) -> None:
        self.large = large
        """Compiled kernels pay for their loading."""
        self.layers = tuple(name for name in layers if guide is None or name in guide.values)
        """Layers to observe; a region that is empty at a layer leaves it out."""
        self._guide = guide
        self._sums: dict[str, GramSum] = {}
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
        if layer not in self._sums:
            products = products_for(values, large=self.large)
            self._sums[layer] = products.GramSum(len(values), values)
        if self._guide is None:
            self._sums[layer].add(values)
            self._positions[layer] += math.prod(values.shape[1:])
            return
        channel = self._guide.values[layer][place_of(values, top, left)]
        for rows in _row_slices(values):
            self._sums[layer].add(values[:, rows] * channel[rows])

    def add_gradient(
        self, layer: str, values: Array, gradient: Array, top: int, left: int = 0
    ) -> None:
        """No gradient: this observer only reads."""

    def positions(self, layer: str) -> float:
        """Positions of a layer observed so far; in a region, the sum of T^2."""
        return self._positions[layer]

    def matrices(self, *, mean: bool) -> dict[str, Array]:
        """G by layer; ``mean`` divides by the number of positions."""
        return {
            layer: total.matrix() / self._positions[layer] if mean else total.matrix()
            for layer, total in self._sums.items()
        }


class ContentObserver:
    """Copies the features of an image of ``height`` x ``width`` pixels."""

    def __init__(self, layers: Iterable[str], height: int, width: int) -> None:
        self.layers = tuple(layers)
        """Layers to copy."""
        self.values: dict[str, Array] = {}
        """Features by layer, channels x height x width."""
        self._size = height, width

    def observe(self, layer: str, values: Array, top: int, left: int = 0) -> None:
        """Copy features, channels x rows x columns, from row ``top`` and column ``left`` on."""
        if layer not in self.values:
            shape = shape_of(layer, *self._size)
            self.values[layer] = arrays_of(values).empty(shape, values)
        self.values[layer][:, *place_of(values, top, left)] = values

    def add_gradient(
        self, layer: str, values: Array, gradient: Array, top: int, left: int = 0
    ) -> None:
        """No gradient: this observer only reads."""


class LossAccumulator:
    """Loss of one image, and its gradient at the features.

    First observe all features, in pieces that do not overlap. Then :meth:`total` gives the loss,
    and :meth:`add_gradient` its gradient at any piece. Statistics cover the whole image, so the
    choice of pieces changes nothing but rounding.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        """The loss to accumulate."""
        self.layers = objective.layers
        """Layers to observe."""
        weights = objective.weights
        self._content_weights = weights.normalized(weights.content_layers)
        self._styles = [
            _StyleAccumulator(weights, style, energies, large=objective.large)
            for style, energies in zip(objective.styles, objective.style_energies, strict=True)
        ]
        self._squares: dict[str, Array] = {}
        self.factors: dict[str, Array] = {}
        """Factors of F - P in the content loss's gradient by layer, after :meth:`total`."""

    @property
    def style_factors(self) -> Mapping[str, Array]:
        """Factors of F in the whole image's style gradient, channels x channels, after
        :meth:`total`; for an objective without regions."""
        (style,) = self._styles
        return style.factors

    def observe(self, layer: str, values: Array, top: int, left: int = 0) -> None:
        """Add features, channels x rows x columns, from row ``top`` and column ``left`` on."""
        for style in self._styles:
            style.grams.observe(layer, values, top, left)
        target = self.objective.contents.get(layer)
        if target is not None:
            difference = values - target[:, *place_of(values, top, left)]
            arrays = arrays_of(difference)
            weighted = self._protected(layer, difference, top, left)
            # Single precision within a piece, double precision over the pieces.
            square = arrays.to_double(arrays.dot(difference, weighted))
            before = self._squares.get(layer)
            self._squares[layer] = square if before is None else before + square

    def terms(self, image: Array) -> LossTerms:
        """The loss at ``image``, 1 x 3 x height x width, after all its features were observed."""
        return terms_of(self.total(image))

    def total(self, image: Array) -> Array:
        """The loss as an array on the features' device, without waiting for a GPU.

        Returns loss, content, style and total variation in double precision.
        """
        weights, arrays = self.objective.weights, arrays_of(image)
        content: Array = 0.0
        for layer, weight in self._content_weights.items():
            count = math.prod(self.objective.contents[layer].shape)
            share = weight / count / self.objective.content_energies[layer]
            content = content + share * self._squares[layer]
            self.factors[layer] = 2 * weights.content * share
        style: Array = 0.0
        for each in self._styles:
            style = style + each.total()
        variation = total_variation(image)
        loss = weights.content * content + weights.style * style + weights.tv * variation
        return arrays.stack([loss, content, style, variation], image)

    def add_gradient(
        self, layer: str, values: Array, gradient: Array, top: int, left: int = 0
    ) -> None:
        """Add the loss's gradient at the features ``values`` to ``gradient``.

        Both are channels x rows x columns, from row ``top`` and column ``left`` on.
        """
        for style in self._styles:
            style.add_gradient(layer, values, gradient, top, left)
        target = self.objective.contents.get(layer)
        if target is not None:
            difference = values - target[:, *place_of(values, top, left)]
            difference = self._protected(layer, difference, top, left)
            difference *= self.factors[layer]
            gradient += difference

    def _protected(self, layer: str, difference: Array, top: int, left: int) -> Array:
        """W * (F - P), or F - P itself without protection."""
        if self.objective.protection is None:
            return difference
        return difference * self.objective.protection[layer][place_of(difference, top, left)]


class _StyleAccumulator:
    """Style loss of one target, and its gradient."""

    def __init__(
        self,
        weights: LossWeights,
        style: StyleTarget,
        energies: Mapping[str, Array],
        *,
        large: bool,
    ) -> None:
        self._weights, self._style, self._energies = weights, style, energies
        self.grams = GramObserver(weights.style_layers, style.guide, large=large)
        """Gram matrices of the features observed so far."""
        self.factors: dict[str, Array] = {}
        """Factors of F, or T * F, in the gradient, channels x channels, after :meth:`total`."""

    def total(self) -> Array:
        """The style loss; keeps the factors of its gradient."""
        weights = self._weights
        layers = weights.normalized(weights.style_layers)
        style: Array = 0.0
        for layer, gram in self.grams.matrices(mean=weights.gram_mean).items():
            target = self._style.grams[layer]
            difference = gram - target
            share = layers[layer] / self._energies[layer] / math.prod(target.shape)
            share = self._style.share * share
            style = style + share * arrays_of(difference).sum_of_squares(difference)
            positions = self.grams.positions(layer) if weights.gram_mean else 1
            difference *= 4 * weights.style / positions * share
            self.factors[layer] = difference
        return style

    def add_gradient(self, layer: str, values: Array, gradient: Array, top: int, left: int) -> None:
        """Add the gradient at the features ``values`` to ``gradient``."""
        factors = self.factors.get(layer)
        if factors is None:
            return
        if self._style.guide is None:
            products_for(gradient, large=self.grams.large).add_gram_gradient(
                gradient, factors, values
            )
            return
        channel = self._style.guide.values[layer][place_of(values, top, left)]
        for rows in _row_slices(values):
            guided = values[:, rows].to(factors.dtype) * channel[rows]
            product = (factors @ guided.flatten(1)).view(guided.shape)
            product *= channel[rows]
            gradient[:, rows] += product


def terms_of(values: Array) -> LossTerms:
    """Convert the result of :meth:`LossAccumulator.total`, in one transfer from the device."""
    loss, content, style, tv = values.tolist()
    return LossTerms(loss=loss, content=content, style=style, tv=tv)


def _row_slices(values: Array) -> Iterator[slice]:
    """Slices of rows that are small enough to be copied at once."""
    rows = max(1, _GUIDED_NUMBERS // (values.shape[0] * max(1, values.shape[2])))
    for top in range(0, values.shape[1], rows):
        yield slice(top, top + rows)
