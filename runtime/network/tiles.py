"""Tiles of a picture, with loss and gradient equal to those of the whole picture.

Each position of each layer belongs to the core of exactly one tile. A tile is its core and a
margin, so wide that the tile's edge does not affect features in the core. Gram matrices and squared
differences are sums over positions, so they are added over cores; the gradient is added over whole
tiles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nstrt.runtime.arrays import Array
from nstrt.runtime.model import stride_of
from nstrt.runtime.network.feature_observer import FeatureObserver
from nstrt.runtime.network.receptive_field import Core, margin_of, tile_step

__all__ = ["Span", "Tile", "TileObserver", "tiles_of"]


@dataclass(frozen=True)
class Span:
    """A tile along one axis of the picture, in pixels of the picture."""

    start: int
    """First pixel of the tile."""

    stop: int
    """One beyond its last pixel."""

    core_start: int
    """First pixel of its core."""

    core_stop: int | None
    """One beyond the core's last pixel; None at the picture's end, since layers may leave out an
    odd last pixel."""

    def core(self, stride: int) -> slice:
        """The core's pixels within the tile, in a layer of ``stride``."""
        first = (self.core_start - self.start) // stride
        if self.core_stop is None:
            return slice(first, None)
        return slice(first, (self.core_stop - self.start) // stride)


@dataclass(frozen=True)
class Tile:
    """A part of a picture, or of a layer, that other layers are computed from."""

    rows: Span
    columns: Span

    layers: tuple[str, ...]
    """The layers to observe."""

    after: str | None = None
    """The layer that the tile is a part of; None for the picture."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, margins included, in pixels of its layer."""
        rows, columns = self._slices
        return rows.stop - rows.start, columns.stop - columns.start

    @property
    def core(self) -> Core:
        """The core within the tile, in pixels of its layer."""
        return self.rows.core(self._stride), self.columns.core(self._stride)

    def crop(self, whole: Array) -> Array:
        """The tile's part of an image or a layer, ... x height x width; a view."""
        return whole[..., *self._slices]

    @property
    def _slices(self) -> tuple[slice, slice]:
        rows, columns = (
            slice(span.start // self._stride, span.stop // self._stride)
            for span in (self.rows, self.columns)
        )
        return rows, columns

    @property
    def _stride(self) -> int:
        return _stride(self.after)


def _stride(layer: str | None) -> int:
    """Stride of a layer; 1 for the picture."""
    return stride_of(layer) if layer else 1


def tiles_of(
    height: int, width: int, side: int | None, layers: Sequence[str], after: str | None = None
) -> list[Tile]:
    """Divide a picture, or its layer ``after``, into tiles of at most ``side`` pixels a side.

    Sides are in pixels of the picture and include margins; None gives one tile.
    """
    margin, step = margin_of(layers, after), tile_step(layers)
    return [
        Tile(rows, columns, tuple(layers), after)
        for rows in _spans(height, side, margin, step)
        for columns in _spans(width, side, margin, step)
    ]


def _spans(length: int, side: int | None, margin: int, step: int) -> list[Span]:
    if side is None or length <= side:
        return [Span(0, length, 0, None)]
    most = max(step, (side - 2 * margin) // step * step)
    count = math.ceil(length / most)
    # Cores of about equal size: a narrow last tile would need a margin as wide as the others.
    core = math.ceil(length / count / step) * step
    starts = range(0, length, core)
    # A core smaller than a step has no position in the deepest layer: the previous tile takes it.
    while len(starts) > 1 and length - starts[-1] < step:
        starts = starts[:-1]
    spans = []
    for start in starts:
        is_last = start == starts[-1]
        stop = length if is_last else min(length, start + core + margin)
        spans.append(Span(max(0, start - margin), stop, start, None if is_last else start + core))
    return spans


class TileObserver:
    """Passes the core of a tile on to another observer, at its place in the whole picture."""

    def __init__(
        self, observer: FeatureObserver, tile: Tile, *, gradient_only: bool = False
    ) -> None:
        self._observer = observer
        self._tile = tile
        self._gradient_only = gradient_only
        """Pass gradients on only; the features were observed before."""
        self.layers = tile.layers

    def observe(self, layer: str, values: Array, top: int, left: int = 0) -> None:
        """Pass the core's part of features on; ``top`` and ``left`` count from the tile's edge."""
        if self._gradient_only:
            return
        part = _CorePart(self._tile, layer, values, top, left)
        if part:
            self._observer.observe(layer, part.crop(values), part.top, part.left)

    def add_gradient(
        self, layer: str, values: Array, gradient: Array, top: int, left: int = 0
    ) -> None:
        """Add the gradient at the core's part; margins belong to other tiles."""
        part = _CorePart(self._tile, layer, values, top, left)
        if part:
            self._observer.add_gradient(
                layer, part.crop(values), part.crop(gradient), part.top, part.left
            )


class _CorePart:
    """The part of some features that lies in a tile's core; false if it is empty."""

    def __init__(self, tile: Tile, layer: str, values: Array, top: int, left: int) -> None:
        stride = stride_of(layer)
        self._rows, self.top = _overlap(tile.rows, stride, top, values.shape[1])
        self._columns, self.left = _overlap(tile.columns, stride, left, values.shape[2])

    def __bool__(self) -> bool:
        return all(part.start < part.stop for part in (self._rows, self._columns))

    def crop(self, values: Array) -> Array:
        return values[:, self._rows, self._columns]


def _overlap(span: Span, stride: int, first: int, count: int) -> tuple[slice, int]:
    """The core's part of a layer's ``count`` pixels from the tile's pixel ``first`` on, and its
    first pixel in the whole layer."""
    core = span.core(stride)
    low, high = max(first, core.start), first + count
    if core.stop is not None:
        high = min(high, core.stop)
    return slice(low - first, high - first), low + span.start // stride
