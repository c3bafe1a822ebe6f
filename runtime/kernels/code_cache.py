"""Numba's cache of compiled loops, in nstrt's cache folder.

``NUMBA_CACHE_DIR`` belongs to the whole process, and Numba's default is the folder of the installed
package, which may be read-only.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

from nstrt.runtime.kernels.compiled import code_folder, kernels_fingerprint
from nstrt.runtime.system.trust import distrust_reason, make_folder

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
        if reason := distrust_reason(folder):
            raise OSError(reason)
        make_folder(folder)
        return cls(folder, function.__code__.co_firstlineno)


class _Implementation(_caching.FunctionCache._impl_class):  # type: ignore[misc]
    _locator_classes = (_Locator,)


class _CheckedFile(_caching.IndexDataCacheFile):  # type: ignore[misc]
    """Files that end with a checksum: damaged code would crash the process."""

    def _load_index(self) -> Any:
        _check(Path(self._index_path))
        return super()._load_index()

    def _load_data(self, name: str) -> Any:
        _check(Path(self._data_path(name)))
        return super()._load_data(name)

    @contextmanager
    def _open_for_write(self, path: str) -> Iterator[io.BytesIO]:
        content = io.BytesIO()
        with super()._open_for_write(path) as file:
            with suppress(AttributeError, OSError):
                os.fchmod(file.fileno(), 0o644)
            yield content
            # Unpickling ignores bytes after the end.
            file.write(content.getvalue() + sha256(content.getvalue()).digest())


def _check(path: Path) -> None:
    """Raise :class:`ValueError` if a file is damaged, or others can write it."""
    if not path.exists():
        return
    if not path.is_file() or distrust_reason(path):
        raise ValueError("no file of one's own")
    content = path.read_bytes()
    if sha256(content[:-_DIGEST]).digest() != content[-_DIGEST:]:
        raise ValueError("another checksum")


_DIGEST = sha256().digest_size


class _KernelCache(_caching.FunctionCache):  # type: ignore[misc]
    _impl_class = _Implementation

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        plain: Any = vars(self)["_cache_file"]
        self._cache_file = _CheckedFile(
            cache_path=plain._cache_path,
            filename_base=plain._index_name.removesuffix(".nbi"),
            source_stamp=plain._source_stamp,
        )

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
