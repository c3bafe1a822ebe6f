"""The losses' formulas in torch, for autograd."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from nstrt.runtime.loss.gram import GramTarget
from nstrt.runtime.loss.layer_target import EPSILON
from nstrt.runtime.loss.moments import Moments
from nstrt.runtime.loss.objective import StyleTarget


def gram_moments(grams: Mapping[str, Tensor]) -> dict[str, Moments]:
    """Moments of a painting with these Gram matrices, for the Gram loss."""
    return {name: Moments(second=gram) for name, gram in grams.items()}


def target_grams(style: StyleTarget) -> dict[str, Tensor]:
    """A by layer of a target of the Gram loss."""
    return {
        name: target.gram for name, target in style.layers.items() if isinstance(target, GramTarget)
    }


def gram_matrix(features: Tensor, *, mean: bool = True) -> Tensor:
    """G = F F' / positions, channels x channels, for features of 1 x channels x height x width.

    ``mean=False`` leaves the division out. Computed in single precision.
    """
    flat = features.flatten(2)[0].float()
    product = flat @ flat.T
    return product / flat.shape[1] if mean else product


def content_loss(features: Tensor, target: Tensor, style: Tensor | None = None) -> Tensor:
    """mean((F - P)^2) / sqrt(mean(P^2) mean(Q^2)), a scalar; without Q, not divided."""
    difference = (features.float() - target).square().mean()
    if style is None:
        return difference
    energy = (target.square().mean() * style.square().mean()).sqrt()
    return difference / energy.clamp_min(EPSILON)


def style_loss(gram: Tensor, target: Tensor, *, relative: bool = True) -> Tensor:
    """mean((G - A)^2) / mean(A^2), a scalar."""
    difference = (gram - target).square().mean()
    return difference / target.square().mean().clamp_min(EPSILON) if relative else difference


def tv_loss(image: Tensor) -> Tensor:
    """Mean of squared differences between neighbours, right and below, a scalar."""
    down, right = image[..., 1:, :] - image[..., :-1, :], image[..., 1:] - image[..., :-1]
    squares = down.square().sum() + right.square().sum()
    return squares / (down.numel() + right.numel())
