"""What the measured processes share: lines of JSON on their own standard output.

Each program runs in a process of its own, started with one JSON argument, and tells

    {"event": "ready", "seconds": s, ...}            before its first step
    {"event": "step", "step": n, "seconds": s, "loss": x}
    {"event": "done", ...}                            at the end

with seconds since the parent spawned it, and as loss the one that its nth evaluation found: that
of the picture before the nth step. Whatever else it prints goes to standard error. The parent
adds the process's peak memory as the system counted it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

__all__ = ["Child"]


class Child:
    """One measured process: its settings, and the way to report."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = json.loads(sys.argv[1])
        # Programs print what they like; their words must not mix with the report.
        self._report = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def __getitem__(self, name: str) -> Any:
        return self.settings[name]

    def limit_threads(self) -> None:
        """Give torch as many threads as every other program has."""
        import torch

        torch.set_num_threads(self["threads"])

    def seconds(self) -> float:
        """Since this process was spawned."""
        return time.time() - float(self["spawned"])

    def tell(self, event: str, **values: Any) -> None:
        """One line."""
        print(json.dumps({"event": event, **values}), file=self._report, flush=True)

    def ready(self, **values: Any) -> None:
        """Everything is loaded, and the first step comes next."""
        self.tell("ready", seconds=self.seconds(), **values)

    def step(self, number: int, loss: float, **values: Any) -> None:
        """One step was taken; ``loss`` is that of the picture before it."""
        self.tell("step", step=number, seconds=self.seconds(), loss=loss, **values)
