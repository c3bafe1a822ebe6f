"""Peak memory of a run, and how to make a run fit: a shorter history, then tiles."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from nstrt.runtime.engines.footprint import (
    FLOAT_BYTES,
    PIXEL_BYTES,
    Footprint,
    TiledImage,
    footprint_of,
    layer_bytes,
)
from nstrt.runtime.errors import TooLargeError
from nstrt.runtime.network.receptive_field import margin_of
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.planning.plan import Scale
from nstrt.runtime.system.memory import more_memory
from nstrt.runtime.system.words import is_offered, spelled

__all__ = [
    "PLANNING_MARGIN",
    "SAFE_SHARE",
    "MemoryDemand",
    "fit_to_memory",
    "fitting_size",
    "source_pixels",
]

SAFE_SHARE = 0.85
"""Largest share of the free memory that a run takes."""

PLANNING_MARGIN = 0.95
"""Share of ``max_memory`` that a run plans with, because the prediction may be a little low."""

_BANDS = 4 * 17_000_000
"""Most bytes of image bands that Adam and the total variation hold (``arrays.bands_of``)."""

_SAVED_IMAGES = 9
"""Images in memory while a result gets its colours and is written. The optimiser's are still
there, the network's memory is not."""

_ENLARGED_PIXEL = 72
"""Bytes per pixel while a result is enlarged, gets its transparency and is written."""

_MASK_BYTES = sum(FLOAT_BYTES / stride**2 for stride in (1, 2, 4, 8, 16))
"""Bytes per pixel of one mask at the layers."""

_LATER = 0.97
"""Share of the memory free now that a suggested size counts on."""

_SHORTEST_HISTORY = 4
"""Fewest steps that L-BFGS must remember."""

_GOOD_HISTORY = 10
"""Steps that L-BFGS needs to converge well; below it, tiles come first."""

_GOOD_CORE = 256
"""Pixels a side of a tile's core with bearable margins; below it, the shortest history comes
first."""


@dataclass(frozen=True, kw_only=True)
class MemoryDemand:
    """Everything that decides a run's memory."""

    engine: str
    """``onnx``, ``torch`` or ``graph``."""

    precision: str
    """Precision of the products in convolutions."""

    on_card: bool
    """The activations lie on a card, whose memory alone is counted."""

    options: StylizeOptions
    """The run's options."""

    scales: tuple[Scale, ...]
    """Scales from coarse to fine, with their tiles."""

    history: int
    """Pairs that L-BFGS remembers; 0 for Adam."""

    sources: int = 0
    """Pixels of the photo, the paintings and the masks as they were read."""

    masks: int = 0
    """Masks that are held at each layer: regions, their rest, and protection."""

    part_of_paintings: bool = False
    """Of some painting a part counts, by masks of its size at each layer."""

    enlarged: int = 0
    """Pixels of a result that is brought up to the photo's size at the end."""

    @property
    def peak(self) -> int:
        """Peak bytes of the run, interpreter and libraries included."""
        footprint, layers, images = self.footprint, self.options.layers, self.images
        finest = self.scales[-1]
        pixels = finest.width * finest.height
        one_graph = finest.tile is None and self.options.style_loss == "gram"
        painting: float = footprint.network(layers, images, one_graph=one_graph)
        painting += self._optimizer_images * pixels * PIXEL_BYTES
        painting += pixels * (self._content_targets + self._mask_bytes) + self._painting_masks
        painting += min(_BANDS, 4 * pixels * PIXEL_BYTES)
        saving = max(pixels * _SAVED_IMAGES * PIXEL_BYTES, self.enlarged * _ENLARGED_PIXEL)
        fixed = 0
        if not self.on_card:
            fixed = footprint.libraries + self.sources * PIXEL_BYTES + footprint.compiler(images)
        weights = footprint.weights(
            layers,
            exact=self.precision == "fp32",
            on_card=self.on_card,
            one_graph=one_graph,
        )
        return int(fixed + weights + max(painting, saving))

    @property
    def footprint(self) -> Footprint:
        """Memory of the engine."""
        return footprint_of(self.engine)

    @property
    def images(self) -> tuple[TiledImage, ...]:
        """Photo and paintings at all scales."""
        return tuple(
            TiledImage(width, height, scale.tile)
            for scale in self.scales
            for width, height in scale.seen(self.options.spec.border)
        )

    @property
    def _optimizer_images(self) -> int:
        """Images of the finest scale: the image, its gradient, the best one or the average, the
        extended ones, and the optimiser's own."""
        extended = 2 * bool(self.options.spec.border)
        return extended + (2 * self.history + 9 if self.history else 5)

    @property
    def _content_targets(self) -> float:
        """Bytes per pixel of the content targets."""
        return sum(layer_bytes(name) for name, _ in self.options.content_layers)

    @property
    def _mask_bytes(self) -> float:
        """Bytes per pixel of the masks, and of a photo that stays."""
        overlay = 2 * PIXEL_BYTES + FLOAT_BYTES if self.options.rest == "photo" else 0
        return self.masks * _MASK_BYTES + overlay

    @property
    def _painting_masks(self) -> float:
        """Bytes of a painting's masks, which are made and freed for one painting at a time."""
        if not self.part_of_paintings:
            return 0
        # The masks, and their roots.
        return (
            2 * _MASK_BYTES * max(math.prod(size) for each in self.scales for size in each.styles)
        )


