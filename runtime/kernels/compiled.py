"""Modules that Numba compiles: loading, fingerprint, and the image size that repays loading."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from hashlib import blake2b
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nstrt.runtime.system.files import cache_folder
from nstrt.runtime.system.host import compiler_versions
from nstrt.runtime.system.trust import distrust_reason, make_folder

__all__ = [
    "code_folder",
    "is_large",
    "kernels_fingerprint",
    "left_out_reason",
    "load_compiled",
    "uncached_reason",
]

_SOURCES = ("code_cache.py", "simd.py", "parallel.py", "convolution", "pooling", "gram")

_left_out: dict[str, str] = {}
"""Reason for each compiled module that cannot be used here."""


@lru_cache(maxsize=8)
def load_compiled(name: str) -> Any:
    """Import a compiled module of this package and run its ``self_test()``.

    Returns None without Numba, or if the module raises or disagrees with torch; then
    :func:`left_out_reason` says why. The result is cached, because a failing compiler is slow.
    """
    _left_out.pop(name, None)
    if not find_spec("numba"):
        _left_out[name] = "Numba is not installed"
        return None
    try:
        module = import_module(f"nstrt.runtime.kernels.{name}")
        if module.self_test():
            return module
        _left_out[name] = "their results differ from torch's on this machine"
    except Exception as error:
        # Numba may not fit the other packages, and compilers raise many types of errors. The
        # module is optional, so every error disables it.
        _left_out[name] = f"Numba cannot compile them here: {type(error).__name__}"
    return None


def left_out_reason(name: str | None = None) -> str:
    """Reason why a compiled module, or any, was left out in this process; empty if none was."""
    return next((why for left, why in _left_out.items() if name in (left, None)), "")


def code_folder() -> Path:
    """Folder of the compiled code, for the kernels' sources and the compiler's versions."""
    versions = "-".join(f"{name}{version}" for name, version in compiler_versions().items())
    return cache_folder() / "compiled" / f"{kernels_fingerprint()}-{versions}"


def uncached_reason() -> str:
    """Reason why compiled code cannot be cached; empty if it can, or if it is there already."""
    try:
        folder = code_folder()
        if reason := distrust_reason(folder):
            return reason
        if any(folder.glob("*.nbc")):
            return ""
        make_folder(folder)
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError) as error:
        return getattr(error, "strerror", None) or str(error)
    return ""


@lru_cache(maxsize=1)
def kernels_fingerprint() -> str:
    """Hash of the kernels' sources, part of the key of compiled code and of measured times."""
    folder, digest = Path(__file__).parent, blake2b(digest_size=6)
    for source in _SOURCES:
        path = folder / source
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()


_LARGE_PIXELS = 30_000
"""Image size whose steps soon repay the second that loading compiled modules takes. Below it, that
second would delay a run's first preview."""


def is_large(height: int, width: int) -> bool:
    """Return True if an image of this size repays the time to load compiled modules."""
    return height * width >= _LARGE_PIXELS
