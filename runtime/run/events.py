"""What a run tells its host while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.loss.terms import LossTerms
from nstrt.runtime.planning.plan import Plan
from nstrt.runtime.run.result import Result

__all__ = ["Event", "Finished", "Preview", "ScaleDone", "Started", "Step"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Where a run is."""

    scale: int
    """Scales begun, from 1, coarse to fine."""

    width: int
    """Of this scale, in pixels."""

    height: int
    """Of this scale, in pixels."""

    iteration: int
    """Steps done at this scale."""

    step: int
    """Steps done over the whole run."""

    terms: LossTerms | None
    """The loss at the last step; None before the first."""

    painted: float
    """How far the picture has come from the photo's texture to the painting's, 0 to 1: one less
    the style loss over the photo's own."""

    fraction: float
    """Of the whole run's work that is done, 0 to 1."""

    seconds: float
    """Since the run was asked for."""

    seconds_left: float | None
    """To go, as far as it can be told; None before the first step."""


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """The pictures are read, the plan is made, and the first step comes next."""

    plan: Plan
    """What will run."""


@dataclass(frozen=True, kw_only=True)
class Step(Event):
    """One step was taken."""

    picture: Callable[[], NDArray[np.float32]] = field(repr=False, compare=False)
    """The picture as it is, at this scale's size: height x width x 3, sRGB in 0..1. It is made
    when this is called, and only until the next event."""


@dataclass(frozen=True, kw_only=True)
class Preview(Event):
    """The picture as it is, at this scale's size."""

    rgb: NDArray[np.float32]
    """height x width x 3, sRGB in 0..1."""


@dataclass(frozen=True, kw_only=True)
class ScaleDone(Event):
    """A scale is finished."""


@dataclass(frozen=True, kw_only=True)
class Finished(Event):
    """The run is over: done, or stopped with the best picture so far."""

    result: Result
    """The picture and how it was made."""
