"""Content, style and total variation losses (Gatys, Ecker and Bethge, 2016), and their sum.

For a layer l with features F (channels x positions), content target P and style target A::

    Gram       G   = F F' / positions
    content    C_l = mean((F - P)^2) / mean(P^2)
    style      S_l = mean((G - A)^2) / mean(A^2)
    variation  TV  = mean squared difference of neighbours, right and below, image in 0..1
    total      content_weight * sum c_l C_l + style_weight * sum s_l S_l + tv_weight * TV

The denominators make a weight mean the same for every layer, size and set of weights; they are
floored at :data:`EPSILON`, and left out with ``relative=False`` to reproduce published formulas.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nstrt.runtime.model import shape_of
from nstrt.runtime.terms import LossTerms

__all__ = [
    "EPSILON",
    "Contents",
    "Grams",
    "LossWeights",
    "Objective",
    "Tally",
    "Together",
    "content_loss",
    "gram_matrix",
    "style_loss",
    "terms_of",
    "tv_loss",
]

EPSILON = 1e-12
"""Smallest denominator of a relative loss."""


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
    pairs = sum(math.prod(part.shape) for part in _neighbours(image))
    return (image.diff(dim=-1).square().sum() + image.diff(dim=-2).square().sum()) / pairs


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

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers whose features the loss looks at."""
        return tuple(dict.fromkeys([*self.content_layers, *self.style_layers]))

    def normalized(self, layers: Mapping[str, float]) -> dict[str, float]:
        """Layer weights as they count: with sum 1, or as given for raw losses."""
        total = sum(layers.values()) if self.relative else 1.0
        return {name: weight / total for name, weight in layers.items()}


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The loss of one scale: weights and the targets they are measured against."""

    weights: LossWeights
    """What counts how much."""

    contents: Mapping[str, Tensor]
    """P by layer: channels x height x width."""

    grams: Mapping[str, Tensor]
    """A by layer: channels x channels."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers whose features the loss looks at."""
        return self.weights.layers

    @cached_property
    def content_energies(self) -> dict[str, Tensor]:
        """What the content loss of each layer is divided by: mean(P^2), or 1."""
        return {layer: self._energy(target) for layer, target in self.contents.items()}

    @cached_property
    def style_energies(self) -> dict[str, Tensor]:
        """What the style loss of each layer is divided by: mean(A^2), or 1."""
        return {layer: self._energy(target) for layer, target in self.grams.items()}

    def _energy(self, target: Tensor) -> Tensor:
        if not self.weights.relative:
            return target.new_ones((), dtype=torch.float64)
        # A dot product needs no memory of its own.
        flat = target.flatten()
        return (torch.dot(flat, flat).double() / len(flat)).clamp_min(EPSILON)

    def style_of(self, grams: Mapping[str, Tensor]) -> float:
        """The style loss of a picture with these Gram matrices, sum of s_l S_l."""
        shares = self.weights.normalized(self.weights.style_layers)
        return float(
            sum(
                share
                * (grams[layer] - self.grams[layer]).square().mean(dtype=torch.float64)
                / self.style_energies[layer]
                for layer, share in shares.items()
            )
        )

    def tally(self) -> Tally:
        """An account of one image, to be shown its features."""
        return Tally(self)


class Grams:
    """Collects the Gram matrices of a picture, from rows of its features."""

    def __init__(self, layers: Iterable[str]) -> None:
        self.layers = tuple(layers)
        """The layers whose features count."""
        self._sums: dict[str, Tensor] = {}
        self._positions = dict.fromkeys(self.layers, 0)

    def see(self, layer: str, values: Tensor, top: int, left: int = 0) -> None:
        """Features, channels x rows x columns, of any place."""
        if layer not in self._positions:
            return
        flat = values.flatten(1)
        if flat.dtype == torch.float16:
            # Sums over a million positions lie beyond half precision's largest number.
            flat = flat.float()
        if layer not in self._sums:
            self._sums[layer] = flat.new_zeros((len(flat), len(flat)))
        _add_product(self._sums[layer], flat)
        self._positions[layer] += flat.shape[1]

    def pull(self, layer: str, values: Tensor, gradient: Tensor, top: int, left: int = 0) -> None:
        """Who only looks does not pull."""

    def positions(self, layer: str) -> int:
        """Pixels of a layer that were seen."""
        return self._positions[layer]

    def matrices(self, *, mean: bool) -> dict[str, Tensor]:
        """G by layer; ``mean`` divides by the number of positions."""
        return {
            layer: total / self._positions[layer] if mean else total
            for layer, total in self._sums.items()
        }


