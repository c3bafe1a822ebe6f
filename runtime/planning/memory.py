"""What a run takes at its peak, and how to make it fit: a shorter history, then tiles.

The bytes follow from what the code keeps: features of the loss's layers, a bit or byte for the
other ReLUs and poolings, two passing layers, an algorithm's buffers, and the pictures that the
optimiser remembers. What interpreter and libraries take was measured (benchmarks/memory.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from nstrt.runtime.errors import TooLargeError
from nstrt.runtime.kernels.compiled import is_large
from nstrt.runtime.model import CHANNELS, layers_between, layers_through, stride_of
from nstrt.runtime.network.sections import CUT, deep_side, split_at_cut
from nstrt.runtime.network.tiles import margin_of
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.planning.plan import Scale

__all__ = ["PLANNING_MARGIN", "SAFE_SHARE", "MemoryDemand", "fitted"]

SAFE_SHARE = 0.85
"""The share of free memory that a run takes at most."""

PLANNING_MARGIN = 0.95
"""The share of ``max_memory`` that a run plans with: the prediction may be out by a little, and
what was asked for is not to be passed."""

_NUMBER = 4
"""Bytes of a number in single precision."""

_PICTURE = 3 * _NUMBER
"""Bytes of a pixel of a picture."""

_ENDS = 4 * _PICTURE + 20
"""Bytes by the pixel of a part of a picture as it goes in, normalised and with pixels around, and
of its gradient."""

_LIBRARIES = 680_000_000
"""Interpreter, torch and ONNX Runtime, loaded."""

_SESSIONS = 480_000_000
"""Interpreter and ONNX Runtime with its sessions of engine ``graph``, without torch."""

_COMPILER = 120_000_000
"""Numba and LLVM, which large pictures load."""

_BUFFERS = 120_000_000
"""An algorithm's buffers for a band, and what the allocator holds back."""

_BANDS = 4 * 17_000_000
"""What Adam and the variation hold at most of bands of a picture (``arrays.bands_of``)."""

_SESSION_PIXEL = 1500
"""Bytes by the pixel of ONNX Runtime's own buffers, where it computes all layers."""

_STEP_PIXEL = 810
"""Bytes by the pixel of ONNX Runtime's buffers for a step graph, beside its activations."""

_SAVED = 9
"""Pictures in memory while a result is given its colours and written: the optimiser's are still
there, the network's memory is not."""

_ENLARGED = 72
"""Bytes for each pixel while a result is enlarged, given its transparency and written."""

_LATER = 0.97
"""The share of what is free now that a suggestion counts on."""

_LEAST_HISTORY = 4
"""Steps that L-BFGS must remember to be worth its name."""

_GOOD_HISTORY = 10
"""Steps that are enough for it: rather this than tiles."""

_GOOD_CORE = 256
"""Pixels a side of a tile's core that make its margins bearable: rather the shortest history than
smaller ones."""


