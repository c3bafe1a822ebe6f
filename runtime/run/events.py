"""Events of a run, for its host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.planning.plan import Plan
from nstrt.runtime.run.progress import Progress
from nstrt.runtime.run.result import Result

__all__ = ["Event", "Finished", "Preview", "ScaleDone", "Started", "Step"]


@dataclass(frozen=True, kw_only=True)
class Event(Progress):
    """Base of all events: the progress at that moment."""


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """The pictures are read and the plan is made; the first step follows."""

    plan: Plan
    """The plan of the run."""


@dataclass(frozen=True, kw_only=True)
class Step(Event):
    """One step was taken."""

    picture: Callable[[], NDArray[np.float32]] = field(repr=False, compare=False)
    """Returns the current picture: height x width x 3 at this scale's size, sRGB in 0..1.

    Valid until the next event.
    """


@dataclass(frozen=True, kw_only=True)
class Preview(Event):
    """The current picture, at the preview interval that was requested."""

    rgb: NDArray[np.float32] = field(repr=False, compare=False)
    """height x width x 3 at this scale's size, sRGB in 0..1."""


@dataclass(frozen=True, kw_only=True)
class ScaleDone(Event):
    """A scale is finished."""


@dataclass(frozen=True, kw_only=True)
class Finished(Event):
    """The run is over: complete, or stopped with the best picture so far."""

    result: Result
    """The picture and how it was made."""
