"""Compiled loops: which modules of them work here, and what they are."""

from __future__ import annotations

import contextlib
from functools import lru_cache
from hashlib import blake2b
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["is_large", "loops_stamp", "working_loops"]

_SOURCES = ("simd.py", "parallel.py", "convolution", "pooling", "gram")


@lru_cache(maxsize=8)
def working_loops(name: str) -> Any:
    """A module of this package, if Numba is installed and the module's ``works()`` says that what
    it compiles agrees with torch; else None. Found out once: a failing compiler takes its time."""
    if find_spec("numba"):
        # Numba may not fit the other packages, or have no folder for what it compiles, and
        # compilers have many ways to fail. Whatever is wrong, it is left out.
        with contextlib.suppress(Exception):
            module = import_module(f"nstrt.runtime.kernels.{name}")
            if module.works():
                return module
    return None


@lru_cache(maxsize=1)
def loops_stamp() -> str:
    """Digits that stand for their source, on which measured times depend."""
    folder, found = Path(__file__).parent, blake2b(digest_size=6)
    for source in _SOURCES:
        path = folder / source
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            found.update(file.read_bytes())
    return found.hexdigest()


_LARGE = 30_000
"""Pixels whose steps soon make up for the second that loading compiled loops takes; a run's first
preview comes before that."""


def is_large(height: int, width: int) -> bool:
    """Whether a picture of so many pixels is worth loading the compiler of loops."""
    return height * width >= _LARGE
