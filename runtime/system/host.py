"""Information about the host: usable cores, device names and package versions."""

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

from nstrt.runtime.system.onnx_runtime import import_onnxruntime
from nstrt.runtime.system.own_settings import host_threads

__all__ = [
    "compiler_versions",
    "default_threads",
    "device_name",
    "free_gpu_memory",
    "has_native_bf16",
    "machine_id",
    "processor_name",
    "versions",
]

_CGROUP = Path("/sys/fs/cgroup")


def default_threads() -> int:
    """Return the number of physical cores that this process may use.

    It is at most what ``OMP_NUM_THREADS`` and ``torch.set_num_threads`` of a host allow.
    """
    import psutil

    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:
        allowed = os.cpu_count() or 1
    physical = psutil.cpu_count(logical=False) or allowed
    limits = (_quota(), _omp_threads(), host_threads())
    return max(1, min(allowed, physical, *(limit for limit in limits if limit)))


@lru_cache(maxsize=1)
def processor_name() -> str:
    """Return the processor's name as reported by the system."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def machine_id(**details: object) -> str:
    """Return twelve hexadecimal digits that identify this machine and the given details."""
    content = {"processor": processor_name(), "system": platform.system(), **details}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def device_name(provider: str) -> str:
    """Return the name of the processor or card that a provider runs on."""
    if provider in ("cuda", "tensorrt"):
        return _query_gpu("name") or "NVIDIA card"
    return processor_name()


def free_gpu_memory() -> int:
    """Return the free bytes of the first NVIDIA card; 0 if the driver reports none."""
    free = _query_gpu("memory.free")
    return int(free) << 20 if free.isdigit() else 0


def _query_gpu(field: str) -> str:
    """Query a field of the first visible NVIDIA card with nvidia-smi; "" on failure."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0] or "0"
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits", "-i", visible]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def has_native_bf16() -> bool:
    """Return if the processor multiplies bfloat16 in hardware, as reported by Linux."""
    try:
        # torch could tell for other systems too, but takes seconds to load.
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return not flags.isdisjoint({"avx512_bf16", "amx_bf16"})


def versions() -> dict[str, str]:
    """Return the versions of the packages that influence pixels and speed."""
    onnxruntime = import_onnxruntime()

    packages = {
        "nstrt": version("nstrt"),
        "numpy": version("numpy"),
        "onnxruntime": str(onnxruntime.__version__),
    }
    with contextlib.suppress(PackageNotFoundError):
        packages["torch"] = version("torch")
    return packages


def compiler_versions() -> dict[str, str]:
    """Return the versions of the installed packages that compile kernels."""
    packages = {}
    for package in ("numba", "llvmlite"):
        with contextlib.suppress(PackageNotFoundError):
            packages[package] = version(package)
    return packages


def _omp_threads() -> int | None:
    """Return the threads of ``OMP_NUM_THREADS``; ``None`` if it states none."""
    text = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _quota() -> int | None:
    """Return the whole cores of a container's processor quota; ``None`` for no quota."""
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, int(quota) // int(period))
