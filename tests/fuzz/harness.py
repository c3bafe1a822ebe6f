"""Run a suite in processes of its own, which may crash or hang, and collect the faults."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["MAX_MEMORY", "MAX_SECONDS", "Tally", "run_suite"]

MAX_SECONDS = 5.0
"""Processor time of a case, in seconds."""

MAX_MEMORY = 1 << 30
"""Peak memory of a case in bytes, beyond the file and what an honest one takes decoded."""

_PATIENCE = 60.0
"""Seconds without a word after which a case counts as hanging."""


@dataclass
class Tally:
    """Outcomes of a suite's cases."""

    cases: int = 0
    read: int = 0
    refused: int = 0
    seconds: float = 0.0
    """Longest processor time of a case."""
    memory: int = 0
    """Largest memory of a case in bytes, as :data:`MAX_MEMORY` counts it."""
    faults: list[str] = field(default_factory=list)
    """A line for each case that is not read or refused in a sentence within the limits."""

    def add(self, where: str, case: dict[str, Any]) -> None:
        self.cases += 1
        self.read += case["outcome"] == "read"
        self.refused += case["outcome"] == "refused"
        self.seconds = max(self.seconds, case["seconds"])
        self.memory = max(self.memory, case["memory"])
        if case["fault"]:
            self.faults.append(f"{where}: {case['fault']}\n{case['trace']}".rstrip())
        elif case["seconds"] > MAX_SECONDS:
            self.faults.append(f"{where}: took {case['seconds']:.1f} s")
        elif case["memory"] > MAX_MEMORY:
            self.faults.append(f"{where}: took {case['memory'] >> 20} MiB")

    def merge(self, other: Tally) -> None:
        self.cases += other.cases
        self.read += other.read
        self.refused += other.refused
        self.seconds = max(self.seconds, other.seconds)
        self.memory = max(self.memory, other.memory)
        self.faults += other.faults


def run_suite(
    name: str, count: int, *, folder: Path, seed: int = 0, first: int = 0, processes: int = 1
) -> Tally:
    """Run ``count`` cases of a suite from ``first``, shared among ``processes``."""
    bounds = [first + count * part // processes for part in range(processes + 1)]

    def share(part: int) -> Tally:
        own = folder / f"{name}-{part}"
        own.mkdir(parents=True, exist_ok=True)
        return _run_share(name, bounds[part], bounds[part + 1], seed, own)

    total = Tally()
    with ThreadPoolExecutor(processes) as pool:
        for tally in pool.map(share, range(processes)):
            total.merge(tally)
    return total


def _run_share(name: str, first: int, end: int, seed: int, folder: Path) -> Tally:
    """Start processes until all cases are done; each fatal case costs one."""
    tally, index = Tally(), first
    while index < end:
        where, began, hangs = "", index, False
        command = [sys.executable, "-m", "fuzz.child", name, index, end - index, seed, folder]
        with subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, env=_environment(folder)
        ) as process:
            assert process.stdout is not None
            try:
                for line in _lines(process.stdout.fileno()):
                    said = json.loads(line)
                    if "index" in said:
                        index, where = said["index"], f"{name} {said['index']} ({said['case']})"
                    else:
                        tally.add(where, said)
                        index, where = index + 1, ""
            except TimeoutError:
                hangs = True
                process.kill()
            code = process.wait()
        if where:
            tally.cases += 1
            died = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            tally.faults.append(f"{where}: {'hangs' if hangs else died}")
            index += 1
        elif index == began:
            raise RuntimeError(f"The suite '{name}' does not start (exit code {code}).")
    return tally


def _lines(descriptor: int) -> Iterator[bytes]:
    """Lines of a pipe up to its end.

    Raises TimeoutError if nothing comes for :data:`_PATIENCE`.
    """
    waiting = b""
    while select.select([descriptor], [], [], _PATIENCE)[0]:
        data = os.read(descriptor, 1 << 16)
        if not data:
            return
        *lines, waiting = (waiting + data).split(b"\n")
        yield from lines
    raise TimeoutError


def _environment(folder: Path) -> dict[str, str]:
    tests = str(Path(__file__).parents[1])
    paths = [tests, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "NSTRT_CACHE": str(folder / "cache"),
        "OMP_WAIT_POLICY": "passive",
    }
