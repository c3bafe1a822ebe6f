"""Report of a measured process: lines of JSON on its standard output.

Each program runs in its own process, started with one JSON argument, and writes

    {"event": "ready", "seconds": s, ...}            before its first step
    {"event": "step", "step": n, "seconds": s, "loss": x}
    {"event": "done", ...}                            at the end

``seconds`` counts from the start of the process. The loss of step n is that of the nth evaluation,
of the picture before the step. Other output goes to standard error. The parent adds the peak memory
reported by the system.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

__all__ = ["Child"]


class Child:
    """Measured process with its settings and its report."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = json.loads(sys.argv[1])
        # The output of the programs must not mix with the report.
        self._report = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def __getitem__(self, name: str) -> Any:
        return self.settings[name]

    def limit_threads(self) -> None:
        """Limit torch to the number of threads of all programs."""
        import torch

        torch.set_num_threads(self["threads"])

    def seconds(self) -> float:
        """Return the seconds since the start of this process."""
        return time.time() - float(self["spawned"])

    def report(self, event: str, **values: Any) -> None:
        """Write one line."""
        print(json.dumps({"event": event, **values}), file=self._report, flush=True)

    def ready(self, **values: Any) -> None:
        """Report that everything is loaded and the first step follows."""
        self.report("ready", seconds=self.seconds(), **values)

    def step(self, number: int, loss: float, **values: Any) -> None:
        """Report a step; ``loss`` is that of the picture before it."""
        self.report("step", step=number, seconds=self.seconds(), loss=loss, **values)
