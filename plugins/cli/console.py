"""Printing lines on consoles that may lack characters or be closed."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable

__all__ = ["print_err", "print_out", "printer"]


def print_out(line: str) -> None:
    """Print a line on stdout."""
    _write(line, sys.stdout)


def print_err(line: str) -> None:
    """Print a line on stderr."""
    _write(line, sys.stderr)


def printer(*, quiet: bool) -> Callable[[str], None]:
    """Return :func:`print_err`, or a function that prints nothing."""
    return (lambda line: None) if quiet else print_err


def _write(line: str, stream: object) -> None:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    printable = line.encode(encoding, "backslashreplace").decode(encoding)
    try:
        print(printable, file=stream, flush=True)  # type: ignore[call-overload]
    except (OSError, ValueError):
        # The reader is gone (nstrt ... | head): the run goes on without its messages. The
        # buffered ones must not fail again when the interpreter exits.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())  # type: ignore[attr-defined]
            os.close(null)
