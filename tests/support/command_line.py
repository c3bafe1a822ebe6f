"""The command line in tests: in this process, or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from nstrt.plugins.cli.app import run

__all__ = [
    "NSTRT",
    "SMALL",
    "nstrt",
    "run_nstrt",
    "run_without",
    "start_nstrt",
    "wait_until",
]

SMALL = ("--size", "64", "--scales", "1", "--iterations", "3", "--engine", "onnx")
"""Options of a run that takes a moment."""

NSTRT = (sys.executable, "-m", "nstrt.plugins.cli")
"""Start of a command line for a process of its own."""


def nstrt(*arguments: str | Path) -> int:
    """Run a command in this process and return its exit code."""
    return run([str(argument) for argument in arguments])


def run_nstrt(
    *arguments: str | Path, cache: Path | None = None, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, with another cache folder if ``cache`` is given."""
    return subprocess.run(
        [*NSTRT, *map(str, arguments)],
        **{"timeout": 120, "env": _environment(cache), **_PIPES, **more},
    )


def start_nstrt(
    *arguments: str | Path, cache: Path | None = None, **more: Any
) -> subprocess.Popen[str]:
    """Start a command in a process of its own."""
    return subprocess.Popen(
        [*NSTRT, *map(str, arguments)], **{"env": _environment(cache), **_PIPES, **more}
    )


def run_without(
    modules: Iterable[str], code: str, *arguments: str | Path, cache: Path | None = None
) -> str:
    """Run Python code in a process of its own and return its output.

    Asserts that it succeeds and imports none of ``modules``.
    """
    check = (
        f"\nimport sys\nloaded = sorted({set(modules)} & set(sys.modules))\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code + check, *map(str, arguments)],
        env=_environment(cache),
        check=False,
        **_PIPES,
    )
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def wait_until(
    condition: Callable[[], bool], process: subprocess.Popen[str], *, seconds: float = 60
) -> None:
    """Wait for a condition; fail if the process ends or the time is over before it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


_PIPES: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


def _environment(cache: Path | None) -> dict[str, str]:
    return {**os.environ, **({} if cache is None else {"NSTRT_CACHE": str(cache)})}
