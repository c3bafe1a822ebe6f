"""Progress of a run: one structure for events, batches and hosts."""

from __future__ import annotations

from dataclasses import dataclass

from nstrt.runtime.loss.terms import LossTerms

__all__ = ["Progress"]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Position of a run, and how far it has come."""

    scale: int
    """Scales begun, from 1, coarse to fine."""

    width: int
    """Width of this scale in pixels."""

    height: int
    """Height of this scale in pixels."""

    iteration: int
    """Steps done at this scale."""

    step: int
    """Steps done over the whole run."""

    terms: LossTerms | None
    """The loss at the last step; None before the first."""

    painted: float
    """One minus the style loss over that of the photo itself, 0 to 1."""

    fraction: float
    """Share of the run's work that is done, 0 to 1."""

    seconds: float
    """Seconds since the run was requested."""

    seconds_left: float | None
    """Estimated seconds to go; None before the first step if nothing is known of the time."""
