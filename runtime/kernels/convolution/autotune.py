"""Which algorithm is quickest for a convolution: measured once on a machine, then remembered."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from nstrt.runtime.errors import CheckpointError
from nstrt.runtime.kernels.buffers import BufferPool
from nstrt.runtime.kernels.convolution.algorithms import COMPILED, candidates
from nstrt.runtime.kernels.convolution.filter import Filter, Kernel
from nstrt.runtime.system.measurements import load_measurements, store_measurement

__all__ = ["Autotuner", "band_for"]

_REPEATS = 5
"""Runs of each algorithm that count, after one that warms up."""

_HOPELESS = 2
"""An algorithm that takes this many times as long as the best is not measured again."""

_ABOUT = 1.1
"""As much as measured times differ by chance."""

_LARGEST = 1 << 13
"""Pixels of a band beyond which algorithms keep their order."""


class Autotuner:
    """Kernels for the convolutions of one network, each made once.

    ``key`` stands for all that the measurements depend on besides the convolution's shape.
    """

    def __init__(self, scratch: BufferPool, *, precision: str = "fp32", key: str = "") -> None:
        self._key = key
        self._precision = precision
        self._scratch = scratch
        self._kernels: dict[tuple[int, bool, str], Kernel] = {}
        self.names: dict[str, str] = {}
        """The algorithm chosen for each shape and way, as far as they came up."""
        self._believed: set[str] = set()
        """What was measured another time, and has not been tried in this process."""

    def pin(self, names: Mapping[str, str]) -> None:
        """A run that goes on from a checkpoint has these algorithms, and no others."""
        self.names.update(names)
        self._believed.difference_update(names)

    def name(
        self,
        weights: Filter,
        rows: int,
        columns: int,
        *,
        transposed: bool,
        large: bool = False,
    ) -> str:
        """The quickest algorithm for bands of ``rows`` x ``columns`` pixels, perhaps of a ``large``
        picture. What is known is taken at its word: compiled loops are not loaded for it."""
        key = self._key_of(weights, rows, columns, transposed=transposed, large=large)
        if key in self._believed:
            return self.names[key]
        if large and key not in self.names:
            others = self._makers(weights, transposed=transposed, large=False)
            known = load_measurements("kernels").get(key)
            if isinstance(known, dict) and known.keys() == {*others, COMPILED}:
                self._believed.add(key)
                self.names[key] = _quickest(known)
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
        """The same, ready to be used, and its name."""
        key = self._key_of(weights, rows, columns, transposed=transposed, large=large)
        makers = self._makers(weights, transposed=transposed, large=large)

        def make(name: str) -> Kernel:
            at = (id(weights), transposed, name)
            if at not in self._kernels:
                self._kernels[at] = makers[name]()
            return self._kernels[at]

        if key not in self.names or (key in self._believed and self.names[key] not in makers):
            self.names[key] = self._found(key, makers, make, weights, rows, columns, transposed)
        self._believed.discard(key)
        chosen = self.names[key]
        if chosen not in makers:
            raise CheckpointError(
                f"This run began with the algorithm '{chosen}', which does not work here now, so "
                "it cannot go on to the same pixels; begin it anew, without --resume."
            )
        return chosen, make(chosen)

    def _found(
        self,
        key: str,
        makers: Mapping[str, Callable[[], Kernel]],
        make: Callable[[str], Kernel],
        weights: Filter,
        rows: int,
        columns: int,
        transposed: bool,
    ) -> str:
        """The quickest one, as it is known or measured now."""
        if len(makers) == 1:
            return next(iter(makers))
        known = load_measurements("kernels").get(key)
        if not isinstance(known, dict) or known.keys() != makers.keys():
            kernels = {name: make(name) for name in makers}
            known = self._measured(kernels, weights, rows, columns, transposed=transposed)
            store_measurement("kernels", key, known)
            # What lost is not kept in memory.
            for loser in set(makers) - {_quickest(known)}:
                self._kernels.pop((id(weights), transposed, loser), None)
        return _quickest(known)

    def _makers(
        self, weights: Filter, *, transposed: bool, large: bool
    ) -> Mapping[str, Callable[[], Kernel]]:
        return candidates(
            weights,
            self._scratch,
            transposed=transposed,
            precision=self._precision,
            large=large,
        )

    def _key_of(
        self, weights: Filter, rows: int, columns: int, *, transposed: bool, large: bool
    ) -> str:
        inputs, outputs = weights.channels
        size = min(_LARGEST, 1 << (max(1, rows * columns) - 1).bit_length())
        way = "back" if transposed else "on"
        return f"{self._key} {way} {inputs} {outputs} {size}{' large' if large else ''}"

    def _measured(
        self,
        kernels: Mapping[str, Kernel],
        weights: Filter,
        rows: int,
        columns: int,
        *,
        transposed: bool,
    ) -> dict[str, float]:
        inputs, outputs = weights.channels[:: -1 if transposed else 1]
        out = torch.empty((outputs, rows, columns))
        times: dict[str, list[float]] = {name: [] for name in kernels}
        # In turn, A B A B: what else the machine does then falls on all of them.
        for repeat in range(_REPEATS + 1):
            least = min((time for values in times.values() for time in values), default=math.inf)
            for name, kernel in kernels.items():
                if min(times[name], default=0) > _HOPELESS * least:
                    continue
                band = band_for(self._scratch, kernel, inputs, rows, columns)
                band.normal_()
                started = time.perf_counter()
                kernel.apply(band, out, None)
                if repeat:
                    times[name].append(time.perf_counter() - started)
        return {name: min(values) for name, values in times.items()}


def _quickest(seconds: Mapping[str, float]) -> str:
    """The quickest one; compiled loops where they are about as quick: they work in a few tiles'
    memory and leave the caches to others, which a measurement by itself does not show."""
    found = min(seconds, key=seconds.__getitem__)
    compiled = seconds.get(COMPILED, math.inf)
    return COMPILED if compiled <= _ABOUT * seconds[found] else found


def band_for(
    scratch: BufferPool,
    kernel: Kernel,
    channels: int,
    rows: int,
    columns: int,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """A band for a kernel, with room for the pixel around and for its tiles; not filled."""
    multiple = kernel.multiple
    down, across = -(-rows // multiple) * multiple + 2, -(-columns // multiple) * multiple + 2
    if kernel.rounded is not None:
        return scratch.get("band", (down, across, channels), kernel.rounded).permute(2, 0, 1)
    return scratch.get("band", (channels, down, across), dtype)
