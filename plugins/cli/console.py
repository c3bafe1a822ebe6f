"""Telling people things, on consoles that may be narrow, foreign or gone."""

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
    """What tells people of what goes on: :func:`print_err`, or nothing at all."""
    return (lambda line: None) if quiet else print_err


def _write(line: str, stream: object) -> None:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    shown = line.encode(encoding, "backslashreplace").decode(encoding)
    try:
        print(shown, file=stream, flush=True)  # type: ignore[call-overload]
    except (OSError, ValueError):
        # Nobody listens any more (nstrt ... | head): the picture matters more than the words.
        # What is buffered must not fail again when the interpreter leaves.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, stream.fileno())  # type: ignore[attr-defined]
            os.close(silence)
