"""How long a run will take and how much memory, before it starts."""

from __future__ import annotations

import json
from dataclasses import dataclass

from nstrt.runtime.model import cache_folder, write_whole
from nstrt.runtime.plan import Plan

__all__ = ["Estimate", "Paces"]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run would take."""

    plan: Plan
    """What would run."""

    seconds: float
    """From its start, the network loaded."""

    available: int
    """Bytes of memory that are free where it would run; :attr:`Plan.memory` is what it takes."""


class Paces:
    """Seconds for a step of one pixel, as this machine's runs took them."""

    def __init__(self) -> None:
        self._path = cache_folder() / "paces.json"

    def of(self, key: str) -> float | None:
        """The pace of runs like ``key``, if there were any."""
        value = self._known().get(key)
        return value if isinstance(value, float) and value > 0 else None

    def learn(self, key: str, pace: float) -> None:
        """A run took ``pace``: half of what is known from now on, the runs before the rest."""
        before = self.of(key)
        known = {**self._known(), key: pace if before is None else (before + pace) / 2}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, json.dumps(known, indent=1).encode())
        except OSError:
            # A folder that cannot be written costs the next estimate a measurement.
            pass

    def _known(self) -> dict[str, object]:
        try:
            content = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}
