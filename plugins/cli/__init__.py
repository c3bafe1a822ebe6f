"""The command ``nstrt``."""

from __future__ import annotations

import os
import sys
import time

__all__ = ["main"]

STARTED = time.perf_counter()
"""When the command began, for the seconds that it reports."""


def main() -> None:
    """Run the command line and leave with its exit code."""
    if sys.argv[1:] == ["--version"]:
        # Before anything else is imported: scripts ask this often.
        from importlib.metadata import version

        print(f"nstrt {version('nstrt')}")
        sys.exit(0)
    # Threads that spin while they wait cost a machine that has other work a factor of ten, and a
    # quiet one gains nothing from them; the OpenMP library reads this when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        from nstrt.plugins.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
