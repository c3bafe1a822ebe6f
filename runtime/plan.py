"""The plan of a run, decided once before it starts: scales, engine, provider, threads, memory.

Equal plans on one machine give equal pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nstrt.runtime.model import OptionError, TooLargeError
from nstrt.runtime.options import StylizeOptions

__all__ = [
    "COARSEST",
    "STEP",
    "Plan",
    "Scale",
    "check_memory",
    "default_size",
    "peak_memory",
    "plan_scales",
]

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

    style_width: int
    """Of the painting, in pixels."""

    style_height: int
    """Of the painting, in pixels."""

    iterations: int
    """Steps at this scale."""

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
    """``fp32``, ``tf32`` or ``fp16``."""

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


def default_size(provider: str) -> int:
    """The long side that a machine does in sensible time: minutes on a processor."""
    return 512 if provider in ("cpu", "coreml") else 1024


def plan_scales(
    options: StylizeOptions,
    *,
    photo: tuple[int, int],
    painting: tuple[int, int],
    default: int,
) -> tuple[Scale, ...]:
    """The scales from coarse to fine, for a photo and a painting of (width, height) pixels.

    Raises :class:`OptionError` if they would have less than 16 pixels on a side.
    """
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
        style = _same_area(painting, width, height, options)
        # A schedule is lined up at its fine end; a single number holds for all scales.
        steps = schedule[max(0, len(schedule) - 1 - finer)]
        scales.append(
            Scale(
                width=width,
                height=height,
                style_width=style[0],
                style_height=style[1],
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


# Fitted to the peak resident memory of whole runs at 256 to 768 pixels on a processor
# (benchmarks/memory.py): interpreter and libraries, then activations and gradients by the pixel.
_BASE = 790_000_000
_BYTES_PER_PIXEL: Mapping[str, int] = {"onnx": 6100, "torch": 3600}

_BYTES_ENLARGED = 72
"""Bytes for each pixel while a result is enlarged, given its transparency and written."""


def peak_memory(engine: str, scales: tuple[Scale, ...], history: int, *, enlarged: int = 0) -> int:
    """Bytes that a run takes at its peak, interpreter and libraries included.

    ``enlarged`` is the pixels of a result that is brought up to the photo's size at the end.
    """
    pixels = max(max(s.width * s.height, s.style_width * s.style_height) for s in scales)
    finest = scales[-1].width * scales[-1].height
    pictures = 2 * history + 8
    painting = pixels * _BYTES_PER_PIXEL[engine] + finest * pictures * 12
    return _BASE + max(painting, enlarged * _BYTES_ENLARGED)


def check_memory(
    engine: str, scales: tuple[Scale, ...], history: int, available: int, *, enlarged: int = 0
) -> int:
    """The predicted peak; raises :class:`TooLargeError` with the size that fits if it does not."""
    needed = peak_memory(engine, scales, history)
    whole = peak_memory(engine, scales, history, enlarged=enlarged)
    if whole <= available:
        return whole
    if needed <= available:
        raise TooLargeError(
            f"The photo's own size would take {whole / 1e9:.1f} GB of memory and "
            f"{available / 1e9:.1f} GB are free; leave --original-size out."
        )
    finest = scales[-1]
    longest = max(finest.width, finest.height)
    fixed = peak_memory(engine, (_shrunk(finest, 0),), history)
    # A little less than there is: by the time it is tried, it may be less.
    factor = math.sqrt(max(0.0, (0.95 * available - fixed) / (needed - fixed)))
    fits = int(longest * factor) // 16 * 16
    advice = f"use --size {fits}" if fits >= 64 else "close other programs, or use a larger machine"
    raise TooLargeError(
        f"{finest.width}x{finest.height} pixels would take {needed / 1e9:.1f} GB of memory and "
        f"{available / 1e9:.1f} GB are free; {advice}."
    )


def _shrunk(scale: Scale, factor: float) -> Scale:
    return Scale(
        width=int(scale.width * factor),
        height=int(scale.height * factor),
        style_width=int(scale.style_width * factor),
        style_height=int(scale.style_height * factor),
        iterations=scale.iterations,
    )
