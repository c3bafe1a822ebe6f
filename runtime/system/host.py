"""What this machine has: cores and memory that this process may use, and what identifies it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = [
    "available_memory",
    "card_memory",
    "compiler_versions",
    "default_threads",
    "device_name",
    "has_native_bf16",
    "machine_id",
    "processor",
    "versions",
]

_CGROUP = Path("/sys/fs/cgroup")


def default_threads() -> int:
    """One for each physical core that this process may use."""
    import psutil

    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:
        allowed = os.cpu_count() or 1
    physical = psutil.cpu_count(logical=False) or allowed
    return max(1, min(allowed, physical, _quota() or allowed))


def available_memory() -> int:
    """Bytes that this process can have in all without swapping, within a container's limit.

    What it has already counts as available, and so does a container's cache of files.
    """
    import psutil

    own = int(psutil.Process().memory_info().rss)

    free = int(psutil.virtual_memory().available)
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text()) - _inactive_files()
    except (OSError, ValueError):
        return free + own
    return own + (free if limit == "max" else max(0, min(free, int(limit) - used)))


@lru_cache(maxsize=1)
def processor() -> str:
    """The processor's name, as well as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def machine_id(**more: object) -> str:
    """Twelve digits that stand for this machine and whatever else a measurement depends on."""
    content = {"processor": processor(), "system": platform.system(), **more}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def device_name(provider: str) -> str:
    """The processor or card that a provider runs on, by name."""
    if provider in ("cuda", "tensorrt"):
        return _card("name") or "NVIDIA card"
    return processor()


def card_memory() -> int:
    """Bytes free on the first NVIDIA card, as its driver says; 0 where none does."""
    free = _card("memory.free")
    return int(free) << 20 if free.isdigit() else 0


def _card(fact: str) -> str:
    """A fact about the first NVIDIA card that this process may use, by the driver's own tool."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0] or "0"
    command = ["nvidia-smi", f"--query-gpu={fact}", "--format=csv,noheader,nounits", "-i", visible]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def has_native_bf16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware, as far as can be told without torch,
    which takes seconds to load."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return not flags.isdisjoint({"avx512_bf16", "amx_bf16"})


def versions() -> dict[str, str]:
    """The versions of what decides about pixels and speed."""
    import onnxruntime

    found = {
        "nstrt": version("nstrt"),
        "numpy": version("numpy"),
        "onnxruntime": str(onnxruntime.__version__),
    }
    with contextlib.suppress(PackageNotFoundError):
        found["torch"] = version("torch")
    return found


def compiler_versions() -> dict[str, str]:
    """The versions of what compiles loops for the processor, where it is installed."""
    found = {}
    for package in ("numba", "llvmlite"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _inactive_files() -> int:
    """Bytes of cached files that a container gives up when it needs memory."""
    for line in (_CGROUP / "memory.stat").read_text().splitlines():
        name, _, value = line.partition(" ")
        if name == "inactive_file":
            return int(value)
    return 0


def _quota() -> int | None:
    """Whole cores of a container's processor quota."""
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, int(quota) // int(period))
