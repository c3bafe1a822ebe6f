"""Programs as child processes: what each told, and the most memory it had."""

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
    """A program ended with an error."""


@dataclass(kw_only=True)
class Outcome:
    """What one process told."""

    ready: dict[str, Any] = field(default_factory=dict)
    """Of its line before the first step."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    """Its steps."""

    done: dict[str, Any] = field(default_factory=dict)
    """Of its last line."""

    peak: float = 0.0
    """Most resident memory in MiB, as the system counted it."""

    others: float = 0.0
    """Processors that anything else kept busy meanwhile, on average."""

    @property
    def times(self) -> list[float]:
        """When its steps ended, in seconds since it was spawned."""
        return [float(step["seconds"]) for step in self.steps]


def spawn(script: str, *, threads: int, passive: bool = False, **settings: Any) -> Outcome:
    """Run one of the scripts in ``peers`` to its end, on so many threads.

    ``passive`` makes its threads sleep while they wait, whatever it would choose.
    Raises :class:`ProgramError` with the end of its words if it fails.
    """
    environment = dict(os.environ)
    # What programs choose for themselves they shall choose for themselves.
    environment.pop("OMP_WAIT_POLICY", None)
    if passive:
        environment["OMP_WAIT_POLICY"] = "passive"
    environment |= {"OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
    outcome = Outcome()
    with tempfile.TemporaryFile("w+") as words:
        began, busy = time.time(), _busy()
        given = json.dumps({"spawned": began, "threads": threads, **settings})
        process = subprocess.Popen(
            [sys.executable, str(PEERS / script), given],
            stdout=subprocess.PIPE,
            stderr=words,
            text=True,
            env=environment,
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                _hear(outcome, json.loads(line))
            # Popen's own wait would throw the usage away.
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
    own = usage.ru_utime + usage.ru_stime
    outcome.others = max(0.0, (_busy() - busy - own) / (time.time() - began))
    # macOS counts bytes, Linux kibibytes.
    outcome.peak = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return outcome


def peak_memory() -> float:
    """Bytes that this process had resident at most, as the system counted them."""
    try:
        # Linux's usage starts from what the parent had when it forked; this one does not.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024.0 * int(line.split()[1])
    except OSError:
        pass
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(most if sys.platform == "darwin" else 1024 * most)


def _busy() -> float:
    """Seconds that all processors together were not idle, since the system started."""
    times = psutil.cpu_times()._asdict()
    # A guest's time is counted in the host's user time as well.
    idle = ("idle", "iowait", "guest", "guest_nice")
    return float(sum(value for name, value in times.items() if name not in idle))


def _hear(outcome: Outcome, line: dict[str, Any]) -> None:
    event = line.pop("event")
    if event == "step":
        outcome.steps.append(line)
    elif event == "ready":
        outcome.ready = line
    else:
        outcome.done = line
