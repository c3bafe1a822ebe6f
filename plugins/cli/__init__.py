"""The command ``nstrt``."""

from __future__ import annotations

import os
import sys

import nstrt.plugins.cli.clock  # noqa: F401 takes the time
from nstrt.plugins.cli.console import lost_output, print_err, protect_streams
from nstrt.plugins.cli.signals import end_on_signals, exit_code
from nstrt.runtime.system.process import own_process

__all__ = ["limit_thread_spinning", "main"]

_PRINTING = (["info"], ["compare"])
"""Commands that have no product but their output."""

REPORT_PATIENCE = 10.0
"""Seconds for which a report for people waits for a reader."""


def main() -> None:
    """Run the command line and exit with its code."""
    waits = any(name in sys.argv for name in (*_PRINTING, "--json"))
    protect_streams(stdout_patience=None if waits else REPORT_PATIENCE)
    end_on_signals()
    own_process()
    if sys.argv[1:] == ["--version"]:
        # Answered without further imports, because scripts ask for it often.
        from importlib.metadata import version

        print(f"nstrt {version('nstrt')}")
        sys.exit(0)
    limit_thread_spinning()
    try:
        from nstrt.plugins.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    sys.stdout.flush()
    if reason := lost_output():
        print_err(f"nstrt: The output could not be written: {reason}; send it elsewhere.")
        code = code or int(sys.argv[1:2] in _PRINTING)
    sys.exit(exit_code(code))


def limit_thread_spinning() -> None:
    """Let torch's threads spin for about 0.1 ms before they sleep, unless OMP_WAIT_POLICY is set.

    The OpenMP library reads the setting when torch is loaded.
    """
    # Spinning for longer, the default, made a busy machine ten times slower; sleeping at once
    # made an idle one slower by a third.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
