"""Content, style and total variation losses (Gatys, Ecker and Bethge, 2016), and their sum.

For a layer l with features F (channels x positions), content target P and style target A::

    Gram       G   = F F' / positions
    content    C_l = mean((F - P)^2) / mean(P^2)
    style      S_l = mean((G - A)^2) / mean(A^2)
    variation  TV  = mean squared difference of neighbours, right and below, image in 0..1
    total      content_weight * sum c_l C_l + style_weight * sum s_l S_l + tv_weight * TV

With a guidance channel T of a region (Gatys et al. 2017, *Controlling Perceptual Factors in Neural
Style Transfer*, section 4), and W where the photo is protected::

    guided Gram  G_r = (T_r * F) (T_r * F)' / sum(T_r^2)
    style        S_l = sum over regions of share_r * mean((G_r - A_r)^2) / mean(A_r^2)
    content      C_l = mean(W * (F - P)^2) / mean(P^2)

where T_r^2 is the region's mask m_r at the layer and share_r the mean of m_r: each pixel is pulled
as strongly as it would be without regions, whatever the size of its own. A of several paintings is
the mean of theirs, weighted by ``style_blend``.

For a frame of a film, with omega the last frame's painting moved along, and c where that can be
trusted (Ruder, Dosovitskiy and Brox, "Artistic Style Transfer for Videos", 2016, equation 7)::

    temporal_weight * mean(c * (x - omega)^2)    is added for the image x

The denominators make a weight mean the same for every layer, size and set of weights; they are
floored at :data:`EPSILON`, and left out with ``relative=False`` to reproduce published formulas.

The formulas by name are torch's, for whoever wants them with autograd. What the engines use, from
:class:`LossWeights` on, takes NumPy arrays and torch tensors alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from nstrt.runtime.arrays import Array, arrays_of, bands_of
from nstrt.runtime.kernels.gram import GramSum, products_for
from nstrt.runtime.loss.guidance import PhotoOverlay, RegionGuidance
from nstrt.runtime.loss.terms import LossTerms
from nstrt.runtime.model import shape_of
from nstrt.runtime.network.observer import FeatureObserver, place_of

if TYPE_CHECKING:
    from torch import Tensor

    from nstrt.runtime.options.options import StylizeOptions

__all__ = [
    "EPSILON",
    "ContentObserver",
    "GramObserver",
    "LossAccumulator",
    "LossWeights",
    "Objective",
    "ObserverGroup",
    "Region",
    "Temporal",
    "content_loss",
    "gram_matrix",
    "style_loss",
    "terms_of",
    "tv_loss",
    "variation_of",
]

EPSILON = 1e-12
"""Smallest denominator of a relative loss."""

_GUIDED = 1 << 22
"""Numbers of the features that are multiplied by a guidance channel at once."""


def gram_matrix(features: Tensor, *, mean: bool = True) -> Tensor:
    """G = F F' / positions, channels x channels, for features of 1 x channels x height x width.

    ``mean=False`` leaves the division out. Computed in single precision.
    """
    flat = features.flatten(2)[0].float()
    product = flat @ flat.T
    return product / flat.shape[1] if mean else product


def content_loss(features: Tensor, target: Tensor, *, relative: bool = True) -> Tensor:
    """mean((F - P)^2) / mean(P^2), a scalar."""
    difference = (features.float() - target).square().mean()
    return difference / target.square().mean().clamp_min(EPSILON) if relative else difference


def style_loss(gram: Tensor, target: Tensor, *, relative: bool = True) -> Tensor:
    """mean((G - A)^2) / mean(A^2), a scalar."""
    difference = (gram - target).square().mean()
    return difference / target.square().mean().clamp_min(EPSILON) if relative else difference


def tv_loss(image: Tensor) -> Tensor:
    """Mean of squared differences between neighbours, right and below, a scalar."""
    steps = (image[later] - image[earlier] for later, earlier in _neighbours(image))
    squares = [step.square().sum() for step in steps]
    return sum(squares[1:], squares[0]) / _pairs(image)


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """How much each part of the loss counts."""

    content: float
    """Weight of the content loss."""

    style: float
    """Weight of the style loss."""

    tv: float
    """Weight of the total variation."""

    content_layers: Mapping[str, float]
    """c_l by layer."""

    style_layers: Mapping[str, float]
    """s_l by layer."""

    relative: bool = True
    """Divide each term by its target's energy and make the layer weights' sums 1."""

    gram_mean: bool = True
    """Divide Gram matrices by the number of positions."""

    @classmethod
    def of(cls, options: StylizeOptions) -> LossWeights:
        """Those of a run."""
        return cls(
            content=options.effective_content_weight,
            style=options.style_weight,
            tv=options.tv_weight,
            content_layers=dict(options.content_layers),
            style_layers=dict(options.style_layers),
            relative=options.relative,
            gram_mean=options.gram_mean,
        )

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers whose features the loss looks at."""
        return tuple(dict.fromkeys([*self.content_layers, *self.style_layers]))

    def normalized(self, layers: Mapping[str, float]) -> dict[str, float]:
        """Layer weights as they count: with sum 1, or as given for raw losses."""
        total = sum(layers.values()) if self.relative else 1.0
        return {name: weight / total for name, weight in layers.items()}


