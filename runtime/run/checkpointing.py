"""When a run's checkpoints are written, and what becomes of them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstrt.runtime.optim.state import State
from nstrt.runtime.run.checkpoint_file import Checkpoint, read_checkpoint, size_of, write_checkpoint
from nstrt.runtime.system.files import remove_leftovers
from nstrt.runtime.system.host import compiler_versions, versions

if TYPE_CHECKING:
    from nstrt.runtime.engines import Engine
    from nstrt.runtime.planning.plan import Plan

__all__ = ["SECONDS", "Checkpoints", "checkpoint_of", "deciding_versions"]

SECONDS = 30.0
"""Seconds between two checkpoints, if writing one is quick."""

_PATIENCE = 50
"""Times as long as a checkpoint took to write until the next one: two hundredths of a run."""

_FIRST = 0.1
"""Seconds that the first one is taken to take."""

_SHARE = 0.5
"""The share of the disk's free space that a checkpoint takes at most."""


def checkpoint_of(output: Path) -> Path:
    """Where the checkpoint of a run is kept whose result goes to ``output``."""
    return output.with_name(output.name + ".checkpoint")


class Checkpoints:
    """The checkpoint file of one run: one file, replaced whole by each newer state.

    A state is written when ``seconds`` and fifty times what the last one took have passed; at the
    end of a scale, where there is least to write, only the latter. With ``seconds`` 0, after every
    step, whatever it costs. What cannot be written is told to ``notify`` once, and the run goes on.
    """

    def __init__(
        self, path: Path, *, resume: bool, seconds: float, notify: Callable[[str], None]
    ) -> None:
        self.path = path
        self._resume = resume
        self._seconds = seconds
        self._notify = notify
        self._facts: dict[str, Any] = {}
        self._engine: Engine | None = None
        self._took = _FIRST
        self._last = time.perf_counter()
        self._told = False

    def find(self, asked: Mapping[str, Any]) -> Checkpoint | None:
        """The checkpoint to go on from, if that was wanted and there is one.

        Raises :class:`CheckpointError` if it is not of the run that is asked
        for, or of other software.
        """
        self._facts = {"asked": asked}
        if not self._resume or not self.path.exists():
            return None
        found = read_checkpoint(self.path)
        found.check_asked(asked)
        found.check_versions(deciding_versions(found.plan.engine))
        return found

    def begin(self, plan: Plan, engine: Engine) -> None:
        """The run's first step comes next."""
        with suppress(OSError):
            remove_leftovers(self.path.parent)
        self._facts |= {"plan": plan, "versions": deciding_versions(plan.engine)}
        self._engine = engine
        self._last = time.perf_counter()

    def due(self, *, scale_done: bool) -> bool:
        """Whether it is time to write one."""
        if not self._seconds:
            return True
        least = 0.0 if scale_done else self._seconds
        return time.perf_counter() - self._last >= max(least, _PATIENCE * self._took)

    def keep(self, state: State) -> None:
        """Write a state in place of the last one."""
        assert self._engine is not None
        started = time.perf_counter()
        try:
            if size_of(state) > _SHARE * shutil.disk_usage(self.path.parent).free:
                self._tell("the disk has too little room")
            else:
                write_checkpoint(
                    self.path, state, algorithms=self._engine.algorithms, **self._facts
                )
        except OSError as error:
            self._tell(error.strerror or str(error))
        self._last = time.perf_counter()
        self._took = self._last - started

    def remove(self) -> None:
        """Delete the file: its run is finished and saved."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _tell(self, reason: str) -> None:
        if not self._told:
            self._notify(f"No checkpoint could be written to '{self.path}': {reason}.")
        self._told = True


def deciding_versions(engine: str) -> dict[str, str]:
    """The versions of all that decides about an engine's pixels."""
    from importlib.metadata import PackageNotFoundError, version

    found = versions() | compiler_versions()
    with suppress(PackageNotFoundError):
        found["pillow"] = version("pillow")
    if engine == "graph":
        # Its Gram matrices are NumPy's, whose BLAS adds up in another order on more threads.
        found["numpy"] += f" on {_blas_threads()} cores"
    return found


def _blas_threads() -> str:
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        if os.environ.get(name):
            return os.environ[name]
    try:
        return str(len(os.sched_getaffinity(0)))
    except AttributeError:
        return str(os.cpu_count())