@dataclass(frozen=True, kw_only=True)
class MemoryDemand:
    """What decides about a run's memory."""

    engine: str
    """``onnx``, ``torch`` or ``graph``."""

    precision: str
    """That of the products in convolutions."""

    on_card: bool
    """Whether the activations lie on a card, whose memory is counted alone."""

    options: StylizeOptions
    """The run's options."""

    scales: tuple[Scale, ...]
    """From coarse to fine, with their tiles."""

    history: int
    """Pairs that L-BFGS remembers; 0 for Adam."""

    sources: int = 0
    """Pixels of the photo, the paintings and the masks as they were read."""

    masks: int = 0
    """Masks that are held at each layer: those of regions, of their rest, and of protection."""

    enlarged: int = 0
    """Pixels of a result that is brought up to the photo's size at the end."""

    @property
    def peak(self) -> int:
        """Bytes that the run takes at its peak, interpreter and libraries included."""
        finest = self.scales[-1]
        pixels = finest.width * finest.height
        painting: float = self._network + self._pictures * pixels * _PICTURE
        painting += pixels * (self._contents + self._masks)
        painting += min(_BANDS, 4 * pixels * _PICTURE)
        saving = max(pixels * _SAVED * _PICTURE, self.enlarged * _ENLARGED)
        libraries = _SESSIONS if self.engine == "graph" else _LIBRARIES
        fixed = 0 if self.on_card else libraries + self.sources * _PICTURE
        fixed += self._compiler
        return int(fixed + self._weights + max(painting, saving))

    @property
    def _compiler(self) -> int:
        """Bytes of the compiler of loops, where it is loaded."""
        compiled = not self.on_card and self.engine != "graph"
        large = any(
            scale.tile or is_large(height, width)
            for scale in self.scales
            for width, height in _sides(scale)
        )
        return _COMPILER if compiled and large else 0

    @property
    def _pictures(self) -> int:
        """Pictures of the finest scale: the image, its gradient, the best one or the average, and
        what the optimiser and its arithmetic hold."""
        return 2 * self.history + 9 if self.history else 5

    @property
    def _contents(self) -> float:
        """Bytes by the pixel of the content targets."""
        return sum(_layer(name) for name, _ in self.options.content_layers)

    @property
    def _masks(self) -> float:
        """Bytes by the pixel of the masks, and of what is held of a photo that stays."""
        by_layer = sum(_NUMBER / stride**2 for stride in (1, 2, 4, 8, 16))
        overlay = 2 * _PICTURE + _NUMBER if self.options.rest == "photo" else 0
        return self.masks * by_layer + overlay

    @property
    def _network(self) -> int:
        """Bytes of one forward and backward pass, of the largest part that is done at once."""
        if self.engine == "graph":
            # In tiles, what a gradient took is kept while the next tile's features are computed.
            return int(self._largest() * self.bytes_per_pixel) * (2 if self.scales[-1].tile else 1)
        if self._in_sections:
            return int(self._sections) + _BUFFERS
        return int(self._largest() * self.bytes_per_pixel) + _BUFFERS

    @property
    def _sections(self) -> float:
        """The same for tiles that go through one part of the network after the other: the memory
        of both is kept for the next step. While there are the features at the cut with their
        gradient, there is not the picture's."""
        shallow, deep = split_at_cut(self.options.layers)
        first = _Pass(shallow, layers_through(shallow), _ENDS)
        second = _Pass(deep, layers_between(CUT, deep), 2 * _layer(CUT))
        pixels, more = self._largest(), self._largest(deep)
        passing = max(pixels * first.passing, more * second.passing)
        whole = max(width * height for scale in self.scales for width, height in _sides(scale))
        return (
            pixels * first.kept
            + more * second.kept
            + passing
            + whole * (2 * _layer(CUT) - _PICTURE)
        )

    @property
    def _in_sections(self) -> bool:
        tiled = any(scale.tile for scale in self.scales)
        return self.engine == "torch" and tiled and bool(split_at_cut(self.options.layers)[1])

    def _largest(self, deep: Sequence[str] = ()) -> int:
        """Pixels of the largest part of a picture that is done at once; behind the cut, for
        ``deep`` layers."""
        return max(
            _part(size, deep_side(scale.tile, deep) if scale.tile and deep else scale.tile)
            for scale in self.scales
            for size in _sides(scale)
        )

    @property
    def bytes_per_pixel(self) -> float:
        """Bytes that stay of a pass, by the pixel that it is over."""
        layers = self.options.layers
        through = layers_through(layers)
        if self.engine != "torch":
            held = sum(_layer(name) for name in through if not name.startswith("conv"))
            if self.engine == "graph":
                return held + _STEP_PIXEL
            return held + _SESSION_PIXEL + 2 * _layer("pool1")
        found = _Pass(layers, through, _ENDS)
        return found.kept + found.passing

    @property
    def _weights(self) -> int:
        """Bytes of the network's weights, in all the forms that they are kept in."""
        count, inputs = 0, 3
        for name in layers_through(self.options.layers):
            if name.startswith("conv"):
                outputs = CHANNELS[int(name[4]) - 1]
                count += 9 * inputs * outputs
                inputs = outputs
        plain = count * _NUMBER
        if self.engine == "graph":
            return (6 if self.scales[-1].tile else 4) * plain
        if self.engine == "onnx":
            return 4 * plain
        return 2 * plain if self.precision != "fp32" or self.on_card else plain * 6


class _Pass:
    """Bytes by the pixel that torch needs to go through some layers and back."""

    def __init__(self, layers: Sequence[str], through: Sequence[str], ends: float) -> None:
        if "conv1_1" not in layers and "conv1_2" in through:
            # Of the first stage's output there are only ever some rows.
            through = through[2:]
        passing = sorted(_layer(name) for name in _passing(layers, through))
        self.passing = sum(passing[-2:])
        """Of what lies in memory until the next layer is computed, and is shared by all parts."""
        kept = sum(_kept(name, layers, through) for name in through)
        self.kept = kept + ends
        """Of what the way back needs, and of what went in and its gradient, ``ends``."""


def fitted(demand: MemoryDemand, available: int) -> MemoryDemand:
    """The same with the longest history and the largest tiles that fit into ``available`` bytes:
    rather a shorter history than tiles, and than small ones.

    Raises :class:`TooLargeError`, saying what to do, if nothing fits.
    """
    for candidate in _candidates(demand):
        if candidate.peak <= available:
            return candidate
    raise TooLargeError(_advice(demand, available))