@dataclass(frozen=True, kw_only=True)
class Region:
    """A style, and the part of the picture that it is for."""

    grams: Mapping[str, Array]
    """A_r by layer: channels x channels."""

    guide: RegionGuidance | None
    """Its guidance channels; None for the whole picture."""

    @property
    def share(self) -> float:
        """How much it counts."""
        return 1.0 if self.guide is None else self.guide.share


@dataclass(frozen=True, kw_only=True)
class Temporal:
    """What holds a film's frame x to the frame before: weight * mean(c (x - omega)^2).

    It looks at the image alone, so it is the same for every engine and in tiles.
    """

    weight: float
    """How much it counts."""

    target: Array
    """omega: 1 x 3 x height x width."""

    root: Array
    """The root of c: height x width."""

    def added(self, terms: LossTerms, image: Array, gradient: Array | None = None) -> LossTerms:
        """The loss at ``image`` with this part in it; its gradient, weight * 2 c (x - omega) /
        numbers, is added to ``gradient``."""
        squares = []
        for rows in bands_of(image):
            band = (..., rows, slice(None))
            difference = image[band] - self.target[band]
            difference *= self.root[band]
            squares.append(_energy(difference))
            if gradient is not None:
                difference *= self.root[band]
                difference *= 2 * self.weight / math.prod(image.shape)
                gradient[band] += difference
        found = float(sum(squares[1:], squares[0])) / math.prod(image.shape)
        return replace(terms, loss=terms.loss + self.weight * found, temporal=found)


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The loss of one scale: weights and the targets they are measured against."""

    weights: LossWeights
    """What counts how much."""

    contents: Mapping[str, Array]
    """P by layer: channels x height x width."""

    grams: Mapping[str, Array]
    """A by layer: channels x channels; empty if each style has its region."""

    regions: tuple[Region, ...] = ()
    """Parts of the picture with styles of their own."""

    protection: Mapping[str, Array] | None = None
    """W by layer, height x width; None if the photo counts the same everywhere."""

    overlay: PhotoOverlay | None = None
    """The photo that images are painted over; None if they are seen as they are."""

    temporal: Temporal | None = None
    """The painting of the frame before; None for a picture by itself."""

    large: bool = False
    """Whether the picture is worth the time to load compiled loops."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers whose features the loss looks at."""
        return self.weights.layers

    @cached_property
    def styles(self) -> tuple[Region, ...]:
        """What the style loss adds up: the style of the whole picture, or those of regions."""
        return self.regions or (Region(grams=self.grams, guide=None),)

    @cached_property
    def content_energies(self) -> dict[str, Array]:
        """What the content loss of each layer is divided by: mean(P^2), or 1."""
        return {layer: self._energy(target) for layer, target in self.contents.items()}

    @cached_property
    def style_energies(self) -> dict[str, Array]:
        """What the style loss of each layer is divided by: mean(A^2), or 1."""
        return {} if self.regions else self.energies_of_styles[0]

    @cached_property
    def energies_of_styles(self) -> tuple[dict[str, Array], ...]:
        """The same for each of :attr:`styles`."""
        return tuple(
            {layer: self._energy(target) for layer, target in style.grams.items()}
            for style in self.styles
        )

    def _energy(self, target: Array) -> Array:
        if not self.weights.relative:
            return 1.0
        arrays = arrays_of(target)
        # A dot product needs no memory of its own.
        energy = arrays.double(arrays.dot(target, target)) / math.prod(target.shape)
        return arrays.at_least(energy, EPSILON)

    def content_terms(self, contents: Mapping[str, Array]) -> dict[str, float]:
        """C_l by layer, of a picture with these features."""
        return {
            layer: float(_mean_square(contents[layer] - target) / self.content_energies[layer])
            for layer, target in self.contents.items()
        }

    def style_terms(self, *grams: Mapping[str, Array]) -> tuple[dict[str, float], ...]:
        """S_l by layer for each of :attr:`styles`, of a picture with these Gram matrices."""
        return tuple(
            {
                layer: float(_mean_square(gram - style.grams[layer]) / energies[layer])
                for layer, gram in own.items()
            }
            for style, energies, own in zip(
                self.styles, self.energies_of_styles, grams, strict=True
            )
        )

    def style_of(self, *grams: Mapping[str, Array]) -> float:
        """The style loss of a picture with these Gram matrices, those of each style's region."""
        shares = self.weights.normalized(self.weights.style_layers)
        return sum(
            style.share * shares[layer] * term
            for style, terms in zip(self.styles, self.style_terms(*grams), strict=True)
            for layer, term in terms.items()
        )

    def accumulator(self) -> LossAccumulator:
        """An account of one image, to be shown its features."""
        return LossAccumulator(self)


