"""Numba's cache of compiled loops, in nstrt's cache folder.

``NUMBA_CACHE_DIR`` belongs to the whole process, and Numba's default is the folder of the installed
package, which may be read-only.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from nstrt.runtime.kernels.compiled import code_folder, kernels_fingerprint

__all__ = ["enable_cache"]

_caching: Any = import_module("numba.core.caching")


def enable_cache(dispatcher: Any) -> None:
    """Cache the compiled code of a Numba function; without a usable folder it is compiled anew."""
    # Versions of Numba name these classes differently.
    with suppress(AttributeError, OSError, RuntimeError):
        dispatcher._cache = _KernelCache(dispatcher.py_func)


class _Locator(_caching._CacheLocator):  # type: ignore[misc]
    def __init__(self, folder: Path, line: int) -> None:
        self._folder = folder
        self._line = line

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        # A function's own file would not do: intrinsics of other files are inlined.
        return kernels_fingerprint()

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, function: Callable[..., Any], file: str) -> _Locator:
        folder = code_folder()
        # Loading cached code executes it.
        if hasattr(os, "getuid") and folder.exists() and folder.stat().st_uid not in _TRUSTED:
            raise OSError(f"{folder} belongs to another user")
        return cls(folder, function.__code__.co_firstlineno)


_TRUSTED = (0, os.getuid()) if hasattr(os, "getuid") else ()
"""Users whose cached code is loaded."""


class _Implementation(_caching.FunctionCache._impl_class):  # type: ignore[misc]
    _locator_classes = (_Locator,)


class _KernelCache(_caching.FunctionCache):  # type: ignore[misc]
    _impl_class = _Implementation

    def load_overload(self, signature: Any, context: Any) -> Any:
        # Damaged files raise many types of errors; the code is then compiled and saved again.
        with suppress(Exception):
            return super().load_overload(signature, context)
        return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        # A full disk or a damaged index, which is deleted to be written anew.
        try:
            super().save_overload(signature, compiled)
        except OSError:
            pass
        except Exception:
            with suppress(OSError):
                self.flush()
