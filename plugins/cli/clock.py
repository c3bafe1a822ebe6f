"""The time at which the command started; the command line imports this module first."""

import time

__all__ = ["STARTED"]

STARTED = time.perf_counter()
"""Start of the command by ``time.perf_counter()``, in seconds."""
