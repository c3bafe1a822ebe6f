"""Run programs as child processes and collect their reports and peak memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

__all__ = ["Outcome", "ProgramError", "peak_memory", "spawn"]

PEERS = Path(__file__).parent / "peers"


class ProgramError(Exception):
    """A program failed."""


@dataclass(kw_only=True)
class Outcome:
    """Report of one process."""

    ready: dict[str, Any] = field(default_factory=dict)
    """Values of the line before the first step."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    """Values of each step."""

    done: dict[str, Any] = field(default_factory=dict)
    """Values of the last line."""

    peak: float = 0.0
    """Peak resident memory in MiB, as reported by the system."""

    others: float = 0.0
    """Average number of processors busy with other processes."""

    @property
    def times(self) -> list[float]:
        """End of each step in seconds since the start of the process."""
        return [float(step["seconds"]) for step in self.steps]


def spawn(script: str, *, threads: int, passive: bool = False, **settings: Any) -> Outcome:
    """Run a script of ``peers`` to its end.

    ``passive`` makes waiting threads sleep. Raises :class:`ProgramError` with the end of the
    output if the script fails.
    """
    environment = dict(os.environ)
    # Each program chooses its own wait policy.
    environment.pop("OMP_WAIT_POLICY", None)
    if passive:
        environment["OMP_WAIT_POLICY"] = "passive"
    environment |= {"OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
    outcome = Outcome()
    with tempfile.TemporaryFile("w+") as words:
        began, busy = time.time(), _busy()
        settings_json = json.dumps({"spawned": began, "threads": threads, **settings})
        process = subprocess.Popen(
            [sys.executable, str(PEERS / script), settings_json],
            stdout=subprocess.PIPE,
            stderr=words,
            text=True,
            env=environment,
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                _handle_line(outcome, json.loads(line))
            # Popen.wait discards the resource usage.
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            process.stdout.close()
        if process.returncode:
            words.seek(0)
            end = "\n".join(words.read().strip().splitlines()[-12:])
            raise ProgramError(f"{script} ended with {process.returncode}:\n{end}")
    child_seconds = usage.ru_utime + usage.ru_stime
    outcome.others = max(0.0, (_busy() - busy - child_seconds) / (time.time() - began))
    # macOS counts bytes, Linux kibibytes.
    outcome.peak = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return outcome


def peak_memory() -> float:
    """Return the peak resident memory of this process in bytes, as reported by the system."""
    try:
        # getrusage on Linux includes the parent's memory at the fork; VmHWM does not.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024.0 * int(line.split()[1])
    except OSError:
        pass
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(most if sys.platform == "darwin" else 1024 * most)


def _busy() -> float:
    """Return the busy seconds of all processors since the system started."""
    times = psutil.cpu_times()._asdict()
    # User time includes guest time.
    idle = ("idle", "iowait", "guest", "guest_nice")
    return float(sum(value for name, value in times.items() if name not in idle))


def _handle_line(outcome: Outcome, line: dict[str, Any]) -> None:
    event = line.pop("event")
    if event == "step":
        outcome.steps.append(line)
    elif event == "ready":
        outcome.ready = line
    else:
        outcome.done = line
