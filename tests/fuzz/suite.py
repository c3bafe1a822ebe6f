"""Interface of a suite, and the suites by name."""

from __future__ import annotations

import importlib
import random
from pathlib import Path
from typing import Protocol, cast

__all__ = ["SUITES", "Suite", "open_suite"]

SUITES = {
    "pictures": 10_000,
    "checkpoints": 2_000,
    "weights": 1_000,
    "cache": 1_000,
    "messages": 10_000,
}
"""Number of cases of each suite in ``make fuzz``; each is a module of this folder."""


class Suite(Protocol):
    """Seeds of one kind, and the reader of their changed copies."""

    refusals: tuple[type[Exception], ...]
    """Errors with which the reader refuses a case in a sentence."""

    def case(self, source: random.Random) -> tuple[str, bytes]:
        """A short description and the bytes of a case."""

    def read(self, content: bytes) -> int:
        """Read a case; return the bytes that an honest file of its kind takes in memory."""


def open_suite(name: str, folder: Path) -> Suite:
    """Make a suite's seeds; ``folder`` takes its files."""
    return cast("Suite", importlib.import_module(f"fuzz.{name}").Cases(folder))
