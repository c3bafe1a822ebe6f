"""Through the network and back, in bands of rows, keeping only what the way back needs.

A band is computed, rectified, pooled, looked at by the loss and forgotten while it lies in the
processor's cache. What stays of a forward pass is the features that the loss is made of, a byte
for each other number that a ReLU let through, and where each pooling's maximum was. On the way
back, the gradient at a layer is written over its features.

This is the vector-Jacobian product that autograd would compute, with no gradient for the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from nstrt.runtime.kernels.buffers import BufferPool
from nstrt.runtime.kernels.compiled import is_large
from nstrt.runtime.kernels.convolution import Autotuner, Filter, Kernel, band_for, is_windowed
from nstrt.runtime.kernels.pooling import Pooling, pooling_for
from nstrt.runtime.network.observer import FeatureObserver
from nstrt.runtime.network.receptive import WHOLE, Area, Core, areas_of
from nstrt.runtime.network.vgg import ConvBlock, TorchVGG

__all__ = ["BandedNetwork", "Check", "SavedActivations"]

Check = Callable[[], None]
"""Called before each band; leaves the computation by raising."""

_Give = Callable[[Tensor, int], None]
"""Called with rows of a gradient, which may be overwritten, and the first one's number."""

_BAND_BYTES = 32_000_000
"""What an algorithm's buffers for one band may take: small enough for a processor's caches."""

_BAND_PIXELS = 8192
"""Pixels of a band that make it worth reading a layer's weights, of which deep ones have many."""


@dataclass
class SavedActivations:
    """What a forward pass left for the way back; valid until the next one."""

    height: int
    width: int

    pooling: Pooling
    """How it is pooled."""

    large: bool
    """Whether compiled loops are worth the time to load them."""

    core: Core = WHOLE
    """What its features are needed for; what is not needed for that was left out."""

    after: str | None = None
    """The layer that it begins with; None for a picture."""

    region: Tensor | None = None
    """What went in, where the first stage's output is computed again on the way back."""

    values: dict[str, Tensor] = field(default_factory=dict)
    """Features, channels x height x width; the way back overwrites them."""

    passed: dict[str, Tensor] = field(default_factory=dict)
    """Where a ReLU let its input through."""

    codes: dict[str, Tensor] = field(default_factory=dict)
    """For each window of a pooling, where the gradient goes, see :mod:`.kernels.pooling`."""