class GramObserver:
    """Collects the Gram matrices of a picture, from rows of its features; those of a region, with
    its ``guide``, at the layers where it has something."""

    def __init__(
        self, layers: Iterable[str], guide: RegionGuidance | None = None, *, large: bool = False
    ) -> None:
        self.large = large
        """Whether compiled loops are worth the time to load them."""
        self.layers = tuple(name for name in layers if guide is None or name in guide.values)
        """The layers whose features count."""
        self._guide = guide
        self._sums: dict[str, GramSum] = {}
        self._positions: dict[str, float] = (
            dict.fromkeys(self.layers, 0)
            if guide is None
            else {name: guide.energies[name] for name in self.layers}
        )

    def observe(self, layer: str, values: Array, top: int, left: int = 0) -> None:
        """Features, channels x rows x columns, of any place."""
        if layer not in self._positions:
            return
        arrays = arrays_of(values)
        # Sums over a million positions lie beyond half precision's largest number.
        values = arrays.single(values)
        if layer not in self._sums:
            products = products_for(values, large=self.large)
            self._sums[layer] = products.GramSum(len(values), values)
        if self._guide is None:
            self._sums[layer].add(values)
            self._positions[layer] += math.prod(values.shape[1:])
            return
        channel = self._guide.values[layer][place_of(values, top, left)]
        for rows in _strips(values):
            self._sums[layer].add(values[:, rows] * channel[rows])

    def add_gradient(
        self, layer: str, values: Array, gradient: Array, top: int, left: int = 0
    ) -> None:
        """Who only looks does not pull."""

    def positions(self, layer: str) -> float:
        """Pixels of a layer that were seen; of a region, the sum of T^2."""
        return self._positions[layer]

    def matrices(self, *, mean: bool) -> dict[str, Array]:
        """G by layer; ``mean`` divides by the number of positions."""
        return {
            layer: total.matrix() / self._positions[layer] if mean else total.matrix()
            for layer, total in self._sums.items()
        }


class ContentObserver:
    """Copies the features of a picture of ``height`` x ``width`` pixels, from rows of them."""

    def __init__(self, layers: Iterable[str], height: int, width: int) -> None:
        self.layers = tuple(layers)
        """The layers that are copied."""
        self.values: dict[str, Array] = {}
        """Features by layer, channels x height x width."""
        self._size = height, width

    def observe(self, layer: str, values: Array, top: int, left: int = 0) -> None:
        """Features, channels x rows x columns, from row ``top`` and column ``left`` on."""
        if layer not in self.values:
            shape = shape_of(layer, *self._size)
            self.values[layer] = arrays_of(values).empty(shape, values)
        self.values[layer][:, *place_of(values, top, left)] = values

    def add_gradient(
        self, layer: str, values: Array, gradient: Array, top: int, left: int = 0
    ) -> None:
        """Who only looks does not pull."""


