"""Loads large libraries while other threads go on.

``import torch`` maps its libraries while it holds the interpreter's lock: a quarter of a second
from memory, longer from a disk. No thread can answer a cancel meanwhile. A call that holds no lock
loads them before; the import then takes no time for it.
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
    """Load torch's main library; errors are ignored here, since the import reports them."""
    name = {"linux": "libtorch.so", "darwin": "libtorch.dylib"}.get(sys.platform)
    spec = find_spec("torch")
    if name is None or spec is None or "torch" in sys.modules:
        return
    for folder in spec.submodule_search_locations or ():
        # ctypes.CDLL(path) would hold the lock while it loads.
        with contextlib.suppress(OSError, AttributeError):
            load = ctypes.CDLL(None).dlopen
            load.restype, load.argtypes = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_int)
            load(os.fsencode(Path(folder, "lib", name)), os.RTLD_NOW)
