"""Modules that Numba compiles: loading, fingerprint, and the image size that repays loading."""

from __future__ import annotations

import contextlib
from functools import lru_cache
from hashlib import blake2b
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["is_large", "kernels_fingerprint", "load_compiled"]

_SOURCES = ("simd.py", "parallel.py", "convolution", "pooling", "gram")


@lru_cache(maxsize=8)
def load_compiled(name: str) -> Any:
    """Import a compiled module of this package and run its ``self_test()``.

    Returns None without Numba, or if the module raises or disagrees with torch. The result is
    cached, because a failing compiler is slow.
    """
    if find_spec("numba"):
        # Numba may not fit the other packages, or find no folder for its cache, and compilers
        # raise many types of errors. The module is optional, so every error disables it.
        with contextlib.suppress(Exception):
            module = import_module(f"nstrt.runtime.kernels.{name}")
            if module.self_test():
                return module
    return None


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