class ObserverGroup:
    """Several who look at the features of one picture, and pull at them."""

    def __init__(self, *observers: FeatureObserver) -> None:
        self._observers = observers
        self.layers = tuple(dict.fromkeys(name for each in observers for name in each.layers))
        """The layers that any of them looks at."""

    def observe(self, layer: str, values: Array, top: int, left: int = 0) -> None:
        """Let each look that looks at the layer."""
        for observer in self._observers:
            if layer in observer.layers:
                observer.observe(layer, values, top, left)

    def add_gradient(
        self, layer: str, values: Array, gradient: Array, top: int, left: int = 0
    ) -> None:
        """Let each pull that looks at the layer."""
        for observer in self._observers:
            if layer in observer.layers:
                observer.add_gradient(layer, values, gradient, top, left)


class LossAccumulator:
    """The loss of one image, and its gradient with respect to the features.

    First observe all features, in any pieces that do not overlap. Then :meth:`terms` gives the
    loss, and :meth:`add_gradient` its gradient at any piece. Statistics are of the whole picture,
    so pieces make no difference. With D = G - A, the style loss's gradient is

        dS_l / dF = 4 D F / (positions * channels^2 * mean(A^2))

    and the content loss's 2 (F - P) / (numbers * mean(P^2)), times their weights.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        """What it is the loss of."""
        self.layers = objective.layers
        """Layers whose features count."""
        weights = objective.weights
        self._content_weights = weights.normalized(weights.content_layers)
        self._styles = [
            _StyleAccumulator(weights, style, energies, large=objective.large)
            for style, energies in zip(objective.styles, objective.energies_of_styles, strict=True)
        ]
        self._squares: dict[str, Array] = {}
        self.factors: dict[str, Array] = {}
        """What the content loss's gradient multiplies F - P by, once settled."""

    @property
    def pulls(self) -> Mapping[str, Array]:
        """What the gradient of the whole picture's style loss multiplies F by, channels x
        channels, once settled."""
        return {} if self.objective.regions else self._styles[0].pulls

    def observe(self, layer: str, values: Array, top: int, left: int = 0) -> None:
        """Features, channels x rows x columns, from row ``top`` and column ``left`` on."""
        for style in self._styles:
            style.grams.observe(layer, values, top, left)
        target = self.objective.contents.get(layer)
        if target is not None:
            difference = values - target[:, *place_of(values, top, left)]
            arrays = arrays_of(difference)
            weighted = self._protected(layer, difference, top, left)
            # A row of sums in single precision, added up in double.
            square = arrays.double(arrays.dot(difference, weighted))
            before = self._squares.get(layer)
            self._squares[layer] = square if before is None else before + square

    def _protected(self, layer: str, difference: Array, top: int, left: int) -> Array:
        """W * (F - P), or F - P itself where nothing is protected."""
        if self.objective.protection is None:
            return difference
        return difference * self.objective.protection[layer][place_of(difference, top, left)]

    def terms(self, image: Array) -> LossTerms:
        """The loss at ``image``, 1 x 3 x height x width, all features of which were seen."""
        return terms_of(self.total(image))

    def total(self, image: Array) -> Array:
        """The same as an array where the features are, in double precision: loss, content, style
        and total variation. Nothing waits for a GPU."""
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
        variation = variation_of(image)
        loss = weights.content * content + weights.style * style + weights.tv * variation
        return arrays.stack([loss, content, style, variation], image)

    def add_gradient(
        self, layer: str, values: Array, gradient: Array, top: int, left: int = 0
    ) -> None:
        """Add the loss's gradient with respect to the features ``values`` (channels x rows x
        columns, from row ``top`` and column ``left`` on) to ``gradient``."""
        for style in self._styles:
            style.add_gradient(layer, values, gradient, top, left)
        target = self.objective.contents.get(layer)
        if target is not None:
            difference = values - target[:, *place_of(values, top, left)]
            difference = self._protected(layer, difference, top, left)
            difference *= self.factors[layer]
            gradient += difference

    def add_variation(self, image: Array, gradient: Array) -> None:
        """Add the gradient of the total variation at ``image`` to ``gradient``."""
        weight = self.objective.weights.tv
        if not weight:
            return
        for later, earlier in _neighbours(image):
            step = image[later] - image[earlier]
            step *= 2 * weight / _pairs(image)
            gradient[later] += step
            gradient[earlier] -= step


