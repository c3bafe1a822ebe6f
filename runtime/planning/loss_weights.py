"""Weights of the loss that a run's options ask for."""

from __future__ import annotations

from nstrt.runtime.loss.objective import LossWeights
from nstrt.runtime.options.options import StylizeOptions

__all__ = ["loss_weights"]


def loss_weights(options: StylizeOptions) -> LossWeights:
    """The loss weights of ``options``, with ``strength`` applied to the content weight."""
    return LossWeights(
        content=options.effective_content_weight,
        style=options.style_weight,
        tv=options.tv_weight,
        content_layers=dict(options.content_layers),
        style_layers=dict(options.style_layers),
        relative=options.relative,
        style_loss=options.style_loss,
        # A covariance is that of one position.
        gram_mean=options.gram_mean or options.style_loss == "w2",
    )
