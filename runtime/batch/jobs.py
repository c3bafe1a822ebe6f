"""A job of a batch, and the events of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nstrt.runtime.options.options import StylizeOptions

__all__ = [
    "BatchEvent",
    "Job",
    "JobDone",
    "JobEvent",
    "JobFailed",
    "JobProgress",
    "JobSkipped",
    "JobStarted",
]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One picture to paint."""

    content: Path
    """The photo's file."""

    style: Path
    """The painting's file."""

    output: Path
    """Where the result goes; its folder exists."""

    options: StylizeOptions
    """How it is painted."""


@dataclass(frozen=True, kw_only=True)
class JobEvent:
    """What became known of a job."""


@dataclass(frozen=True, kw_only=True)
class JobStarted(JobEvent):
    """Its pictures are read, and the first step comes next."""

    width: int
    """Of the result as it is worked at, in pixels."""

    height: int
    """Of the result as it is worked at, in pixels."""

    steps: int
    """Steps at most, over all scales."""


@dataclass(frozen=True, kw_only=True)
class JobProgress(JobEvent):
    """A step was taken."""

    fraction: float
    """Of its work that is done, 0 to 1."""

    painted: float
    """How far the picture has come, as in :class:`Event`."""

    seconds_left: float | None
    """To go, as far as it can be told."""


@dataclass(frozen=True, kw_only=True)
class JobDone(JobEvent):
    """The result is saved."""

    seconds: float
    """How long it took, from reading to saving."""

    steps: int
    """Steps that were taken."""

    painted: float
    """How far the picture came, 0 to 1."""

    loss: float
    """At the finest scale."""

    notes: tuple[str, ...]
    """What the file's format could not hold."""


@dataclass(frozen=True, kw_only=True)
class JobSkipped(JobEvent):
    """The result is there already, from the same photo, painting and options."""


@dataclass(frozen=True, kw_only=True)
class JobFailed(JobEvent):
    """There is no result; the other jobs go on."""

    reason: str
    """In one sentence."""

    code: str
    """The kind of error: :attr:`NstrtError.code`, or ``internal`` for a fault of nstrt's own."""

    trace: str = ""
    """Where in the program, for ``internal``."""


@dataclass(frozen=True, kw_only=True)
class BatchEvent:
    """What became known of one of a batch's jobs."""

    number: int
    """Which, from 1, as they were given."""

    total: int
    """How many there are."""

    job: Job
    """What was to be painted."""

    event: JobEvent
    """What became known."""