class _StyleAccumulator:
    """The style loss of the whole picture or of one region, and its gradient, as a part of
    :class:`LossAccumulator`. With a guidance channel T it is

        dS / dF = share * 4 T * (D (T * F)) / (sum(T^2) * channels^2 * mean(A^2))
    """

    def __init__(
        self,
        weights: LossWeights,
        style: Region,
        energies: Mapping[str, Array],
        *,
        large: bool,
    ) -> None:
        self._weights, self._style, self._energies = weights, style, energies
        self.grams = GramObserver(weights.style_layers, style.guide, large=large)
        """Those of what was seen."""
        self.pulls: dict[str, Array] = {}
        """What the gradient multiplies F, or T * F, by, channels x channels, once summed up."""

    def total(self) -> Array:
        """The style loss; what pulls at its features is kept."""
        weights = self._weights
        layers = weights.normalized(weights.style_layers)
        style: Array = 0.0
        for layer, gram in self.grams.matrices(mean=weights.gram_mean).items():
            target = self._style.grams[layer]
            difference = gram - target
            share = layers[layer] / self._energies[layer] / math.prod(target.shape)
            share = self._style.share * share
            style = style + share * _energy(difference)
            positions = self.grams.positions(layer) if weights.gram_mean else 1
            difference *= 4 * weights.style / positions * share
            self.pulls[layer] = difference
        return style

    def add_gradient(self, layer: str, values: Array, gradient: Array, top: int, left: int) -> None:
        """Add the gradient at some features to ``gradient``."""
        pull = self.pulls.get(layer)
        if pull is None:
            return
        if self._style.guide is None:
            products_for(gradient, large=self.grams.large).add_pull(gradient, pull, values)
            return
        channel = self._style.guide.values[layer][place_of(values, top, left)]
        for rows in _strips(values):
            guided = values[:, rows].to(pull.dtype) * channel[rows]
            found = (pull @ guided.flatten(1)).view(guided.shape)
            found *= channel[rows]
            gradient[:, rows] += found


def terms_of(values: Array) -> LossTerms:
    """Convert the result of :meth:`LossAccumulator.total`, in one transfer from the device."""
    loss, content, style, tv = values.tolist()
    return LossTerms(loss=loss, content=content, style=style, tv=tv)


def _strips(values: Array) -> Iterator[slice]:
    """Rows of features, channels x rows x columns, that are few enough to be copied at once."""
    rows = max(1, _GUIDED // (values.shape[0] * max(1, values.shape[2])))
    for top in range(0, values.shape[1], rows):
        yield slice(top, top + rows)


def variation_of(image: Array) -> Array:
    """TV of an image, in double precision."""
    steps = (image[later] - image[earlier] for later, earlier in _neighbours(image))
    return sum(_energy(step) for step in steps) / _pairs(image)


def _energy(array: Array) -> Array:
    """The sum of squares."""
    return arrays_of(array).energy(array)


def _mean_square(array: Array) -> Array:
    """The mean of squares."""
    return _energy(array) / math.prod(array.shape)


def _pairs(image: Array) -> int:
    """How many pairs of neighbours there are, right and below, in all channels."""
    height, width = image.shape[-2:]
    pairs: int = math.prod(image.shape[:-2]) * (height * (width - 1) + (height - 1) * width)
    return pairs


def _neighbours(image: Array) -> Iterator[tuple[_Index, _Index]]:
    """The later and the earlier of all pairs of neighbours, right and below, in bands."""
    last = image.shape[-2] - 1
    for rows in bands_of(image):
        yield (..., rows, slice(1, None)), (..., rows, slice(None, -1))
        above = slice(rows.start, min(rows.stop, last))
        yield (..., slice(above.start + 1, above.stop + 1), slice(None)), (..., above, slice(None))


_Index: TypeAlias = Any
"""What picks a part of an array."""
