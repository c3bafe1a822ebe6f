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

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nstrt.runtime.terms import LossTerms

__all__ = [
    "EPSILON",
    "LossWeights",
    "Objective",
    "content_loss",
    "gram_matrix",
    "style_loss",
    "tv_loss",
]

EPSILON = 1e-12
"""Smallest denominator of a relative loss."""


class _Product(torch.autograd.Function):
    """F F', whose gradient (D + D') F takes one product where autograd would take two."""

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        ctx.save_for_backward(features)
        return features @ features.T

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (features,) = ctx.saved_tensors
        found: Tensor = (grads[0] + grads[0].T) @ features
        return found


def gram_matrix(features: Tensor, *, mean: bool = True) -> Tensor:
    """G = F F' / positions, channels x channels, for features of 1 x channels x height x width.

    ``mean=False`` leaves the division out. Computed in single precision.
    """
    flat = features.flatten(2)[0].float()
    product: Tensor = _Product.apply(flat)
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
    right = (image[..., :, 1:] - image[..., :, :-1]).square()
    below = (image[..., 1:, :] - image[..., :-1, :]).square()
    return (right.sum() + below.sum()) / (right.numel() + below.numel())


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
    """P by layer: 1 x channels x height x width."""

    grams: Mapping[str, Tensor]
    """A by layer: channels x channels."""

    @classmethod
    def from_style(cls, weights: LossWeights, features: Mapping[str, Tensor]) -> Objective:
        """The style targets alone, from the features of the style picture."""
        grams = {
            name: gram_matrix(features[name], mean=weights.gram_mean)
            for name in weights.style_layers
        }
        return cls(weights=weights, contents={}, grams=grams)

    def with_content(self, features: Mapping[str, Tensor]) -> Objective:
        """The same with content targets, copied from the features of the content picture."""
        contents = {
            name: features[name].to(torch.float32, copy=True)
            for name in self.weights.content_layers
        }
        return replace(self, contents=contents)

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers whose features the loss looks at."""
        return tuple(dict.fromkeys([*self.weights.content_layers, *self.weights.style_layers]))

    def terms(self, image: Tensor, features: Mapping[str, Tensor]) -> tuple[Tensor, LossTerms]:
        """The loss as a scalar that autograd can differentiate, and its parts as numbers."""
        weights = self.weights
        content = image.new_zeros(())
        for name, weight in weights.normalized(weights.content_layers).items():
            content = content + weight * content_loss(
                features[name], self.contents[name], relative=weights.relative
            )
        style = image.new_zeros(())
        for name, weight in weights.normalized(weights.style_layers).items():
            gram = gram_matrix(features[name], mean=weights.gram_mean)
            style = style + weight * style_loss(gram, self.grams[name], relative=weights.relative)
        variation = tv_loss(image)
        loss = weights.content * content + weights.style * style + weights.tv * variation
        # One transfer for all numbers: each would wait for a GPU by itself.
        values = torch.stack([loss, content, style, variation]).detach().tolist()
        return loss, LossTerms(loss=values[0], content=values[1], style=values[2], tv=values[3])