class Contents:
    """Copies the features of a picture of ``height`` x ``width`` pixels, from rows of them."""

    def __init__(self, layers: Iterable[str], height: int, width: int) -> None:
        self.layers = tuple(layers)
        """The layers that are copied."""
        self.values: dict[str, Tensor] = {}
        """Features by layer, channels x height x width."""
        self._size = height, width

    def see(self, layer: str, values: Tensor, top: int, left: int = 0) -> None:
        """Features, channels x rows x columns, from row ``top`` and column ``left`` on."""
        if layer not in self.layers:
            return
        if layer not in self.values:
            shape = shape_of(layer, *self._size)
            dtype = torch.float32 if values.dtype == torch.float16 else values.dtype
            self.values[layer] = values.new_empty(shape, dtype=dtype)
        self.values[layer][:, *_place(values, top, left)].copy_(values)

    def pull(self, layer: str, values: Tensor, gradient: Tensor, top: int, left: int = 0) -> None:
        """Who only looks does not pull."""


class Together:
    """Several who look at the features of one picture."""

    def __init__(self, *watchers: Grams | Contents) -> None:
        self._watchers = watchers
        self.layers = tuple(dict.fromkeys(name for each in watchers for name in each.layers))
        """The layers that any of them looks at."""

    def see(self, layer: str, values: Tensor, top: int, left: int = 0) -> None:
        """Let each look."""
        for watcher in self._watchers:
            watcher.see(layer, values, top, left)

    def pull(self, layer: str, values: Tensor, gradient: Tensor, top: int, left: int = 0) -> None:
        """Who only looks does not pull."""


