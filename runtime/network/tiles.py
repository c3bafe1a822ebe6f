"""A picture in tiles whose loss and gradient are those of the whole.

Each position of each layer belongs to the core of exactly one tile. A tile is its core and a
margin around it, as wide as the network can carry the tile's edge into its features: inside the
core they are those of the whole picture. A loss made of sums over positions, as Gram matrices and
squared differences are, adds up over cores; its gradient adds up over whole tiles.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nstrt.runtime.arrays import Array
from nstrt.runtime.model import layers_between, layers_through, stride_of
from nstrt.runtime.network.observer import FeatureObserver
from nstrt.runtime.network.receptive import Core

__all__ = ["Span", "Tile", "TileObserver", "margin_of", "tiles_of"]


@dataclass(frozen=True)
class Span:
    """A tile along one side of the picture, in pixels."""

    start: int
    """First pixel of the tile."""

    stop: int
    """One beyond its last pixel."""

    core_start: int
    """First pixel of its core."""

    core_stop: int | None
    """One beyond the core's last pixel; None at the picture's end, where layers may leave out
    an odd pixel."""

    def core(self, stride: int) -> slice:
        """The core within the tile, at a layer of ``stride``."""
        first = (self.core_start - self.start) // stride
        if self.core_stop is None:
            return slice(first, None)
        return slice(first, (self.core_stop - self.start) // stride)


@dataclass(frozen=True)
class Tile:
    """A part of a picture, or of a layer of it, from which other layers are computed."""

    rows: Span
    columns: Span

    layers: tuple[str, ...]
    """Those that are wanted of it."""

    after: str | None = None
    """The layer that it is a part of; None for the picture itself."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, margins included, as its layer counts pixels."""
        rows, columns = self._place
        return rows.stop - rows.start, columns.stop - columns.start

    @property
    def core(self) -> Core:
        """Its core within it, as its layer counts pixels."""
        return self.rows.core(self._stride), self.columns.core(self._stride)

    def of(self, whole: Array) -> Array:
        """The tile's part of an image, ... x height x width, or of its layer."""
        return whole[..., *self._place]

    @property
    def _place(self) -> tuple[slice, slice]:
        rows, columns = (
            slice(span.start // self._stride, span.stop // self._stride)
            for span in (self.rows, self.columns)
        )
        return rows, columns

    @property
    def _stride(self) -> int:
        return stride_of(self.after) if self.after else 1


def margin_of(layers: Iterable[str], after: str | None = None) -> int:
    """Pixels around a core that its features, from the picture or the layer ``after`` down to the
    deepest of ``layers``, may need."""
    tainted = 0
    needed = 0
    for name in layers_between(after, layers):
        if name.startswith("conv"):
            tainted += 1
        elif name.startswith("pool"):
            tainted = math.ceil(tainted / 2)
        needed = max(needed, tainted * stride_of(name))
    step = _step(layers)
    return math.ceil(needed / step) * step


def _step(layers: Iterable[str]) -> int:
    """What tiles are multiples of, so that all poolings' windows lie as in the whole."""
    return max(map(stride_of, layers_through(layers)))


def tiles_of(
    height: int, width: int, side: int | None, layers: Sequence[str], after: str | None = None
) -> list[Tile]:
    """Tiles of at most ``side`` pixels of the picture a side, margins included, that make up a
    picture, or the layer ``after`` of one; one tile if ``side`` is None."""
    margin, step = margin_of(layers, after), _step(layers)
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
    # As even as whole steps allow: a last sliver would cost a margin of its own.
    core = math.ceil(length / count / step) * step
    starts = range(0, length, core)
    # What the deepest layer would leave out has no features of its own to make up a core.
    while len(starts) > 1 and length - starts[-1] < step:
        starts = starts[:-1]
    found = []
    for start in starts:
        last = start == starts[-1]
        stop = length if last else min(length, start + core + margin)
        found.append(Span(max(0, start - margin), stop, start, None if last else start + core))
    return found


class TileObserver:
    """Shows somebody the core of a tile, in the whole picture's places."""

    def __init__(self, observer: FeatureObserver, tile: Tile, *, seen: bool = False) -> None:
        self._observer = observer
        self._tile = tile
        self._seen = seen
        """Whether it was shown before, and only the pull is asked for."""
        self.layers = tile.layers

    def observe(self, layer: str, values: Array, top: int, left: int = 0) -> None:
        """Features, channels x rows x columns, from the tile's row ``top`` and column ``left``
        on."""
        if self._seen:
            return
        part = _Part(self._tile, layer, values, top, left)
        if part:
            self._observer.observe(layer, part.of(values), part.top, part.left)

    def add_gradient(
        self, layer: str, values: Array, gradient: Array, top: int, left: int = 0
    ) -> None:
        """The pull at the core; margins belong to other tiles."""
        part = _Part(self._tile, layer, values, top, left)
        if part:
            self._observer.add_gradient(
                layer, part.of(values), part.of(gradient), part.top, part.left
            )


class _Part:
    """The part of some rows and columns of a layer that lies in a tile's core."""

    def __init__(self, tile: Tile, layer: str, values: Array, top: int, left: int) -> None:
        stride = stride_of(layer)
        self._rows, self.top = _shared(tile.rows, stride, top, values.shape[1])
        self._columns, self.left = _shared(tile.columns, stride, left, values.shape[2])

    def __bool__(self) -> bool:
        return all(part.start < part.stop for part in (self._rows, self._columns))

    def of(self, values: Array) -> Array:
        return values[:, self._rows, self._columns]


def _shared(span: Span, stride: int, first: int, count: int) -> tuple[slice, int]:
    """What of ``count`` pixels of a layer, from the tile's pixel ``first`` on, lies in its core,
    and where that begins in the whole picture."""
    core = span.core(stride)
    low, high = max(first, core.start), first + count
    if core.stop is not None:
        high = min(high, core.stop)
    return slice(low - first, high - first), low + span.start // stride
