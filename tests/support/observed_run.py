"""The run that the tests of previews and films share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nstrt.runtime import Result


@dataclass(frozen=True)
class ObservedRun:
    """A run of two scales with 4 steps each, and the files made from its events."""

    folder: Path
    """Holds live.png, short.webp, film.webp, film.gif and, with PyAV, film.mp4."""

    result: Result

    previews: list[bytes]
    """Pixels of the preview file after each step."""
