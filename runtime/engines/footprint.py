"""Memory that each engine needs for a network, predicted from what its code keeps.

Bytes follow from the features of the loss's layers, a byte for each other ReLU and pooling, two
layers in transit, and an algorithm's buffers. Constants for the interpreter and libraries were
measured with ``benchmarks/memory.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from nstrt.runtime.kernels.compiled import is_large
from nstrt.runtime.model import (
    conv_shapes,
    layers_between,
    layers_through,
    stride_of,
)
from nstrt.runtime.model.layers import channels_of
from nstrt.runtime.network.sections import CUT, deep_side, split_at_cut

__all__ = [
    "FLOAT_BYTES",
    "PIXEL_BYTES",
    "Footprint",
    "TiledImage",
    "footprint_of",
    "layer_bytes",
]

FLOAT_BYTES = 4
"""Bytes of a number in single precision."""

PIXEL_BYTES = 3 * FLOAT_BYTES
"""Bytes of a pixel of an image."""

_PASS_ENDS = 4 * PIXEL_BYTES + 20
"""Bytes per pixel of a tile as it goes in, normalised and padded, and of its gradient."""

_BUFFERS = 120_000_000
"""Bytes of an algorithm's buffers for a band, and of what the allocator holds back."""

_COMPILER = 120_000_000
"""Bytes of Numba and LLVM, which large images load."""

_SESSION_PIXEL = 1500
"""Bytes per pixel of ONNX Runtime's own buffers where it computes all layers."""

_STEP_PIXEL = 810
"""Bytes per pixel of ONNX Runtime's buffers for a step graph, beside its activations."""


class TiledImage(NamedTuple):
    """Size of an image in pixels, and the longest side of its tiles; None for the whole."""

    width: int
    height: int
    tile: int | None

    def largest_tile(self, tile: int | None) -> int:
        """Pixels of the largest part in tiles of ``tile`` pixels a side."""
        if tile is None:
            return self.width * self.height
        return min(self.width, tile) * min(self.height, tile)


class Footprint(Protocol):
    """Memory of an engine. ``images`` are all images of a run, coarse to fine."""

    libraries: int
    """Bytes of the interpreter and the libraries."""

    def compiler(self, images: Iterable[TiledImage]) -> int:
        """Bytes of the compiler, on a processor."""

    def margin_layers(self, layers: Sequence[str]) -> Sequence[str]:
        """Layers whose receptive fields decide a tile's margin."""

    def network(
        self, layers: Sequence[str], images: Sequence[TiledImage], *, one_graph: bool
    ) -> int:
        """Bytes of one forward and backward pass over the largest part.

        ``one_graph`` means that engine ``graph`` takes the loss and its gradient at once.
        """

    def weights(self, layers: Sequence[str], *, exact: bool, on_card: bool, one_graph: bool) -> int:
        """Bytes of the network's weights in all the forms that the engine keeps.

        ``exact`` means products in single precision; ``one_graph`` is that of :meth:`network`.
        """


class _TorchFootprint:
    """Engine ``torch``: forward and backward in bands, tiles in two sections."""

    libraries = 680_000_000

    def compiler(self, images: Iterable[TiledImage]) -> int:
        large = any(image.tile or is_large(image.height, image.width) for image in images)
        return _COMPILER if large else 0

    def margin_layers(self, layers: Sequence[str]) -> Sequence[str]:
        return split_at_cut(layers)[0]

    def network(
        self, layers: Sequence[str], images: Sequence[TiledImage], *, one_graph: bool
    ) -> int:
        if any(image.tile for image in images) and split_at_cut(layers)[1]:
            return int(_sections(layers, images)) + _BUFFERS
        once = _Pass(layers, layers_through(layers), _PASS_ENDS)
        return int(_largest_tile(images) * (once.kept + once.in_transit)) + _BUFFERS

    def weights(self, layers: Sequence[str], *, exact: bool, on_card: bool, one_graph: bool) -> int:
        return (6 if exact and not on_card else 2) * _weight_bytes(layers)


class _OnnxFootprint(_TorchFootprint):
    """Engine ``onnx``: ONNX Runtime holds all activations of a tile."""

    def margin_layers(self, layers: Sequence[str]) -> Sequence[str]:
        return layers

    def network(
        self, layers: Sequence[str], images: Sequence[TiledImage], *, one_graph: bool
    ) -> int:
        pixel = _activation_bytes(layers) + _SESSION_PIXEL + 2 * layer_bytes("pool1")
        return int(_largest_tile(images) * pixel) + _BUFFERS

    def weights(self, layers: Sequence[str], *, exact: bool, on_card: bool, one_graph: bool) -> int:
        return 4 * _weight_bytes(layers)


