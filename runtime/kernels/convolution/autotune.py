"""Choice of the fastest convolution algorithm, measured once on a machine and then cached."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec

import torch
from torch import Tensor

from nstrt.runtime.errors import CheckpointError
from nstrt.runtime.kernels.buffers import BufferPool
from nstrt.runtime.kernels.compiled import left_out_reason
from nstrt.runtime.kernels.convolution.algorithms import COMPILED, COMPILED_MODULE, candidates
from nstrt.runtime.kernels.convolution.filter import Filter, Kernel
from nstrt.runtime.system.cancellation import check_interrupt
from nstrt.runtime.system.measurements import load_measurements, store_measurement
from nstrt.runtime.system.words import spelled

__all__ = ["Autotuner", "band_for"]

_REPEATS = 5
"""Timed runs of each algorithm, after one warm-up run."""

_DROP_RATIO = 2
"""An algorithm slower than the best by more than this ratio is not timed again."""

_TIE_RATIO = 1.1
"""Ratio of two times that may be noise."""

_MAX_PIXELS = 1 << 13
"""Band size, in pixels, above which the order of the algorithms does not change."""


class Autotuner:
    """Kernels for the convolutions of one network, each built once.

    ``key`` identifies everything that the times depend on besides the convolution's shape.
    """

    def __init__(self, buffers: BufferPool, *, precision: str = "fp32", key: str = "") -> None:
        self._key = key
        self._precision = precision
        self._buffers = buffers
        self._kernels: dict[tuple[int, bool, str], Kernel] = {}
        self.names: dict[str, str] = {}
        """Algorithm for each shape and direction requested so far."""
        self._unverified: set[str] = set()
        """Keys whose algorithm comes from cached times and was not built in this process."""

    def pin(self, names: Mapping[str, str]) -> None:
        """Use the algorithms of a checkpoint, and no others, for these keys."""
        self.names.update(names)
        self._unverified.difference_update(names)

    def name(
        self,
        weights: Filter,
        rows: int,
        columns: int,
        *,
        transposed: bool,
        large: bool = False,
    ) -> str:
        """Return the fastest algorithm for bands of ``rows`` x ``columns`` pixels.

        Uses cached times if there are any, without loading compiled modules.
        """
        key = self._shape_key(weights, rows, columns, transposed=transposed, large=large)
        if key in self._unverified and not left_out_reason(COMPILED_MODULE):
            return self.names[key]
        if large and key not in self.names and find_spec("numba"):
            others = self._candidates(weights, transposed=transposed, large=False)
            seconds = load_measurements("kernels").get(key)
            if isinstance(seconds, dict) and seconds.keys() == {*others, COMPILED}:
                self._unverified.add(key)
                self.names[key] = _fastest(seconds)
                return self.names[key]
        return self.kernel(weights, rows, columns, transposed=transposed, large=large)[0]

    def kernel(
        self,
        weights: Filter,
        rows: int,
        columns: int,
        *,
        transposed: bool,
        large: bool = False,
    ) -> tuple[str, Kernel]:
        """Return the fastest algorithm for bands of ``rows`` x ``columns`` pixels, and its kernel.

        Raises :class:`CheckpointError` if a pinned algorithm does not work on this machine.
        """
        key = self._shape_key(weights, rows, columns, transposed=transposed, large=large)
        makers = self._candidates(weights, transposed=transposed, large=large)

        def make(name: str) -> Kernel:
            kernel_key = (id(weights), transposed, name)
            if kernel_key not in self._kernels:
                self._kernels[kernel_key] = makers[name]()
            return self._kernels[kernel_key]

        if key not in self.names or (key in self._unverified and self.names[key] not in makers):
            self.names[key] = self._choose(key, makers, make, weights, rows, columns, transposed)
        self._unverified.discard(key)
        name = self.names[key]
        if name not in makers:
            raise CheckpointError(
                f"This run began with the algorithm '{name}', which does not work here now, so "
                "it cannot go on to the same pixels; begin it anew, without "
                f"{spelled('resume', True)}."
            )
        return name, make(name)

    def _choose(
        self,
        key: str,
        makers: Mapping[str, Callable[[], Kernel]],
        make: Callable[[str], Kernel],
        weights: Filter,
        rows: int,
        columns: int,
        transposed: bool,
    ) -> str:
        """Return the fastest algorithm by cached times, or by times measured now."""
        if len(makers) == 1:
            return next(iter(makers))
        seconds = load_measurements("kernels").get(key)
        if not isinstance(seconds, dict) or seconds.keys() != makers.keys():
            kernels = {name: make(name) for name in makers}
            seconds = self._measure(kernels, weights, rows, columns, transposed=transposed)
            store_measurement("kernels", key, seconds)
            # Slower kernels are dropped, because they hold weights in their own layouts.
            for slower in set(makers) - {_fastest(seconds)}:
                self._kernels.pop((id(weights), transposed, slower), None)
        return _fastest(seconds)

    def _candidates(
        self, weights: Filter, *, transposed: bool, large: bool
    ) -> Mapping[str, Callable[[], Kernel]]:
        return candidates(
            weights,
            self._buffers,
            transposed=transposed,
            precision=self._precision,
            large=large,
        )

    def _shape_key(
        self, weights: Filter, rows: int, columns: int, *, transposed: bool, large: bool
    ) -> str:
        inputs, outputs = weights.channels
        pixels = min(_MAX_PIXELS, 1 << (max(1, rows * columns) - 1).bit_length())
        direction = "back" if transposed else "on"
        return f"{self._key} {direction} {inputs} {outputs} {pixels}{' large' if large else ''}"

    def _measure(
        self,
        kernels: Mapping[str, Kernel],
        weights: Filter,
        rows: int,
        columns: int,
        *,
        transposed: bool,
    ) -> dict[str, float]:
        """Return the shortest time of each kernel, in seconds."""
        inputs, outputs = weights.channels[:: -1 if transposed else 1]
        out = torch.empty((outputs, rows, columns))
        # The host's random numbers go on as if nothing had been measured.
        noise = torch.Generator().manual_seed(0)
        times: dict[str, list[float]] = {name: [] for name in kernels}
        # Runs alternate, so that other load of the machine affects all algorithms alike.
        for repeat in range(_REPEATS + 1):
            check_interrupt()
            least = min((time for values in times.values() for time in values), default=math.inf)
            for name, kernel in kernels.items():
                if min(times[name], default=0) > _DROP_RATIO * least:
                    continue
                band = band_for(self._buffers, kernel, inputs, rows, columns)
                band.normal_(generator=noise)
                started = time.perf_counter()
                kernel.apply(band, out, None)
                if repeat:
                    times[name].append(time.perf_counter() - started)
        return {name: min(values) for name, values in times.items()}


def _fastest(seconds: Mapping[str, float]) -> str:
    """Return the fastest algorithm, or the compiled one if the two tie.

    The compiled algorithm works in the memory of a few tiles. It leaves the caches to other code,
    which its isolated measurement does not show.
    """
    fastest = min(seconds, key=seconds.__getitem__)
    compiled = seconds.get(COMPILED, math.inf)
    return COMPILED if compiled <= _TIE_RATIO * seconds[fastest] else fastest


def band_for(
    buffers: BufferPool,
    kernel: Kernel,
    channels: int,
    rows: int,
    columns: int,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return an uninitialised band for a kernel, with the border and padding to whole tiles."""
    size = kernel.tile_size
    down, across = -(-rows // size) * size + 2, -(-columns // size) * size + 2
    if kernel.band_dtype is not None:
        return buffers.get("band", (down, across, channels), kernel.band_dtype).permute(2, 0, 1)
    return buffers.get("band", (channels, down, across), dtype)
