"""The terms of the loss as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LossTerms"]


@dataclass(frozen=True, kw_only=True)
class LossTerms:
    """The loss at one image and the terms that it sums."""

    loss: float
    """The weighted sum that is minimised."""

    content: float
    """Sum of c_l C_l."""

    style: float
    """Sum of s_l S_l."""

    tv: float
    """TV."""

    temporal: float = 0.0
    """Mean squared distance from the warped result of a film's previous frame."""