class _GraphFootprint:
    """Engine ``graph``: sessions of ONNX Runtime, no torch."""

    libraries = 480_000_000

    def compiler(self, images: Iterable[TiledImage]) -> int:
        return 0

    def margin_layers(self, layers: Sequence[str]) -> Sequence[str]:
        return layers

    def network(
        self, layers: Sequence[str], images: Sequence[TiledImage], *, one_graph: bool
    ) -> int:
        # Otherwise a gradient's buffers stay while the next features are computed.
        passes = 1 if one_graph else 2
        return int(_largest_tile(images) * (_activation_bytes(layers) + _STEP_PIXEL)) * passes

    def weights(self, layers: Sequence[str], *, exact: bool, on_card: bool, one_graph: bool) -> int:
        return (4 if one_graph else 6) * _weight_bytes(layers)


_FOOTPRINTS: dict[str, Footprint] = {
    "torch": _TorchFootprint(),
    "onnx": _OnnxFootprint(),
    "graph": _GraphFootprint(),
}


def footprint_of(engine: str) -> Footprint:
    """The footprint of ``torch``, ``onnx`` or ``graph``."""
    return _FOOTPRINTS[engine]


def layer_bytes(name: str) -> float:
    """Bytes of a layer's features per pixel of the image."""
    return FLOAT_BYTES * channels_of(name) / stride_of(name) ** 2


class _Pass:
    """Bytes per pixel of torch's pass through some layers and back."""

    def __init__(self, layers: Sequence[str], through: Sequence[str], ends: float) -> None:
        if "conv1_1" not in layers and "conv1_2" in through:
            # Only some rows of the first block's output exist at a time.
            through = through[2:]
        in_transit = sorted(layer_bytes(name) for name in _in_transit(layers, through))
        self.in_transit = sum(in_transit[-2:])
        """Layers that exist until the next one is computed; all parts share the memory."""
        kept = sum(_kept_bytes(name, layers, through) for name in through)
        self.kept = kept + ends
        """Needs of the backward pass, and the input with its gradient, ``ends``."""


def _sections(layers: Sequence[str], images: Sequence[TiledImage]) -> float:
    """Bytes of tiles that go through two sections of the network.

    Both sections' memory stays for the next step. The features at the cut with their gradient are
    never there together with the image's gradient.
    """
    shallow, deep = split_at_cut(layers)
    first = _Pass(shallow, layers_through(shallow), _PASS_ENDS)
    second = _Pass(deep, layers_between(CUT, deep), 2 * layer_bytes(CUT))
    pixels, more = _largest_tile(images), _largest_tile(images, deep)
    in_transit = max(pixels * first.in_transit, more * second.in_transit)
    whole = max(image.width * image.height for image in images)
    return (
        pixels * first.kept
        + more * second.kept
        + in_transit
        + whole * (2 * layer_bytes(CUT) - PIXEL_BYTES)
    )


def _largest_tile(images: Sequence[TiledImage], deep: Sequence[str] = ()) -> int:
    """Pixels of the largest part that is computed at once; with ``deep`` layers, of those tiles
    that lie behind the cut."""
    return max(
        image.largest_tile(deep_side(image.tile, deep) if image.tile and deep else image.tile)
        for image in images
    )


def _activation_bytes(layers: Sequence[str]) -> float:
    """Bytes per pixel of all activations, without the convolutions' own outputs."""
    return sum(layer_bytes(name) for name in layers_through(layers) if not name.startswith("conv"))


def _weight_bytes(layers: Sequence[str]) -> int:
    """Bytes of the weights up to the deepest of ``layers``."""
    shapes, through = conv_shapes(), layers_through(layers)
    count = sum(9 * shape[0] * shape[1] for name, shape in shapes.items() if name in through)
    return count * FLOAT_BYTES


def _kept_bytes(name: str, layers: Sequence[str], through: Sequence[str]) -> float:
    """Bytes per pixel that the backward pass keeps of a layer."""
    if name in layers:
        return layer_bytes(name)
    if name.startswith("relu") and not _is_pooled(name, through):
        return layer_bytes(name) / FLOAT_BYTES
    if name.startswith("pool"):
        return layer_bytes(name) / FLOAT_BYTES
    return 0


def _in_transit(layers: Sequence[str], through: Sequence[str]) -> Iterator[str]:
    """Layers that exist whole only until the next one is computed."""
    for name in through:
        if name.startswith("pool") or (
            name.startswith("relu") and name not in layers and not _is_pooled(name, through)
        ):
            yield name


def _is_pooled(name: str, through: Sequence[str]) -> bool:
    """True if a pooling follows, so that the layer never exists whole."""
    after = list(through).index(name) + 1
    return after < len(through) and through[after].startswith("pool")
