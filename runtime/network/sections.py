"""Parts of the network that a picture in tiles goes through one after another.

Margins are as wide as a tile's edge reaches, which the deepest layers make wide. So the network is
cut at a pooling: all tiles go through its first part; what comes out, four numbers for each pixel,
is put together for the whole picture; that is cut into tiles again, which go through the rest. On
the way back the gradient is put together there likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nstrt.runtime.arrays import Array, arrays_of
from nstrt.runtime.model import layers_through, shape_of
from nstrt.runtime.network.observer import place_of
from nstrt.runtime.network.tiles import Tile, margin_of, tiles_of

__all__ = ["CUT", "Section", "SectionBoundary", "deep_side", "sections_of", "split_at_cut"]

CUT = "pool3"
"""Where the network is cut: its output is small, and margins of the layers before it are too."""

_LEAST_CORE = 64
"""Pixels of the picture on a side of a core behind the cut."""


@dataclass(frozen=True)
class Section:
    """A part of the network."""

    tiles: list[Tile]
    """Of the picture, or of the layer that the last section ends with."""

    until: str | None
    """The layer that it ends with, if another section follows."""


def sections_of(
    height: int, width: int, side: int | None, layers: Sequence[str], *, in_two: bool
) -> list[Section]:
    """The sections, perhaps only one, that lead from a picture to ``layers``, in tiles of at most
    ``side`` pixels a side; those of the second are larger, see :func:`deep_side`."""
    shallow, deep = split_at_cut(layers)
    if not in_two or not deep or side is None or max(height, width) <= side:
        return [Section(tiles_of(height, width, side, layers), None)]
    return [
        Section(tiles_of(height, width, side, shallow), CUT),
        Section(tiles_of(height, width, deep_side(side, deep), deep, CUT), None),
    ]


def split_at_cut(layers: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is wanted of both sections to have some layers; nothing of the second if none is behind
    the cut."""
    before = layers_through([CUT])
    deep = tuple(name for name in layers if name not in before)
    shallow = tuple(name for name in layers if name in before)
    return tuple(dict.fromkeys([*shallow, CUT])) if deep else shallow, deep


def deep_side(side: int, deep: Sequence[str]) -> int:
    """The longest side of tiles behind the cut, in pixels of the picture, for those of ``side``
    before it: a pixel takes less than half of the memory there, and margins are wider. However
    small, they have cores."""
    return max(side * 3 // 2, 2 * margin_of(deep, CUT) + _LEAST_CORE)


class SectionBoundary:
    """The features where the network is cut, of a whole picture of ``height`` x ``width`` pixels,
    put together, and the gradient at them."""

    def __init__(self, layer: str, height: int, width: int) -> None:
        self.layers = (layer,)
        self._size = height, width
        self.values: Array = None
        """The features, channels x rows x columns, once all were seen."""
        self.gradient: Array = None
        """The gradient at them, once it has begun."""

    def begin_gradient(self) -> None:
        """With zeros, for the layers behind to be added to."""
        self.gradient = arrays_of(self.values).zeros(self.values.shape, self.values)

    def forget_values(self) -> None:
        """The memory is wanted for the picture's own gradient."""
        self.values = None

    def observe(self, layer: str, values: Array, top: int, left: int = 0) -> None:
        """Features, channels x rows x columns, from row ``top`` and column ``left`` on."""
        if self.values is None:
            _, *size = shape_of(layer, *self._size)
            self.values = arrays_of(values).empty((len(values), *size), values)
        self.values[:, *place_of(values, top, left)] = values

    def add_gradient(
        self, layer: str, values: Array, gradient: Array, top: int, left: int = 0
    ) -> None:
        """What the layers behind pull by."""
        gradient += self.gradient[:, *place_of(values, top, left)]
