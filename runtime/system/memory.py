"""Memory that this process may use: within the machine, its container and its own limits."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nstrt.runtime.errors import NstrtError, PackageMissingError, TooLargeError

__all__ = [
    "BUILDING_BYTES",
    "LEAST_BYTES",
    "MemoryLimit",
    "available_memory",
    "check_building",
    "check_process_limits",
    "import_failure",
    "is_out_of_memory",
    "met_limit",
    "more_memory",
    "process_limits",
    "tightest_limit",
    "too_large",
]

LEAST_BYTES = 1_000_000_000
"""Bytes of memory in which the leanest engine paints a small picture."""


_ADVICE_FACTOR = 1.1
"""Share of a limit that is advised, because memory is predicted and not known."""

_PLANNED_SHARE = 0.85
"""Share of the memory that runs plan with."""

BUILDING_BYTES = 5_500_000_000
"""Bytes of address space in which torch exports the network."""


@dataclass(frozen=True, order=True, kw_only=True)
class MemoryLimit:
    """One limit of this process's memory."""

    left: int
    """Bytes that may be taken beyond those that this process has."""

    name: str = ""
    """Name in sentences; empty for the machine's memory."""

    most: int = 0
    """Bytes of the limit; 0 for the machine's memory."""

    def advice(self, missing: int) -> str:
        """How to have ``missing`` more bytes."""
        if not self.most:
            return "close other programs"
        # Runs plan with a share of the memory, and more is loaded until it is needed.
        enough = _ADVICE_FACTOR * (self.most + missing / _PLANNED_SHARE)
        if self.name.startswith("ulimit"):
            return f"set {self.name} to at least {math.ceil(enough / 1e8) * 100_000}"
        return f"give the container at least {math.ceil(enough / 1e8) / 10:g} GB"


def available_memory(root: Path = Path("/")) -> int:
    """Return the bytes that this process can use without swapping, within all limits.

    Memory of this process and a container's inactive file cache count as available. ``root`` holds
    ``proc`` and ``sys``.
    """
    import psutil

    return int(psutil.Process().memory_info().rss) + tightest_limit(root).left


def tightest_limit(root: Path = Path("/")) -> MemoryLimit:
    """The limit that leaves least: of the machine, its containers, or this process."""
    import psutil

    machine = MemoryLimit(left=int(psutil.virtual_memory().available))
    return min([machine, *_container_limits(root), *process_limits()], key=lambda limit: limit.left)


def more_memory(needed: int, available: int | None = None) -> tuple[str, str]:
    """Phrases for the memory that may be used, and for how to have ``needed`` bytes.

    ``available`` defaults to :func:`available_memory`.
    """
    limit = tightest_limit()
    if available is None:
        available = available_memory()
    name = f" ({limit.name})" if limit.name else ""
    free = f"{max(0, available) / 1e9:.1f} GB may be used{name}"
    return free, limit.advice(max(0, needed - available))


def too_large(task: str, needed: int) -> TooLargeError:
    """The error where a task needs ``needed`` more bytes and fewer are left."""
    free, advice = more_memory(needed, tightest_limit().left)
    return TooLargeError(
        f"{task} takes about {needed / 1e9:.1f} GB of memory, and {free}; {advice}."
    )


def import_failure(error: ImportError, sentence: str) -> NstrtError:
    """The error for a package that does not load: ``sentence``, unless memory is what it lacks."""
    if is_out_of_memory(error):
        return too_large("Loading a package", LEAST_BYTES)
    return PackageMissingError(sentence)


def check_process_limits(task: str, needed: int) -> None:
    """Raise :class:`TooLargeError` if this process's own limits leave less than ``needed`` bytes.

    Libraries that load with less end the process without a word.
    """
    if any(limit.left < needed for limit in process_limits()):
        raise too_large(task, needed)


def check_building() -> None:
    """Raise :class:`TooLargeError` if this process's limits are too tight for an export."""
    # More would be loaded before the export fails, and some libraries wait for ever then.
    if any(limit.name == "ulimit -v" and limit.most < BUILDING_BYTES for limit in process_limits()):
        raise too_large("Building the network's model, once,", BUILDING_BYTES)


def process_limits() -> Iterator[MemoryLimit]:
    """Limits of this process alone, as a shell's ``ulimit`` sets them."""
    try:
        import resource
    except ImportError:
        return
    import psutil

    used = psutil.Process().memory_info()
    for limit, flag, bytes_used in (
        (resource.RLIMIT_AS, "-v", used.vms),
        (resource.RLIMIT_DATA, "-d", getattr(used, "data", 0)),
    ):
        most = resource.getrlimit(limit)[0]
        # Other systems than Linux do not enforce these limits.
        if most != resource.RLIM_INFINITY and sys.platform == "linux":
            yield MemoryLimit(
                left=max(0, most - bytes_used),
                name=f"ulimit {flag}",
                most=most,
            )


def is_out_of_memory(error: BaseException) -> bool:
    """True for :class:`TooLargeError`, and for memory errors of torch, ONNX Runtime and the loader,
    which share no type."""
    if isinstance(error, MemoryError | TooLargeError):
        return True
    text = str(error).lower()
    return any(words in text for words in _WORDS) and "static tls" not in text


def met_limit(error: BaseException) -> bool:
    """True for a memory error in a process whose limits leave little.

    Elsewhere, a damaged file asks for more than there can be.
    """
    return is_out_of_memory(error) and any(each.left < LEAST_BYTES for each in process_limits())


_WORDS = (
    *("out of memory", "not enough memory", "failed to allocate", "bad_alloc"),
    *("can't allocate memory", "cannot allocate memory", "failed to map segment"),
    *("can't start new thread", "cannot enlarge memory"),
)


def _container_limits(root: Path) -> Iterator[MemoryLimit]:
    """Limits of the control groups of this process, of both versions, up to their root.

    A container may see its group as the root, or only its group's path outside.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    mount = root / "sys/fs/cgroup"
    for line in [*lines, "0::/", "0:memory:/"]:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            yield from _limits_along(mount, path, _V2)
        elif "memory" in controllers.split(","):
            yield from _limits_along(mount / "memory", path, _V1)


_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
"""Files of limit and use, and the line in ``memory.stat`` of the file cache that gives way."""


def _limits_along(mount: Path, path: str, names: tuple[str, str, str]) -> Iterator[MemoryLimit]:
    """Limits of a control group and those above it."""
    limit, use, cache = names
    group = PurePosixPath("/") / path
    for each in (group, *group.parents):
        folder = mount.joinpath(*each.parts[1:])
        try:
            # A group of version 2 without a limit has the word "max".
            most = int((folder / limit).read_text())
            used = int((folder / use).read_text()) - _stat(folder / "memory.stat", cache)
        except (OSError, ValueError):
            continue
        yield MemoryLimit(
            left=max(0, most - used),
            name="the container's limit",
            most=most,
        )


def _stat(path: Path, name: str) -> int:
    """A number of a control group's ``memory.stat``; 0 if it is not there."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
