"""The loss as numbers, for everyone who needs no tensors."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LossTerms"]


@dataclass(frozen=True, kw_only=True)
class LossTerms:
    """The loss at one image, as numbers."""

    loss: float
    """The weighted sum that is minimised."""

    content: float
    """Sum of c_l C_l."""

    style: float
    """Sum of s_l S_l."""

    tv: float
    """TV."""

    temporal: float = 0.0
    """How far a film's frame is from the last one's painting, moved along."""
