"""Start of the command, before anything else is imported."""

import time

__all__ = ["STARTED"]

STARTED = time.perf_counter()
"""Seconds of the clock that a run's times count from."""
