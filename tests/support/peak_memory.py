"""Peak memory of this process over a piece of code, on Linux."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Peak", "measured_peak", "status_bytes"]


@dataclass
class Peak:
    """Memory that a block took at most, on top of that before it."""

    bytes: int = 0


@contextmanager
def measured_peak() -> Iterator[Peak]:
    """Measure the resident memory of a block."""
    Path("/proc/self/clear_refs").write_text("5")
    peak, before = Peak(), status_bytes("VmRSS")
    try:
        yield peak
    finally:
        peak.bytes = max(0, status_bytes("VmHWM") - before)


def status_bytes(field: str) -> int:
    """A field of the process's status, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) * 1024
