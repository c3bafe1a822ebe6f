"""Loss and gradient from features that arrive piece by piece: in bands of rows, in tiles, or whole.

A style loss of moments gives a factor D and a shift b by layer. Its gradient at the features is

    dS_l / dF = (D F + b) / positions

with a guidance channel T

    dS_l / dF = share * T * (D (T * F) + b T) / sum(T^2)

and the content loss's is 2 (F - P) / (numbers * sqrt(mean(P^2) mean(Q^2))), times their weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from nstrt.runtime.arrays import Array, arrays_of
from nstrt.runtime.kernels.gram import products_for
from nstrt.runtime.loss.layer_target import Pull
from nstrt.runtime.loss.moments import row_slices
from nstrt.runtime.loss.objective import LossWeights, Objective, StyleTarget, moment_observer
from nstrt.runtime.loss.terms import LossTerms
from nstrt.runtime.loss.total_variation import total_variation
from nstrt.runtime.model import shape_of
from nstrt.runtime.network.feature_observer import place_of

__all__ = ["ContentObserver", "LossAccumulator", "terms_of"]


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
            _StyleAccumulator(weights, style, large=objective.large) for style in objective.styles
        ]
        self._squares: dict[str, Array] = {}
        self.factors: dict[str, Array] = {}
        """Factors of F - P in the content loss's gradient by layer, after :meth:`total`."""

    @property
    def pulls(self) -> Mapping[str, Pull]:
        """The whole image's style gradient by layer, after :meth:`total`; for an objective without
        regions."""
        (style,) = self._styles
        return style.pulls

    def observe(self, layer: str, values: Array, top: int, left: int = 0) -> None:
        """Add features, channels x rows x columns, from row ``top`` and column ``left`` on."""
        for style in self._styles:
            style.observer.observe(layer, values, top, left)
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

    def __init__(self, weights: LossWeights, style: StyleTarget, *, large: bool) -> None:
        self._weights, self._style = weights, style
        self.observer = moment_observer(weights, style.guide, large=large)
        """Moments of the features observed so far."""
        self.pulls: dict[str, Pull] = {}
        """Gradient at F, or T * F, by layer, after :meth:`total`."""

    def total(self) -> Array:
        """The style loss; keeps its gradient at the features."""
        weights = self._weights
        shares = weights.normalized(weights.style_layers)
        style: Array = 0.0
        for layer, moments in self.observer.moments().items():
            loss, pull = self._style.layers[layer].loss_and_pull(moments)
            share = self._style.share * shares[layer]
            style = style + share * loss
            positions = self.observer.positions(layer) if weights.gram_mean else 1
            self.pulls[layer] = pull.scaled(weights.style * share / positions)
        return style

    def add_gradient(self, layer: str, values: Array, gradient: Array, top: int, left: int) -> None:
        """Add the gradient at the features ``values`` to ``gradient``."""
        pull = self.pulls.get(layer)
        if pull is None:
            return
        if self._style.guide is None:
            products = products_for(gradient, large=self.observer.large)
            products.add_gram_gradient(gradient, pull.factor, values, pull.shift)
            return
        channel = self._style.guide.values[layer][place_of(values, top, left)]
        for rows in row_slices(values):
            guided = values[:, rows].to(pull.factor.dtype) * channel[rows]
            product = (pull.factor @ guided.flatten(1)).view(guided.shape)
            if pull.shift is not None:
                product += pull.shift[:, None, None] * channel[rows]
            product *= channel[rows]
            gradient[:, rows] += product


def terms_of(values: Array) -> LossTerms:
    """Convert the result of :meth:`LossAccumulator.total`, in one transfer from the device."""
    loss, content, style, tv = values.tolist()
    return LossTerms(loss=loss, content=content, style=style, tv=tv)
