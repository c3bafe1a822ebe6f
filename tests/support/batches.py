"""Options and helpers of the batch tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nstrt.runtime import Batch, Job

OPTIONS: dict[str, Any] = {
    "size": 48,
    "scales": 1,
    "iterations": 2,
    "engine": "onnx",
    "precision": "fp32",
}
"""Options of a job that takes two steps of a small picture."""

FLAGS = ["--size", "48", "--scales", "1", "--iterations", "2", "--engine", "onnx"]
"""The same as flags, but for the precision."""


def last_events(jobs: Sequence[Job], **settings: Any) -> list[Any]:
    """Run a batch and return the last event of each job."""
    events = {item.number: item.event for item in Batch(jobs, **settings)}
    return [events[number] for number in sorted(events)]
