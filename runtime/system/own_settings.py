"""Settings of torch and NumPy: ours while we compute, the host's at all other times."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeVar

from nstrt.runtime.errors import ForkedProcessError
from nstrt.runtime.system.process import enter_process

__all__ = ["OwnSettings", "host_threads", "restored_globals", "use_settings"]

_T = TypeVar("_T")


class OwnSettings:
    """Settings for the computations of one run.

    A host may have chosen other number formats, devices or modes. The settings that
    :func:`use_settings` makes in the block hold in later blocks of this object too.
    """

    def __init__(self) -> None:
        self._used: tuple[int, bool | None] | None = None

    @contextmanager
    def active(self) -> Iterator[None]:
        """Compute with own settings in the block; the host's come back at its end."""
        # Imported late: help and version import this module, and NumPy takes longest of all.
        import numpy as np

        enter_process()
        if getattr(_inside, "blocks", None):
            yield
            return
        with ExitStack() as stack:
            _inside.blocks = [(self, stack)]
            stack.callback(_inside.blocks.clear)
            # NumPy's own defaults: a host may have made warnings errors.
            stack.enter_context(np.errstate(all="warn", under="ignore"))
            if "torch" in sys.modules:
                _enter_defaults(stack)
            if self._used is not None:
                _hold(stack, *self._used)
            yield

    def within(self, values: Iterator[_T]) -> Iterator[_T]:
        """Take the next of ``values`` with own settings; the host's hold between two values."""
        try:
            while True:
                with self.active():
                    try:
                        value = next(values)
                    except StopIteration:
                        return
                yield value
        finally:
            # At the interpreter's end there are no modules left to restore settings of.
            if not sys.is_finalizing():
                with suppress(ForkedProcessError), self.active():
                    values.close()  # type: ignore[attr-defined]


def use_settings(*, threads: int, tf32: bool | None = None) -> None:
    """Compute with so many threads, and on a card with or without TF32, in the current block.

    Outside any block the settings are permanent.
    """
    blocks = getattr(_inside, "blocks", None)
    if blocks:
        settings, stack = blocks[0]
        settings._used = threads, tf32
        _hold(stack, threads, tf32)
        return
    _THREADS.assign(threads)
    if tf32 is not None:
        _TF32.assign((tf32, tf32))


@contextmanager
def restored_globals() -> Iterator[None]:
    """Remove the filters of warnings and the variable that torch's exporter adds in the block."""
    before = set(os.environ)
    with warnings.catch_warnings():
        try:
            yield
        finally:
            # Other new variables may be those of another thread of the host.
            if "TORCHINDUCTOR_CACHE_DIR" not in before:
                os.environ.pop("TORCHINDUCTOR_CACHE_DIR", None)


def host_threads() -> int | None:
    """The number of threads that the host's torch uses; None without torch."""
    read = getattr(sys.modules.get("torch"), "get_num_threads", None)
    if read is None:
        return None
    return int(_THREADS.saved if _THREADS.holders else read())


class _Setting:
    """A setting of the whole process, which several runs in several threads may hold.

    The first that holds it stores the host's value, and the last writes it back. With
    ``per_thread`` each thread has a value of its own, and writes it back itself.
    """

    def __init__(
        self, read: Callable[[], Any], write: Callable[[Any], None], *, per_thread: bool = False
    ) -> None:
        self._read, self._write, self._per_thread = read, write, per_thread
        self._lock = threading.Lock()
        self.holders = 0
        self.saved: Any = None

    @contextmanager
    def holding(self, value: Any) -> Iterator[None]:
        """Hold the setting at ``value`` in the block."""
        with self._lock:
            if not self.holders:
                self.saved = self._read()
            self.holders += 1
            self.assign(value)
        try:
            yield
        finally:
            with self._lock:
                self.holders -= 1
                if self._per_thread or not self.holders:
                    self.assign(self.saved)

    def assign(self, value: Any) -> None:
        """Write a value unless the setting has it."""
        if self._read() != value:
            self._write(value)


def _torch() -> Any:
    return sys.modules["torch"]


def _set_tf32(values: tuple[bool, bool]) -> None:
    _torch().backends.cuda.matmul.allow_tf32, _torch().backends.cudnn.allow_tf32 = values


_inside = threading.local()
_THREADS = _Setting(
    lambda: _torch().get_num_threads(),
    lambda count: _torch().set_num_threads(count),
    per_thread=True,
)
_TF32 = _Setting(
    lambda: (_torch().backends.cuda.matmul.allow_tf32, _torch().backends.cudnn.allow_tf32),
    _set_tf32,
)
_DTYPE = _Setting(
    lambda: _torch().get_default_dtype(), lambda dtype: _torch().set_default_dtype(dtype)
)
_PRODUCTS = _Setting(
    lambda: _torch().get_float32_matmul_precision(),
    lambda precision: _torch().set_float32_matmul_precision(precision),
)


def _hold(stack: ExitStack, threads: int, tf32: bool | None) -> None:
    stack.enter_context(_THREADS.holding(threads))
    if tf32 is not None:
        stack.enter_context(_TF32.holding((tf32, tf32)))


def _enter_defaults(stack: ExitStack) -> None:
    """Enter torch's own defaults where the host has chosen others."""
    torch = _torch()
    if torch.is_inference_mode_enabled():
        stack.enter_context(torch.inference_mode(False))
    if not torch.is_grad_enabled():
        stack.enter_context(torch.enable_grad())
    for device in ("cpu", "cuda"):
        if torch.is_autocast_enabled(device):
            stack.enter_context(torch.autocast(device, enabled=False))
    if torch.empty(0).device.type != "cpu":
        stack.enter_context(torch.device("cpu"))
    if torch.get_default_dtype() != torch.float32 or _DTYPE.holders:
        stack.enter_context(_DTYPE.holding(torch.float32))
    # Mixing torch's old and new settings of precision makes reading them an error.
    with suppress(RuntimeError):
        if torch.get_float32_matmul_precision() != "highest" or _PRODUCTS.holders:
            stack.enter_context(_PRODUCTS.holding("highest"))
