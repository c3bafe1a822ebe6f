"""Schedule of a run's checkpoints: when to write one, resume from it, remove it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstrt.runtime.errors import CheckpointError
from nstrt.runtime.optim.state import State
from nstrt.runtime.run.checkpoint_file import (
    Checkpoint,
    NotFiniteError,
    is_checkpoint,
    read_checkpoint,
    size_of,
    write_checkpoint,
)
from nstrt.runtime.system.files import remove_stale_temporaries
from nstrt.runtime.system.host import compiler_versions, versions

if TYPE_CHECKING:
    from nstrt.runtime.engines.engine import Engine
    from nstrt.runtime.planning.plan import Plan

__all__ = ["SECONDS", "Checkpoints", "checkpoint_path", "deciding_versions"]

SECONDS = 30.0
"""Default seconds between two checkpoints."""

_WRITE_INTERVAL = 50
"""Shortest interval in multiples of the last write: writes take at most 2 % of a run."""

_FIRST_WRITE = 0.1
"""Assumed seconds of the first write."""

_DISK_SHARE = 0.5
"""Largest share of the disk's free space that a checkpoint takes."""


def checkpoint_path(output: Path) -> Path:
    """Path of the checkpoint of a run that writes ``output``."""
    return output.with_name(output.name + ".checkpoint")


class Checkpoints:
    """The checkpoint file of one run; each newer state replaces it whole.

    A state is due after ``seconds``, and after fifty times the last write's duration. At the end of
    a scale, where there is least to write, only the second condition holds. ``seconds`` 0 writes
    after every step. The first write error goes to ``notify``, and the run continues.

    Raises :class:`CheckpointError` if another file than a checkpoint would be replaced.
    """

    def __init__(
        self, path: Path, *, resume: bool, seconds: float, notify: Callable[[str], None]
    ) -> None:
        if not resume and os.path.lexists(path) and not (path.is_dir() or is_checkpoint(path)):
            raise CheckpointError(
                f"'{path}' exists and is no checkpoint of nstrt; move it, or choose another name."
            )
        self.path = path
        self._resume = resume
        self._seconds = seconds
        self._notify = notify
        self._facts: dict[str, Any] = {}
        self._engine: Engine | None = None
        self._write_seconds = _FIRST_WRITE
        self._last = time.perf_counter()
        self._notified = False

    def find(self, identity: Mapping[str, Any]) -> Checkpoint | None:
        """The checkpoint to resume from, if resuming was requested and the file exists.

        ``identity`` identifies the run. Raises :class:`CheckpointError` if the file belongs to
        another run or to other versions.
        """
        self._facts = {"identity": identity}
        if not self._resume or not self.path.exists():
            return None
        checkpoint = read_checkpoint(self.path)
        checkpoint.check_identity(identity)
        checkpoint.check_versions(deciding_versions(checkpoint.plan.engine))
        return checkpoint

    def begin(self, plan: Plan, engine: Engine) -> None:
        """Note the plan and start the clock; removes stale temporary files of killed runs."""
        with suppress(OSError):
            remove_stale_temporaries(self.path.parent)
        self._facts |= {"plan": plan, "versions": deciding_versions(plan.engine)}
        self._engine = engine
        self._last = time.perf_counter()

    def due(self, *, scale_done: bool) -> bool:
        """True if it is time to write a state."""
        if not self._seconds:
            return True
        least = 0.0 if scale_done else self._seconds
        return time.perf_counter() - self._last >= max(least, _WRITE_INTERVAL * self._write_seconds)

    def save(self, state: State, *, seconds: float) -> None:
        """Write a state over the last one; ``seconds`` is the time that the run has taken."""
        assert self._engine is not None
        started = time.perf_counter()
        try:
            if size_of(state) > _DISK_SHARE * shutil.disk_usage(self.path.parent).free:
                self._notify_once("the disk has too little room")
            else:
                write_checkpoint(
                    self.path,
                    state,
                    algorithms=self._engine.algorithms,
                    seconds=seconds,
                    **self._facts,
                )
        except OSError as error:
            self._notify_once(error.strerror or str(error))
        except NotFiniteError:
            self._notify_once("the run's numbers are not finite any more")
        self._last = time.perf_counter()
        self._write_seconds = self._last - started

    def remove(self) -> None:
        """Delete the file, after the run is finished and saved."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _notify_once(self, reason: str) -> None:
        if not self._notified:
            self._notify(f"No checkpoint could be written to '{self.path}': {reason}.")
        self._notified = True


def deciding_versions(engine: str) -> dict[str, str]:
    """Versions of everything that decides an engine's pixels."""
    from importlib.metadata import PackageNotFoundError, version

    found = versions() | compiler_versions()
    with suppress(PackageNotFoundError):
        found["pillow"] = version("pillow")
    if engine == "graph":
        # NumPy's BLAS sums its Gram matrices in another order on more threads.
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
