"""Jobs of a batch, and the events that report on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.run.progress import Progress

__all__ = [
    "BatchEvent",
    "Job",
    "JobDiffers",
    "JobDone",
    "JobEvent",
    "JobFailed",
    "JobPlanned",
    "JobProgress",
    "JobSkipped",
    "JobStarted",
]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One picture to paint."""

    content: Path
    """File of the photo."""

    style: Path
    """File of the painting."""

    style_mask: Path | None = None
    """File of the mask of the painting's part that counts; None for all of it."""

    output: Path
    """File of the result; its folder exists."""

    options: StylizeOptions
    """Options of the run."""

    strip_metadata: bool = False
    """Save the result without the photo's own data."""


@dataclass(frozen=True, kw_only=True)
class JobEvent:
    """Base of the events of one job."""


@dataclass(frozen=True, kw_only=True)
class JobPlanned(JobEvent):
    """The job would run; a dry run ends here."""

    width: int
    """Width of the finest scale in pixels."""

    height: int
    """Height of the finest scale in pixels."""

    steps: int
    """Most steps over all scales."""

    seconds: float
    """Estimated seconds of the run."""

    memory: int
    """Estimated peak memory in bytes."""


@dataclass(frozen=True, kw_only=True)
class JobStarted(JobEvent):
    """The pictures are read and the plan is made; the first step follows."""

    width: int
    """Width of the finest scale in pixels."""

    height: int
    """Height of the finest scale in pixels."""

    steps: int
    """Most steps over all scales."""


@dataclass(frozen=True, kw_only=True)
class JobProgress(JobEvent, Progress):
    """One step was taken: the progress of the job's run."""


@dataclass(frozen=True, kw_only=True)
class JobDone(JobEvent):
    """The result is saved."""

    seconds: float
    """Seconds from reading the pictures to saving the result."""

    steps: int
    """Steps that were taken."""

    painted: float
    """One minus the style loss over that of the photo itself, 0 to 1."""

    loss: float
    """Loss at the finest scale."""

    notes: tuple[str, ...]
    """Sentences on what was repaired, converted or left out, at reading and at saving."""


@dataclass(frozen=True, kw_only=True)
class JobSkipped(JobEvent):
    """A result of equal photo, painting and options exists already."""


@dataclass(frozen=True, kw_only=True)
class JobDiffers(JobEvent):
    """Another picture lies where the result would go; it stays as it is."""

    reason: str
    """Differences from the job's photo, painting and options, as a phrase."""


@dataclass(frozen=True, kw_only=True)
class JobFailed(JobEvent):
    """The job has no result; the other jobs go on."""

    reason: str
    """The error in one sentence."""

    code: str
    """Kind of the error: :attr:`NstrtError.code`, or ``internal`` for a fault in nstrt."""

    trace: str = ""
    """Traceback of an ``internal`` error."""


@dataclass(frozen=True, kw_only=True)
class BatchEvent:
    """An event of one job, with the job and its place in the batch."""

    number: int
    """Position of the job in the batch, from 1."""

    total: int
    """Number of jobs in the batch."""

    seconds_left: float | None
    """Estimated seconds until all jobs have ended; None before the first step."""

    job: Job
    """The job."""

    event: JobEvent
    """The event."""
