"""Activations that a forward pass saves for the backward pass."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from nstrt.runtime.kernels.pooling import Pooling
from nstrt.runtime.network.receptive_field import FULL_CORE, Core

__all__ = ["SavedActivations"]


@dataclass
class SavedActivations:
    """The result of a forward pass, valid until the next one."""

    height: int
    """Height of the input, without its padding."""

    width: int
    """Width of the input, without its padding."""

    pooling: Pooling
    """Implementation of the poolings."""

    large: bool
    """The input is large enough to load compiled kernels for."""

    core: Core = FULL_CORE
    """The part of the input that features are needed for; only what it needs is computed."""

    after: str | None = None
    """The layer that the input is the output of; None for a picture."""

    padded_input: Tensor | None = None
    """The padded input, if the backward pass computes the first block's output again."""

    features: dict[str, Tensor] = field(default_factory=dict)
    """Features by layer, channels x height x width; the backward pass overwrites them."""

    relu_masks: dict[str, Tensor] = field(default_factory=dict)
    """By ReLU: true where its input is above zero."""

    pooling_codes: dict[str, Tensor] = field(default_factory=dict)
    """By pooling: the pixels of each window that its gradient goes to, as
    :mod:`.kernels.pooling` encodes them."""
