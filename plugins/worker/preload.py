"""Loading large libraries while other threads go on.

``import torch`` maps its libraries while it holds the interpreter's lock: for a quarter of a
second from memory, longer from a disk, nobody hears a cancel. Loaded before, by a call that
holds no lock, they take the import no time.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from importlib.util import find_spec
from pathlib import Path

__all__ = ["load_libraries"]


def load_libraries() -> None:
    """Load what torch will load; where that fails, torch says why."""
    name = {"linux": "libtorch.so", "darwin": "libtorch.dylib"}.get(sys.platform)
    spec = find_spec("torch")
    if name is None or spec is None or "torch" in sys.modules:
        return
    for folder in spec.submodule_search_locations or ():
        # Not ctypes.CDLL(path), whose own loading holds the lock.
        with contextlib.suppress(OSError, AttributeError):
            load = ctypes.CDLL(None).dlopen
            load.restype, load.argtypes = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_int)
            load(os.fsencode(Path(folder, "lib", name)), os.RTLD_NOW)
