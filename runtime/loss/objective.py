"""Content, style and total variation losses (Gatys, Ecker and Bethge, 2016), and their sum.

For a layer l with features F (channels x positions), the photo's P and the painting's Q::

    content    C_l = mean((F - P)^2) / sqrt(mean(P^2) mean(Q^2))
    style      S_l = the Wasserstein or Gram loss of F's moments over positions, see ``wasserstein``
                     and ``gram``
    total      content_weight * sum c_l C_l + style_weight * sum s_l S_l + tv_weight * TV

With a guidance channel T of a region (Gatys et al. 2017, *Controlling Perceptual Factors in Neural
Style Transfer*, section 4), and content weights W where the photo is protected::

    moments  m_r = sum(T_r^2 F) / sum(T_r^2),   G_r = (T_r * F) (T_r * F)' / sum(T_r^2)
    style    S_l = sum over regions of share_r * the loss of m_r and G_r
    content  C_l = mean(W * (F - P)^2) / sqrt(mean(P^2) mean(Q^2))

T_r^2 is the region's mask at the layer, and share_r the mask's mean over the image. A small region
so pulls each of its pixels as strongly as a large one. The target of
several paintings has the mean of their moments, weighted by ``style_blend``.

The denominators make a weight mean the same for every layer, size and set of weights. The content
loss has the geometric mean of both pictures' energies. The style loss has the painting's units, so
the photo's alone would hold smooth photos too tightly, and busy ones too loosely. Denominators are
at least :data:`EPSILON`, and ``relative=False`` leaves them out to reproduce published formulas.
``total_variation`` and ``temporal`` have the other two terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from nstrt.runtime.arrays import Array, arrays_of
from nstrt.runtime.loss.gram import GramTarget
from nstrt.runtime.loss.guidance import PhotoOverlay, RegionGuidance
from nstrt.runtime.loss.layer_target import EPSILON, LayerTarget
from nstrt.runtime.loss.moments import MomentObserver, Moments
from nstrt.runtime.loss.temporal import TemporalLoss
from nstrt.runtime.loss.wasserstein import WassersteinTarget

__all__ = [
    "STYLE_LOSSES",
    "LossWeights",
    "Objective",
    "StyleTarget",
    "moment_observer",
    "style_target",
]

STYLE_LOSSES: Mapping[str, Callable[..., LayerTarget]] = {
    "w2": WassersteinTarget,
    "gram": GramTarget,
}
"""Loss of a layer by name, built from the painting's moments and ``relative``."""


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """The weights of the loss's terms and layers."""

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
    """Divide each term by its target's energy, and normalise layer weights to sum 1."""

    style_loss: str = "gram"
    """Key of :data:`STYLE_LOSSES`."""

    gram_mean: bool = True
    """Divide Gram matrices by the number of positions."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers that the loss reads, content layers first."""
        return tuple(dict.fromkeys([*self.content_layers, *self.style_layers]))

    def normalized(self, layers: Mapping[str, float]) -> dict[str, float]:
        """Layer weights with sum 1, or unchanged for raw losses."""
        total = sum(layers.values()) if self.relative else 1.0
        return {name: weight / total for name, weight in layers.items()}


@dataclass(frozen=True, kw_only=True)
class StyleTarget:
    """Moments to reach, in the whole image or in one region."""

    layers: Mapping[str, LayerTarget]
    """Target and loss by layer."""

    guide: RegionGuidance | None = None
    """The region's guidance channels; None for the whole image."""

    @property
    def share(self) -> float:
        """Weight of this target: the region's share of the image."""
        return 1.0 if self.guide is None else self.guide.share


def style_target(
    weights: LossWeights, moments: Mapping[str, Moments], guide: RegionGuidance | None = None
) -> StyleTarget:
    """The target of a painting with these moments, by the weights' style loss."""
    loss = STYLE_LOSSES[weights.style_loss]
    return StyleTarget(
        layers={name: loss(each, relative=weights.relative) for name, each in moments.items()},
        guide=guide,
    )


def moment_observer(
    weights: LossWeights, guide: RegionGuidance | None = None, *, large: bool = False
) -> MomentObserver:
    """An observer of the moments that the style loss compares; ``large`` as in
    :class:`Objective`."""
    means = weights.style_loss == "w2"
    return MomentObserver(
        weights.style_layers, guide, means=means, raw=not weights.gram_mean, large=large
    )


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The loss of one scale: weights and targets."""

    weights: LossWeights
    """Weights of terms and layers."""

    contents: Mapping[str, Array]
    """P by layer: channels x height x width."""

    energies: Mapping[str, Array]
    """mean(Q^2) by content layer; of several regions, the mean by their shares."""

    styles: tuple[StyleTarget, ...]
    """One target for the whole image, or one for each region."""

    protection: Mapping[str, Array] | None = None
    """W by layer, height x width; None for equal weights."""

    overlay: PhotoOverlay | None = None
    """The photo that images are composited over; None to use images as they are."""

    temporal: TemporalLoss | None = None
    """The loss against a film's previous frame; None for a picture by itself."""

    large: bool = False
    """The image is large enough for compiled kernels to pay for their loading."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers that the loss reads."""
        return self.weights.layers

    @cached_property
    def content_energies(self) -> dict[str, float]:
        """Denominators of the content loss by layer: sqrt(mean(P^2) mean(Q^2)), or 1."""
        if not self.weights.relative:
            return dict.fromkeys(self.contents, 1.0)
        return {
            # A dot product needs no memory of its own.
            layer: max(
                (float(arrays_of(target).dot(target, target)) / math.prod(target.shape))
                * float(self.energies[layer]),
                EPSILON**2,
            )
            ** 0.5
            for layer, target in self.contents.items()
        }

    def content_terms(self, contents: Mapping[str, Array]) -> dict[str, float]:
        """C_l by layer, for an image with these features."""
        return {
            layer: float(_mean_square(contents[layer] - target) / self.content_energies[layer])
            for layer, target in self.contents.items()
        }

    def style_terms(self, *moments: Mapping[str, Moments]) -> tuple[dict[str, float], ...]:
        """S_l by layer for each of :attr:`styles`, for an image with these moments."""
        return tuple(
            {layer: float(style.layers[layer].loss(each)) for layer, each in image.items()}
            for style, image in zip(self.styles, moments, strict=True)
        )

    def style_loss(self, *moments: Mapping[str, Moments]) -> float:
        """Style loss of an image with these moments, one mapping for each of :attr:`styles`."""
        shares = self.weights.normalized(self.weights.style_layers)
        return sum(
            style.share * shares[layer] * term
            for style, terms in zip(self.styles, self.style_terms(*moments), strict=True)
            for layer, term in terms.items()
        )


def _mean_square(array: Array) -> Array:
    return arrays_of(array).sum_of_squares(array) / math.prod(array.shape)