def _candidates(demand: MemoryDemand) -> Iterator[MemoryDemand]:
    """From the best to the slowest."""
    histories = _histories(demand.history)
    for history in histories:
        if history == demand.history or history >= _GOOD_HISTORY:
            yield replace(demand, history=history)
    layers = demand.options.layers
    if demand.engine == "torch":
        layers = split_at_cut(layers)[0]
    margin, longest = margin_of(layers), max(max(s.width, s.height) for s in demand.scales)
    cores = [16 * count for count in range(longest // 16, 3, -1)]
    for history in histories:
        for core in cores:
            if core >= _GOOD_CORE:
                yield _tiled(replace(demand, history=history), core + 2 * margin)
    for core in cores:
        if core < _GOOD_CORE:
            yield _tiled(replace(demand, history=histories[-1]), core + 2 * margin)


def _tiled(demand: MemoryDemand, side: int) -> MemoryDemand:
    """With tiles of at most ``side`` pixels a side at the scales that are larger."""

    def tiled(scale: Scale) -> Scale:
        longest = max(max(width, height) for width, height in _sides(scale))
        return replace(scale, tile=side) if longest > side else scale

    return replace(demand, scales=tuple(map(tiled, demand.scales)))


def _histories(history: int) -> list[int]:
    """Shorter and shorter, by halves, down to the same for all."""
    found = [history]
    while found[-1] > _LEAST_HISTORY:
        found.append(max(_LEAST_HISTORY, found[-1] // 2))
    return found


def _advice(demand: MemoryDemand, available: int) -> str:
    """What does fit, or that nothing does."""
    finest = demand.scales[-1]
    least = list(_candidates(demand))[-1]
    free = f"{available / 1e9:.1f} GB may be used"
    if demand.options.max_memory is not None:
        free += f" (--max-memory, less {1 - PLANNING_MARGIN:.0%} to be safe)"
    if demand.enlarged and replace(least, enlarged=0).peak <= available:
        return (
            f"The photo's own size would take {least.peak / 1e9:.1f} GB of memory and {free}; "
            "leave --original-size out."
        )
    start = f"{finest.width}x{finest.height} pixels would take {least.peak / 1e9:.1f} GB of memory"
    # By the time that it is tried, there may be a little less.
    most = _LATER * available
    sizes = range(max(finest.width, finest.height) // 16 * 16, 0, -16)
    size = next((size for size in sizes if _at_size(least, size).peak <= most), 0)
    if size < 64:
        more = "close other programs, or use a larger machine"
        if demand.options.max_memory is not None:
            more = "allow more with --max-memory"
        return f"{start} and {free}; {more}."
    return f"{start} and {free}; use --size {size}."


def _at_size(demand: MemoryDemand, size: int) -> MemoryDemand:
    """About what another ``--size`` would take."""
    finest = demand.scales[-1]
    factor = size / max(finest.width, finest.height)

    def smaller(width: int, height: int) -> tuple[int, int]:
        return round(factor * width), round(factor * height)

    def scaled(scale: Scale) -> Scale:
        width, height = smaller(scale.width, scale.height)
        styles = tuple(smaller(*style) for style in scale.styles)
        return replace(scale, width=width, height=height, styles=styles)

    return replace(demand, scales=tuple(map(scaled, demand.scales)))


def _sides(scale: Scale) -> Sequence[tuple[int, int]]:
    return (scale.width, scale.height), *scale.styles


def _part(size: tuple[int, int], tile: int | None) -> int:
    """Pixels of the largest part of a picture that is done at once."""
    width, height = size
    return width * height if tile is None else min(width, tile) * min(height, tile)


def _layer(name: str) -> float:
    """Bytes of a layer's features by the pixel of the picture."""
    return _NUMBER * CHANNELS[int(name[4]) - 1] / stride_of(name) ** 2


def _kept(name: str, layers: Sequence[str], through: Sequence[str]) -> float:
    """Bytes by the pixel that the way back keeps of a layer."""
    if name in layers:
        return _layer(name)
    if name.startswith("relu") and not _pooled(name, through):
        return _layer(name) / _NUMBER
    if name.startswith("pool"):
        return _layer(name) / _NUMBER
    return 0


def _passing(layers: Sequence[str], through: Sequence[str]) -> Iterator[str]:
    """Layers that lie in memory as a whole only until the next one is computed."""
    for name in through:
        if name.startswith("pool") or (
            name.startswith("relu") and name not in layers and not _pooled(name, through)
        ):
            yield name


def _pooled(name: str, through: Sequence[str]) -> bool:
    """Whether a pooling follows, so that its input need never lie in memory as a whole."""
    after = list(through).index(name) + 1
    return after < len(through) and through[after].startswith("pool")