class Tally:
    """The loss of one image, and its gradient with respect to the features.

    First all features are seen, in any pieces that do not overlap; then :meth:`settle` gives the
    loss; then :meth:`pull` gives its gradient at any piece. Statistics are of the whole picture,
    so pieces make no difference. With D = G - A, the style loss's gradient is

        dS_l / dF = 4 D F / (positions * channels^2 * mean(A^2))

    and the content loss's 2 (F - P) / (numbers * mean(P^2)), times their weights.
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self.layers = objective.layers
        """Layers whose features count."""
        weights = objective.weights
        self._content_weights = weights.normalized(weights.content_layers)
        self._style_weights = weights.normalized(weights.style_layers)
        self._grams = Grams(weights.style_layers)
        self._squares: dict[str, Tensor] = {}
        self._factors: dict[str, Tensor] = {}
        self._pulls: dict[str, Tensor] = {}

    def see(self, layer: str, values: Tensor, top: int, left: int = 0) -> None:
        """Features, channels x rows x columns, from row ``top`` and column ``left`` on."""
        self._grams.see(layer, values, top, left)
        target = self._objective.contents.get(layer)
        if target is not None:
            difference = values - target[:, *_place(values, top, left)]
            flat = difference.flatten()
            # A row of sums in single precision, added up in double.
            square = torch.dot(flat, flat).double()
            before = self._squares.get(layer)
            self._squares[layer] = square if before is None else before + square

    def settle(self, image: Tensor) -> LossTerms:
        """The loss at ``image``, 1 x 3 x height x width, all features of which were seen."""
        return terms_of(self.sum_up(image))

    def sum_up(self, image: Tensor) -> Tensor:
        """The same as a tensor where the features are, in double precision: loss, content, style
        and total variation. Nothing waits for a GPU."""
        weights = self._objective.weights
        content = image.new_zeros((), dtype=torch.float64)
        for layer, weight in self._content_weights.items():
            count = self._objective.contents[layer].numel()
            share = weight / count / self._objective.content_energies[layer]
            content += share * self._squares[layer]
            self._factors[layer] = 2 * weights.content * share
        style = self._sum_up_style(image)
        variation = tv_loss(image).double()
        loss = weights.content * content + weights.style * style + weights.tv * variation
        return torch.stack([loss, content, style, variation])

    def _sum_up_style(self, image: Tensor) -> Tensor:
        """The style loss; what pulls at its features is kept."""
        weights = self._objective.weights
        style = image.new_zeros((), dtype=torch.float64)
        for layer, gram in self._grams.matrices(mean=weights.gram_mean).items():
            target = self._objective.grams[layer]
            difference = gram - target
            energy = self._objective.style_energies[layer]
            share = self._style_weights[layer] / energy / target.numel()
            style += share * difference.square().sum(dtype=torch.float64)
            positions = self._grams.positions(layer) if weights.gram_mean else 1
            factor = 4 * weights.style / positions * share
            self._pulls[layer] = difference.mul_(factor.to(difference.dtype))
        return style

    def pull(self, layer: str, values: Tensor, gradient: Tensor, top: int, left: int = 0) -> None:
        """Add the loss's gradient with respect to the features ``values`` (channels x rows x
        columns, from row ``top`` and column ``left`` on) to ``gradient``."""
        pull = self._pulls.get(layer)
        if pull is not None:
            flat = values.flatten(1).to(pull.dtype)
            if gradient.is_contiguous():
                gradient.view(len(flat), -1).addmm_(pull, flat)
            else:
                gradient += (pull @ flat).view(gradient.shape)
        target = self._objective.contents.get(layer)
        if target is not None:
            difference = values - target[:, *_place(values, top, left)]
            gradient += difference.mul_(self._factors[layer].to(difference.dtype))

    def add_variation(self, image: Tensor, gradient: Tensor) -> None:
        """Add the gradient of the total variation at ``image`` to ``gradient``."""
        weight = self._objective.weights.tv
        if not weight:
            return
        pairs = sum(math.prod(part.shape) for part in _neighbours(image))
        for dimension in (-1, -2):
            steps = image.diff(dim=dimension).mul_(2 * weight / pairs)
            length = image.shape[dimension] - 1
            gradient.narrow(dimension, 1, length).add_(steps)
            gradient.narrow(dimension, 0, length).sub_(steps)


def terms_of(values: Tensor) -> LossTerms:
    """What :meth:`Tally.sum_up` gives, as numbers: one transfer, for each would wait for a GPU by
    itself."""
    loss, content, style, tv = values.tolist()
    return LossTerms(loss=loss, content=content, style=style, tv=tv)


def _add_product(total: Tensor, flat: Tensor) -> None:
    """Add F F' to ``total``, in pieces along the positions: a product that is much longer than
    wide keeps one thread busy at a time."""
    count = flat.shape[1] // _PIECE
    if count > 1 and not flat.is_cuda:
        whole = flat[:, : count * _PIECE]
        pieces = whole.reshape(len(flat), count, _PIECE).transpose(0, 1)
        total += torch.bmm(pieces, pieces.transpose(1, 2)).sum(0)
        flat = flat[:, count * _PIECE :]
    total.addmm_(flat, flat.T)


_PIECE = 1024
"""Positions of a piece of a Gram matrix's product."""


def _place(values: Tensor, top: int, left: int) -> tuple[slice, slice]:
    return slice(top, top + values.shape[1]), slice(left, left + values.shape[2])


def _neighbours(image: Tensor) -> tuple[Tensor, Tensor]:
    """One of each pair of neighbours, right and below."""
    return image[..., :, 1:], image[..., 1:, :]
