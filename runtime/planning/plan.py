"""The plan of a run, decided once before it starts: scales, engine, provider, threads, memory.

Equal plans on one machine give equal pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nstrt.runtime.errors import OptionError
from nstrt.runtime.options.options import StylizeOptions

__all__ = ["COARSEST", "STEP", "Plan", "Scale", "default_size", "plan_scales"]

STEP = math.sqrt(2)
"""Each scale's long side is this many times the last one's."""

COARSEST = 128
"""Long side in pixels that coarse to fine starts from, about."""


SMALLEST_SIDE = 32
"""Coarse scales whose short side would be smaller are left out."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """One scale of coarse to fine."""

    width: int
    """Of the picture, in pixels."""

    height: int
    """Of the picture, in pixels."""

    styles: tuple[tuple[int, int], ...]
    """Width and height of each painting, in pixels."""

    iterations: int
    """Steps at this scale."""

    tile: int | None = None
    """Longest side in pixels of the tiles it is computed in; None for the whole at once."""

    @property
    def style_width(self) -> int:
        """Of the first painting, in pixels."""
        return self.styles[0][0]

    @property
    def style_height(self) -> int:
        """Of the first painting, in pixels."""
        return self.styles[0][1]

    @property
    def work(self) -> int:
        """Pixels times steps, to which the time is proportional."""
        return self.width * self.height * self.iterations


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will run, where and how."""

    engine: str
    """``onnx`` or ``torch``."""

    provider: str
    """ONNX Runtime's provider, or where torch runs: ``cpu``, ``cuda``, ``tensorrt``, ``coreml``."""

    precision: str
    """``fp32``, ``tf32``, ``bf16`` or ``fp16``."""

    device: str
    """The processor or card, by name."""

    threads: int
    """Processor threads."""

    scales: tuple[Scale, ...]
    """From coarse to fine."""

    optimizer: str
    """``lbfgs`` or ``adam``."""

    history: int
    """Pairs that L-BFGS remembers; 0 for Adam."""

    model: str
    """Name of the model file."""

    model_sha256: str
    """Its checksum."""

    memory: int
    """Bytes that the run will take at its peak, as predicted."""

    kernels: Mapping[str, str]
    """The algorithm of each convolution that torch computes at the finest scale, in tiles those of
    each section's first one, by its layer and way: ``on``, or ``back`` for the gradient."""

    nodes: Mapping[str, int]
    """Nodes of the network by ONNX Runtime's provider, as it recorded them; empty for torch."""

    reasons: tuple[str, ...]
    """Why, in sentences, where something was chosen automatically."""

    @property
    def steps(self) -> int:
        """Steps over the whole run."""
        return sum(scale.iterations for scale in self.scales)

    @property
    def work(self) -> int:
        """Pixels times steps over the whole run, to which the time is proportional."""
        return sum(scale.work for scale in self.scales)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as they are recorded in a result."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """The plan of which :meth:`as_dict` gave these values, perhaps by way of JSON."""
        scales = tuple(Scale(**_with_tuples(scale)) for scale in values["scales"])
        return cls(**{**_with_tuples(values), "scales": scales})


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """With tuples for JSON's lists."""

    def frozen(value: Any) -> Any:
        return tuple(map(frozen, value)) if isinstance(value, (list, tuple)) else value

    return {name: frozen(value) for name, value in values.items()}


def default_size(provider: str) -> int:
    """The long side that a machine does in sensible time: minutes on a processor."""
    return 512 if provider in ("cpu", "coreml") else 1024


def plan_scales(
    options: StylizeOptions,
    *,
    photo: tuple[int, int],
    painting: tuple[int, int] | Sequence[tuple[int, int]],
    default: int,
) -> tuple[Scale, ...]:
    """The scales from coarse to fine, for a photo and one or several paintings of (width, height)
    pixels.

    Raises :class:`OptionError` if they would have less than 16 pixels on a side.
    """
    paintings: Sequence[Any] = painting if isinstance(painting[0], Sequence) else (painting,)
    # A panorama's short side needs some pixels too.
    enough = math.ceil(SMALLEST_SIDE * max(photo) / min(photo))
    size = options.size or min(max(default, enough), max(photo))
    schedule = options.schedule
    listed = len(options.iterations)
    count = options.scales or (listed if listed > 1 else _automatic(size, photo, options.square))
    scales: list[Scale] = []
    for finer in reversed(range(count)):
        width, height = _fit(photo, size / STEP**finer, square=options.square)
        if min(width, height) < 16:
            raise OptionError(
                f"The coarsest of {count} scales would be {width}x{height} pixels, and 16 are "
                f"needed on each side; use a larger --size{' or fewer --scales' * (count > 1)}."
            )
        # A schedule is lined up at its fine end; a single number holds for all scales.
        steps = schedule[max(0, len(schedule) - 1 - finer)]
        scales.append(
            Scale(
                width=width,
                height=height,
                styles=tuple(_same_area(size, width, height, options) for size in paintings),
                iterations=steps,
            )
        )
    return tuple(scales)


def _automatic(size: int, photo: tuple[int, int], square: bool) -> int:
    """As many scales as lead from about :data:`COARSEST` pixels up to ``size``."""
    count = 1
    while True:
        coarser = size / STEP**count
        if coarser < COARSEST * 0.95:
            return count
        if min(_fit(photo, coarser, square=square)) < SMALLEST_SIDE:
            return count
        count += 1


def _fit(photo: tuple[int, int], long_side: float, *, square: bool) -> tuple[int, int]:
    if square:
        return round(long_side), round(long_side)
    factor = long_side / max(photo)
    return max(1, round(photo[0] * factor)), max(1, round(photo[1] * factor))


def _same_area(
    painting: tuple[int, int], width: int, height: int, options: StylizeOptions
) -> tuple[int, int]:
    if options.square:
        return width, height
    factor = math.sqrt(width * height / (painting[0] * painting[1])) * options.style_scale
    return max(16, round(painting[0] * factor)), max(16, round(painting[1] * factor))