def source_pixels(
    options: StylizeOptions,
    photo: tuple[int, int],
    paintings: Sequence[tuple[int, int]],
    masks: int,
    part_of_paintings: bool,
) -> int:
    """Pixels of a run's pictures as they were read, and of their copies with other colours."""
    photos = 1 + masks + (options.color in ("content", "match-style"))
    copies = 1 + (options.color in ("content", "match-content")) + part_of_paintings
    return photos * math.prod(photo) + copies * sum(map(math.prod, paintings))


def fit_to_memory(demand: MemoryDemand, available: int) -> MemoryDemand:
    """The demand with the longest history and the largest tiles that fit ``available`` bytes.

    Raises :class:`TooLargeError` with advice if nothing fits.
    """
    for candidate in _candidates(demand):
        if candidate.peak <= available:
            return candidate
    raise TooLargeError(_advice(demand, available))


def fitting_size(demand: MemoryDemand, available: int) -> int:
    """The largest size at which the demand fits; 0 if none of at least 64 pixels does."""
    finest = demand.scales[-1]
    least = list(_candidates(demand))[-1]
    # There may be less free memory when the suggestion is tried.
    most = _LATER * available
    sizes = range(max(finest.width, finest.height) // 16 * 16, 63, -16)
    return next((size for size in sizes if _at_size(least, size).peak <= most), 0)


def _candidates(demand: MemoryDemand) -> Iterator[MemoryDemand]:
    """Demands from the fastest to the slowest.

    A history of :data:`_GOOD_HISTORY` comes before tiles, the shortest history before small tiles.
    """
    histories = _histories(demand.history)
    for history in histories:
        if history == demand.history or history >= _GOOD_HISTORY:
            yield replace(demand, history=history)
    margin = margin_of(demand.footprint.margin_layers(demand.options.layers))
    longest = max(max(scale.width, scale.height) for scale in demand.scales)
    cores = [16 * count for count in range(longest // 16, 3, -1)]
    for history in histories:
        for core in cores:
            if core >= _GOOD_CORE:
                yield _tiled(replace(demand, history=history), core + 2 * margin)
    for core in cores:
        if core < _GOOD_CORE:
            yield _tiled(replace(demand, history=histories[-1]), core + 2 * margin)


def _tiled(demand: MemoryDemand, side: int) -> MemoryDemand:
    """The demand with tiles of at most ``side`` pixels a side at the scales that are larger."""

    def tiled(scale: Scale) -> Scale:
        longest = max(map(max, scale.seen(demand.options.spec.border)))
        return replace(scale, tile=side) if longest > side else scale

    return replace(demand, scales=tuple(map(tiled, demand.scales)))


def _histories(history: int) -> list[int]:
    """Histories to try, each half of the one before."""
    histories = [history]
    while histories[-1] > _SHORTEST_HISTORY:
        histories.append(max(_SHORTEST_HISTORY, histories[-1] // 2))
    return histories


def _advice(demand: MemoryDemand, available: int) -> str:
    """A sentence with a size that fits, or with what else to do."""
    finest = demand.scales[-1]
    least = list(_candidates(demand))[-1]
    free, more = more_memory(least.peak, available)
    asked = demand.options.max_memory
    # A limit of the process may be tighter than the one that was asked for.
    is_asked = asked is not None and available >= int(PLANNING_MARGIN * asked * 1e9)
    if is_asked:
        free = f"{available / 1e9:.1f} GB may be used"
        free += f" ({spelled('max_memory')}, less {1 - PLANNING_MARGIN:.0%} to be safe)"
    if demand.enlarged and replace(least, enlarged=0).peak <= available:
        advice = "scale the photo down first"
        if is_offered("original_size"):
            advice = f"leave {spelled('original_size', True)} out"
        return (
            f"The photo's own size would take {least.peak / 1e9:.1f} GB of memory and {free}; "
            f"{advice}."
        )
    start = f"{finest.width}x{finest.height} pixels would take {least.peak / 1e9:.1f} GB of memory"
    size = fitting_size(demand, available)
    if not size:
        if is_asked:
            enough = math.ceil(10 * least.peak / PLANNING_MARGIN / 1e9) / 10
            more = f"make {spelled('max_memory')} at least {enough:g}"
        return f"{start} and {free}; {more}."
    return f"{start} and {free}; use {spelled('size', size)}."


def _at_size(demand: MemoryDemand, size: int) -> MemoryDemand:
    """Approximate demand with another size."""
    finest = demand.scales[-1]
    factor = size / max(finest.width, finest.height)

    def smaller(width: int, height: int) -> tuple[int, int]:
        return round(factor * width), round(factor * height)

    def scaled(scale: Scale) -> Scale:
        width, height = smaller(scale.width, scale.height)
        styles = tuple(smaller(*style) for style in scale.styles)
        return replace(scale, width=width, height=height, styles=styles)

    return replace(demand, scales=tuple(map(scaled, demand.scales)))