class BandedNetwork:
    """Computes a mirror's features and gradients in memory of its own.

    ``precision`` is that of the products in convolutions; sums and all else are in the mirror's
    own. ``key`` stands for what the speed of convolutions depends on, see :class:`Autotuner`.
    """

    def __init__(self, vgg: TorchVGG, *, precision: str = "fp32", key: str = "") -> None:
        self.vgg = vgg
        self.scratch = BufferPool(vgg.device)
        self._chooser = Autotuner(self.scratch, precision=precision, key=key)

    def kernels(
        self,
        height: int,
        width: int,
        layers: tuple[str, ...],
        core: Core = WHOLE,
        *,
        after: str | None = None,
        forward: bool = True,
    ) -> dict[str, str]:
        """The algorithms for a picture, or for a layer's features, by convolution and way; measured
        here if need be."""
        found = {}
        stages, large = self.vgg.until(layers, after), _is_large(height, width, core, after)
        for stage, area in zip(stages, _areas(stages, height, width, core), strict=True):
            for transposed in (False, True) if forward else (True,):
                rows, columns = area.rows, area.columns
                counts = (rows.read, columns.read) if transposed else (rows.count, columns.count)
                size = self._band_of(stage.filter, *counts)
                name = self._chooser.name(stage.filter, *size, transposed=transposed, large=large)
                found[f"{stage.conv} {'back' if transposed else 'on'}"] = name
        return found

    @property
    def algorithms(self) -> dict[str, str]:
        """What was chosen so far, by shape and way."""
        return self._chooser.names

    def pin(self, algorithms: Mapping[str, str]) -> None:
        """See :meth:`Autotuner.pin`."""
        self._chooser.pin(algorithms)

    def forward(
        self,
        region: Tensor,
        observer: FeatureObserver,
        *,
        keep: bool,
        core: Core = WHOLE,
        after: str | None = None,
        check: Check = lambda: None,
    ) -> SavedActivations:
        """Show ``observer`` its layers' features of a normalised and padded picture, or of a part
        of one, 3 x (height + 2) x (width + 2), or of the features of the layer ``after``, padded
        likewise; with ``keep``, for a way back.

        Features are those of the picture within the ``core`` of the part; around it are some that
        need not be.
        """
        trace = self.trace(region.shape[1] - 2, region.shape[2] - 2, core, after)
        stages = self.vgg.until(observer.layers, after)
        areas = _areas(stages, trace.height, trace.width, core)
        source: _Source = _Plane(_seen(region, areas[0]))
        for number, (stage, area) in enumerate(zip(stages, areas, strict=True)):
            if not number and after is None and _flows(stages, observer):
                trace.region = region
                source = _Start(self, stage, area, trace, observer)
                continue
            step = _Forward(self, stage, number, area, observer, trace, keep=keep)
            source = _Plane(step.run(source, check))
        return trace

    def backward(
        self, trace: SavedActivations, observer: FeatureObserver, check: Check = lambda: None
    ) -> Tensor:
        """The gradient at what :meth:`forward` was given, of the same shape; it is valid until the
        next call."""
        stages = self.vgg.until(observer.layers, trace.after)
        areas = _areas(stages, trace.height, trace.width, trace.core)
        arrivals = [
            _BlockBackward(self, stage, number, area, observer, trace)
            for number, (stage, area) in enumerate(zip(stages, areas, strict=True))
        ]
        channels, _ = stages[0].filter.channels
        shape = channels, trace.height + 2, trace.width + 2
        found = self.scratch.get("given", shape, self._dtype)
        gradient = _seen(found.zero_(), areas[0])

        def last(rows: Tensor, top: int) -> None:
            gradient[:, top : top + rows.shape[1]] += rows

        takes: list[_Give] = [arrival.receive for arrival in arrivals]
        flows = trace.region is not None
        if flows:
            takes[0] = _Start(self, stages[0], areas[0], trace, observer).taking(last)
        arrivals[-1].begin()
        for number in reversed(range(1, len(stages))):
            self._back(arrivals[number], takes[number - 1], check)
        if not flows:
            self._back(arrivals[0], last, check)
        return found

    def trace(
        self, height: int, width: int, core: Core = WHOLE, after: str | None = None
    ) -> SavedActivations:
        """An empty trace of a picture, or of a part of one or of the layer ``after``."""
        large = _is_large(height, width, core, after)
        return SavedActivations(
            height, width, pooling_for(self.vgg.head.mean, large=large), large, core, after
        )

    def codes(self, trace: SavedActivations, stage: ConvBlock, values: Tensor) -> Tensor:
        """The codes of a pooling whose input somebody else computed."""
        name = stage.pool or ""
        shape = (values.shape[0], values.shape[1] // 2, values.shape[2] // 2)
        found = self.scratch.get(f"codes {name}", shape, torch.uint8)
        for top, rows in _bands(2 * shape[1], _even(values.shape[1], values)):
            half = slice(top // 2, (top + rows) // 2)
            trace.pooling.pool(
                values[:, top : top + rows], None, found[:, half], average=stage.average
            )
        return found

    @property
    def _dtype(self) -> torch.dtype:
        return self.vgg.dtype

    def _back(self, arrival: _BlockBackward, give: _Give, check: Check) -> None:
        """Through one convolution."""
        weights, area, large = arrival.stage.filter, arrival.area, arrival.large
        rows, columns = area.rows.read, area.columns.read
        above, before = area.rows.reached, area.columns.reached
        _, kernel = self._kernel(weights, rows, columns, transposed=True, large=large)
        inputs, outputs = weights.channels
        for top, count in _bands(rows, self._rows(weights, rows, columns)):
            check()
            out = self.scratch.get("out", (inputs, count, columns), self._dtype)
            if arrival.plane is not None and is_windowed(kernel):
                kernel.window(arrival.plane, top - above, -before, out, None)
            else:
                band = self._band(kernel, outputs, count, columns)
                arrival.fill(band, top, count)
                kernel.apply(band, out, None)
            give(out, top)

    def _band(self, kernel: Kernel, channels: int, rows: int, columns: int) -> Tensor:
        return band_for(self.scratch, kernel, channels, rows, columns, self._dtype)

    def _kernel(
        self, weights: Filter, rows: int, columns: int, *, transposed: bool, large: bool
    ) -> tuple[str, Kernel]:
        band = self._band_of(weights, rows, columns)
        return self._chooser.kernel(weights, *band, transposed=transposed, large=large)

    def _band_of(self, weights: Filter, rows: int, columns: int) -> tuple[int, int]:
        """Rows and columns of the largest band."""
        return min(rows, self._rows(weights, rows, columns)), columns

    def _rows(self, weights: Filter, rows: int, columns: int) -> int:
        """Rows of a band: whole tiles of both sizes, or of the larger one, where there are that
        many."""
        if self.vgg.device.type != "cpu":
            return _even(rows, weights.weight)
        # Winograd's buffers take 36 numbers for 16 pixels and each channel, twice.
        pixels = _BAND_BYTES / (2 * 36 / 16 * 4 * max(weights.channels))
        most = int(max(pixels, _BAND_PIXELS) / columns)
        return most // 12 * 12 or most // 6 * 6 or 4


class _Forward:
    """One stage, forwards."""

    def __init__(
        self,
        passes: BandedNetwork,
        stage: ConvBlock,
        number: int,
        area: Area,
        observer: FeatureObserver,
        trace: SavedActivations,
        *,
        keep: bool,
    ) -> None:
        self._passes = passes
        self._scratch = passes.scratch
        self._stage = stage
        self._number = number
        self._area = area
        self._observer = observer
        self._trace = trace
        self._keep = keep
        self._dtype = passes.vgg.dtype

    def run(self, source: _Source, check: Check) -> Tensor:
        """The stage's output in its area, pooled if it is."""
        stage, layers = self._stage, self._observer.layers
        rows, columns = self._area.rows.count, self._area.columns.count
        above, before = self._area.rows.zeros, self._area.columns.zeros
        weights = stage.filter
        inputs, outputs = weights.channels
        large = self._trace.large
        _, kernel = self._passes._kernel(weights, rows, columns, transposed=False, large=large)
        # Where each band goes: to a place of its own if it is needed as a whole.
        plane = self._plane(outputs, rows, columns)
        raw = None
        if self._keep and stage.conv in layers:
            raw = self._kept(stage.conv, outputs, rows, columns)
        pooled = self._pooled(outputs, rows // 2, columns // 2) if stage.pool else None
        for top, count in _bands(rows, self._passes._rows(weights, rows, columns)):
            check()
            if plane is None:
                out = self._scratch.get("out", (outputs, count, columns), self._dtype)
            else:
                out = plane[:, top : top + count]
            seen, first = source.rows(top - above, count + 2)
            if is_windowed(kernel):
                # Whoever looks at the convolution looks before the ReLU.
                rectified = stage.relu is not None and stage.conv not in layers
                kernel.window(seen, first, -before, out, weights.bias, rectified=rectified)
            else:
                rectified = False
                band = self._passes._band(kernel, inputs, count, columns)
                _fill(band, seen, first, count + 2, before)
                kernel.apply(band, out, weights.bias)
            if stage.conv in layers:
                self._see(stage.conv, out, top)
                if raw is not None:
                    raw[:, top : top + count].copy_(out)
            if stage.relu:
                self._relu(out, top, rectified=rectified)
            if pooled is not None:
                self._pool(out, pooled, top)
        found = plane if pooled is None else pooled
        assert found is not None
        return found

    def _relu(self, out: Tensor, top: int, *, rectified: bool) -> None:
        stage = self._stage
        assert stage.relu
        if stage.pool and stage.relu not in self._observer.layers:
            # The pooling rectifies.
            return
        if not rectified:
            out.relu_()
        if stage.relu in self._observer.layers:
            self._see(stage.relu, out, top)
        elif self._keep:
            torch.gt(out, 0, out=self._trace.passed[stage.relu][:, top : top + out.shape[1]])

    def _pool(self, out: Tensor, pooled: Tensor, top: int) -> None:
        stage = self._stage
        assert stage.pool
        half = out.shape[1] // 2
        if not half:
            return
        rows = pooled[:, top // 2 : top // 2 + half]
        codes = self._trace.codes[stage.pool] if self._keep else None
        self._trace.pooling.pool(
            out,
            rows,
            None if codes is None else codes[:, top // 2 : top // 2 + half],
            average=stage.average,
        )
        if stage.pool in self._observer.layers:
            self._see(stage.pool, rows, top // 2, 2)

    def _see(self, layer: str, values: Tensor, top: int, stride: int = 1) -> None:
        """Show rows of the area, or of what was pooled of it."""
        left = self._area.columns.start // stride
        self._observer.observe(layer, values, top + self._area.rows.start // stride, left)

    def _plane(self, channels: int, rows: int, columns: int) -> Tensor | None:
        """Where the convolution's output goes as a whole, rectified; None if nobody needs it."""
        stage, shape = self._stage, (channels, rows, columns)
        last = stage.relu or stage.conv
        if self._keep and stage.relu and last not in self._observer.layers and not stage.pool:
            self._trace.passed[last] = self._scratch.get(f"passed {last}", shape, torch.bool)
        if self._keep and last in self._observer.layers:
            return self._kept(last, *shape)
        if stage.pool:
            return None
        if last in self._observer.layers:
            # A step will want the same memory.
            return self._scratch.get(f"values {last}", shape, self._dtype)
        return self._scratch.get(f"plane {self._number % 2}", shape, self._dtype)

    def _pooled(self, channels: int, rows: int, columns: int) -> Tensor:
        stage, shape = self._stage, (channels, rows, columns)
        assert stage.pool
        if self._keep:
            self._trace.codes[stage.pool] = self._scratch.get(
                f"codes {stage.pool}", shape, torch.uint8
            )
            if stage.pool in self._observer.layers:
                return self._kept(stage.pool, *shape)
        return self._scratch.get(f"plane {self._number % 2}", shape, self._dtype)

    def _kept(self, layer: str, channels: int, rows: int, columns: int) -> Tensor:
        if layer not in self._trace.values:
            place = self._scratch.get(f"values {layer}", (channels, rows, columns), self._dtype)
            self._trace.values[layer] = place
        return self._trace.values[layer]


class _Source(Protocol):
    """Where a convolution's input comes from."""

    def rows(self, first: int, count: int) -> tuple[Tensor, int]:
        """``count`` rows of what the convolution sees, from row ``first`` of its input on: where
        they lie, and the first one there, which may be among the zeros around. Called once for each
        band, from the first to the last."""


class _Plane:
    """An input that lies in memory as a whole."""

    def __init__(self, plane: Tensor) -> None:
        self._plane = plane

    def rows(self, first: int, count: int) -> tuple[Tensor, int]:
        return self._plane, first


def _flows(stages: Sequence[ConvBlock], observer: FeatureObserver) -> bool:
    """Whether the first stage's output need not lie in memory as a whole.

    It is the largest of all, and a picture's three channels make it cheap to compute twice.
    """
    first = stages[0]
    return len(stages) > 1 and first.pool is None and first.conv not in observer.layers


def _seen(region: Tensor, area: Area) -> Tensor:
    """What the first convolution reads of a picture that has a pixel more on each side."""
    rows, columns = area.rows, area.columns
    return region[:, rows.start : rows.stop + 2, columns.start : columns.stop + 2]


class _Start:
    """The first stage, a few rows at a time, when the second one wants them."""

    def __init__(
        self,
        passes: BandedNetwork,
        stage: ConvBlock,
        area: Area,
        trace: SavedActivations,
        observer: FeatureObserver,
    ) -> None:
        self._passes = passes
        self._scratch = passes.scratch
        self._filter = stage.filter
        assert stage.relu
        self._relu = stage.relu
        self._watched = stage.relu in observer.layers
        self._observer = observer
        self._area = area
        assert trace.region is not None
        self._region = _seen(trace.region, area)
        self._large = trace.large
        self._next = 0

    def rows(self, first: int, count: int) -> tuple[Tensor, int]:
        """Of its output; the watcher sees each row once."""
        low, high = max(0, first), min(self._area.rows.count, first + count)
        features = self._features(low, high)
        if self._watched and high > self._next:
            # The first ones are those that the band before ended with.
            fresh = features[:, self._next - low :]
            self._observer.observe(self._relu, fresh, *self._place(self._next))
            self._next = high
        return features, first - low

    def taking(self, give: _Give) -> _Give:
        """What takes rows of the gradient at its output, from a row on, which are overwritten, and
        gives what of them goes to its input, to be added there: it overlaps."""

        def receive(gradient: Tensor, top: int) -> None:
            count = gradient.shape[1]
            features = self._features(top, top + count)
            if self._watched:
                self._observer.add_gradient(self._relu, features, gradient, *self._place(top))
            _through(gradient, features, gradient)
            rows, columns = self._area.rows.read, self._area.columns.read
            _, kernel = self._passes._kernel(
                self._filter, rows, columns, transposed=True, large=self._large
            )
            inputs, outputs = self._filter.channels
            # Each row reaches the two below it too, as the region has it.
            found = self._scratch.get("reached", (inputs, count + 2, columns), self._region.dtype)
            if is_windowed(kernel):
                kernel.window(gradient, -2, -2, found, None)
            else:
                band = self._passes._band(kernel, outputs, count + 2, columns)
                _fill(band, gradient, -2, count + 4, 2)
                kernel.apply(band, found, None)
            give(found, top)

        return receive

    def _place(self, top: int) -> tuple[int, int]:
        return top + self._area.rows.start, self._area.columns.start

    def _features(self, low: int, high: int) -> Tensor:
        """Rows of its output."""
        size = self._area.rows.count, self._area.columns.count
        _, kernel = self._passes._kernel(self._filter, *size, transposed=False, large=self._large)
        shape = (self._filter.channels[1], high - low, size[1])
        found = self._scratch.get("start", shape, self._region.dtype)
        if is_windowed(kernel):
            kernel.window(self._region, low, 0, found, self._filter.bias, rectified=True)
            return found
        kernel.apply(self._region[:, low : high + 2], found, self._filter.bias)
        return found.relu_()


class _BlockBackward:
    """The gradient at the output of a stage, as it comes in from the stage after it."""

    def __init__(
        self,
        passes: BandedNetwork,
        stage: ConvBlock,
        number: int,
        area: Area,
        observer: FeatureObserver,
        trace: SavedActivations,
    ) -> None:
        self.stage = stage
        self.area = area
        """What there is of the convolution's output."""
        self.large = trace.large
        self._scratch = passes.scratch
        self._observer = observer
        self._trace = trace
        self._dtype = passes.vgg.dtype
        self._channels = stage.filter.channels[1]
        self._number = number
        self._gradient: Tensor | None = None

    def begin(self) -> None:
        """At the deepest stage nothing comes in but the loss's own pull."""
        rows, columns = self._output
        for top, count in _bands(rows, 64):
            place = self._scratch.get("out", (self._channels, count, columns), self._dtype)
            self.receive(place.zero_(), top)

    def receive(self, gradient: Tensor, top: int) -> None:
        """Rows of the gradient at the stage's output, from row ``top`` on."""
        rows = slice(top, top + gradient.shape[1])
        stage = self.stage
        if stage.pool:
            # Windows leave out an odd last row and column.
            self._pull(stage.pool, self._rows(stage.pool, rows), gradient, top, 2)
            self._plane()[:, rows].copy_(gradient)
            return
        if stage.relu:
            features = self._rows(stage.relu, rows)
            self._pull(stage.relu, features, gradient, top)
            place = self._plane()[:, rows]
            if features is not None:
                _through(gradient, features, place)
            else:
                torch.mul(gradient, self._trace.passed[stage.relu][:, rows], out=place)
            self._pull(stage.conv, self._rows(stage.conv, rows), place, top)
            return
        self._pull(stage.conv, self._rows(stage.conv, rows), gradient, top)
        self._plane()[:, rows].copy_(gradient)

    def fill(self, band: Tensor, top: int, count: int) -> None:
        """The gradient at the convolution's output, with the pixels around, as a band for rows of
        its input."""
        first, before = top - self.area.rows.reached, self.area.columns.reached
        if not self.stage.pool:
            _fill(band, self._plane(), first, count + 2, before)
            return
        low, high = max(0, first), min(self.area.rows.count, first + count + 2)
        inner = _inside(band, low - first, high - low, before, self.area.columns.count)
        self._unpool(inner, low)
        assert self.stage.relu
        if self.stage.relu in self._observer.layers:
            features = self._trace.values[self.stage.relu][:, low:high]
            self._pull(self.stage.relu, features, inner, low)
            # The loss pulls at all values, those too that the ReLU did not let through.
            inner *= features > 0
        self._pull(self.stage.conv, self._rows(self.stage.conv, slice(low, high)), inner, low)

    @property
    def plane(self) -> Tensor | None:
        """The gradient at the convolution's output, if it lies in memory."""
        return None if self.stage.pool else self._plane()

    def _unpool(self, inner: Tensor, low: int) -> None:
        """Write the gradient of the rows from ``low`` on to where their windows took it from."""
        stage = self.stage
        assert stage.pool
        self._trace.pooling.unpool(
            self._plane(), self._trace.codes[stage.pool], inner, low, average=stage.average
        )

    @property
    def _output(self) -> tuple[int, int]:
        rows, columns = self.area.rows.count, self.area.columns.count
        return (rows // 2, columns // 2) if self.stage.pool else (rows, columns)

    def _plane(self) -> Tensor:
        """Where the gradient is collected: over the features that it belongs to, if it can."""
        if self._gradient is None:
            stage = self.stage
            over = None if stage.pool or not stage.relu else self._trace.values.get(stage.relu)
            shape = (self._channels, *self._output)
            name = f"plane {self._number % 2}"
            self._gradient = self._scratch.get(name, shape, self._dtype) if over is None else over
        return self._gradient

    def _rows(self, layer: str, rows: slice) -> Tensor | None:
        """Features of the layer, if they were kept."""
        values = self._trace.values.get(layer)
        return None if values is None else values[:, rows]

    def _pull(
        self, layer: str, values: Tensor | None, gradient: Tensor, top: int, stride: int = 1
    ) -> None:
        """Have the loss pull at rows of the area, or of what was pooled of it."""
        if layer in self._observer.layers:
            assert values is not None
            left = self.area.columns.start // stride
            self._observer.add_gradient(
                layer, values, gradient, top + self.area.rows.start // stride, left
            )


def _through(gradient: Tensor, features: Tensor, out: Tensor) -> None:
    """The gradient where features are above zero, perhaps written over them."""
    torch.ops.aten.threshold_backward.grad_input(gradient, features, 0, grad_input=out)


def _fill(band: Tensor, plane: Tensor, first: int, rows: int, inset: int) -> None:
    """Rows of a plane, from row ``first`` on, as a band; there are zeros around, ``inset`` pixels
    of them at the sides."""
    low, high = max(0, first), min(plane.shape[1], first + rows)
    inner = _inside(band, low - first, high - low, inset, plane.shape[2])
    inner.copy_(plane[:, low:high])


def _inside(band: Tensor, first: int, rows: int, inset: int, columns: int) -> Tensor:
    """The part of a band from row ``first`` and column ``inset`` on; what is around it is zero."""
    band[:, :first] = 0
    band[:, first + rows :] = 0
    inner = band[:, first : first + rows]
    inner[..., :inset] = 0
    inner[..., inset + columns :] = 0
    return inner[..., inset : inset + columns]


def _is_large(height: int, width: int, core: Core, after: str | None) -> bool:
    """Whether it is worth loading the compiler of loops. Tiles always count as large; ONNX
    Runtime's, which have no core of their own here, by their size."""
    return is_large(height, width) or core != WHOLE or after is not None


def _areas(stages: Sequence[ConvBlock], height: int, width: int, core: Core) -> list[Area]:
    return areas_of([bool(stage.pool) for stage in stages], height, width, core)


def _bands(rows: int, most: int) -> Iterator[tuple[int, int]]:
    """First row and number of rows of each band."""
    for top in range(0, rows, most):
        yield top, min(most, rows - top)


def _even(rows: int, tensor: Tensor) -> int:
    """Rows of a band that takes all of them on a card, and few on a processor."""
    return (rows + 1) // 2 * 2 if tensor.device.type != "cpu" else 64
