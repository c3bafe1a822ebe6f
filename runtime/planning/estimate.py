"""How long a run will take and how much memory, before it starts."""

from __future__ import annotations

from dataclasses import dataclass

from nstrt.runtime.planning.plan import Plan
from nstrt.runtime.system.measurements import load_measurements, store_measurement

__all__ = ["Estimate", "known_pace", "learn_pace"]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run would take."""

    plan: Plan
    """What would run."""

    seconds: float
    """From its start, the network loaded."""

    available: int
    """Bytes of memory that are free where it would run; :attr:`Plan.memory` is what it takes."""


def known_pace(key: str) -> float | None:
    """Seconds for a step of one pixel in this machine's runs like ``key``, if there were any."""
    value = load_measurements("paces").get(key)
    return value if isinstance(value, float) and value > 0 else None


def learn_pace(key: str, pace: float) -> None:
    """A run took ``pace``: half of what is known from now on, the runs before the rest."""
    before = known_pace(key)
    store_measurement("paces", key, pace if before is None else (before + pace) / 2)
