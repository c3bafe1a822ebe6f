"""The command ``nstrt``."""

from __future__ import annotations

import os
import sys

import nstrt.plugins.cli.clock  # noqa: F401 starts the clock

__all__ = ["calm_threads", "main"]


def main() -> None:
    """Run the command line and leave with its exit code."""
    if sys.argv[1:] == ["--version"]:
        # Before anything else is imported: scripts ask this often.
        from importlib.metadata import version

        print(f"nstrt {version('nstrt')}")
        sys.exit(0)
    calm_threads()
    try:
        from nstrt.plugins.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def calm_threads() -> None:
    """Have torch's threads wait for each other briefly, some 0.1 ms, before they sleep.

    Threads that spin for longer, as they do by default, cost a machine that has other work a
    factor of ten; threads that sleep at once cost a quiet one a third. The OpenMP library reads
    this when torch is loaded; who set something stays in charge.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
