"""Estimate of a run's time and memory."""

from __future__ import annotations

from dataclasses import dataclass

from nstrt.runtime.planning.plan import Plan
from nstrt.runtime.system.measurements import load_measurements, store_measurement

__all__ = ["Estimate", "duration", "known_pace", "learn_pace", "place"]


@dataclass(frozen=True, kw_only=True, repr=False)
class Estimate:
    """Time and memory that a run would take."""

    plan: Plan
    """Plan of the run."""

    seconds: float
    """Seconds from its start, with the network loaded."""

    available: int
    """Free bytes of memory where it would run; :attr:`Plan.memory` is the demand."""

    def __repr__(self) -> str:
        memory = f"{self.plan.memory / 1e9:.1f} GB of {self.available / 1e9:.1f} GB free"
        return f"<Estimate {self.seconds:.1f} s, {memory}, {self.plan!r}>"


def duration(seconds: float) -> str:
    """Rounded words, such as "14 minutes"."""
    if round(seconds) <= 1:
        return "a second"
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def place(provider: str) -> str:
    """Where a provider computes, in words."""
    return {"cpu": "on the processor", "coreml": "on Apple's Core ML"}.get(
        provider, "on the graphics card"
    )


def known_pace(key: str) -> float | None:
    """Stored seconds for a step of one pixel in runs like ``key``, or None."""
    value = load_measurements("paces").get(key)
    return None if value is None else float(value)


def learn_pace(key: str, pace: float) -> None:
    """Store a run's ``pace``, averaged with the stored one."""
    before = known_pace(key)
    store_measurement("paces", key, pace if before is None else (before + pace) / 2)
