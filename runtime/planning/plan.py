"""Plan of a run, made once before it starts: scales, engine, provider, threads, memory.

Equal plans on one machine give equal pixels.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Interval, Len, Predicate

from nstrt.runtime.errors import OptionError
from nstrt.runtime.options.choices import ENGINES, OPTIMIZERS
from nstrt.runtime.options.options import OPTIONS, StylizeOptions
from nstrt.runtime.ort.providers import PRECISIONS, PROVIDERS
from nstrt.runtime.system.words import spelled

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = [
    "COARSEST",
    "LEAST_SIDE",
    "LOOPS",
    "SCALE_RATIO",
    "Plan",
    "Scale",
    "default_size",
    "plan_scales",
]

SCALE_RATIO = math.sqrt(2)
"""Ratio of the long sides of a scale and the next coarser one."""

COARSEST = 128
"""Approximate long side in pixels of the coarsest scale."""

LEAST_SIDE = 16
"""Fewest pixels of a side of any scale."""

SMALLEST_SIDE = 32
"""Smallest short side in pixels of a coarse scale."""

LOOPS = "compiled loops"
"""First words of a reason that a run's summary states."""

_STRICT = {"strict": True, "extra": "forbid"}
"""Settings of pydantic, which checks a plan from a file by the types of its fields."""


def _one_of(*words: str) -> Predicate:
    return Predicate(words.__contains__)


Side = Annotated[int, Interval(ge=LEAST_SIDE, le=1 << 24)]
"""Pixels of a side; the bound is far beyond every picture."""


def _is_text(text: str) -> bool:
    return not any(unicodedata.category(character) == "Cc" for character in text)


Text = Annotated[str, Len(0, 1000), Predicate(_is_text)]
"""Words for people; control characters could steer a terminal."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """One scale of coarse to fine."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    width: Side
    """Size of the image in pixels."""

    height: Side
    """Size of the image in pixels."""

    styles: Annotated[tuple[tuple[Side, Side], ...], Len(1)]
    """Width and height of each painting, in pixels."""

    iterations: Annotated[int, Interval(ge=1, le=1_000_000)]
    """Steps at this scale."""

    tile: Side | None = None
    """Longest side of its tiles in pixels; None for the whole image at once."""

    @property
    def work(self) -> int:
        """Pixels times steps; the time is proportional to it."""
        return self.width * self.height * self.iterations

    def seen(self, border: int) -> tuple[tuple[int, int], ...]:
        """Widths and heights of image and paintings as the network sees them."""
        sizes = (self.width, self.height), *self.styles
        return tuple((width + 2 * border, height + 2 * border) for width, height in sizes)


@dataclass(frozen=True, kw_only=True, repr=False)
class Plan:
    """Engine, provider, scales and algorithms of a run."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    engine: Annotated[str, _one_of(*ENGINES[1:])]
    """``onnx``, ``torch`` or ``graph``."""

    provider: Annotated[str, _one_of(*PROVIDERS[1:])]
    """ONNX Runtime's provider, or where torch runs: ``cpu``, ``cuda``, ``tensorrt``, ``coreml``."""

    precision: Annotated[str, _one_of(*PRECISIONS[1:])]
    """``fp32``, ``tf32``, ``bf16`` or ``fp16``."""

    device: Text
    """Name of the processor or card."""

    threads: Annotated[int, Interval(ge=1, le=1024)]
    """Processor threads."""

    scales: Annotated[tuple[Scale, ...], Len(1, 32)]
    """Scales from coarse to fine."""

    optimizer: Annotated[str, _one_of(*OPTIMIZERS)]
    """``lbfgs`` or ``adam``."""

    history: Annotated[int, Interval(ge=0, le=200)]
    """Pairs that L-BFGS remembers; 0 for Adam."""

    model: Text
    """Name of the model file."""

    model_sha256: Text
    """SHA-256 of the model file."""

    memory: Annotated[int, Ge(0)]
    """Predicted peak memory in bytes."""

    kernels: Mapping[Text, Text]
    """Algorithm of each convolution that torch computes at the finest scale, by layer and
    direction (``on``, or ``back`` for the gradient). In tiles, it is that of each section's first.
    """

    nodes: Mapping[Text, int]
    """Nodes of the network by ONNX Runtime's provider; empty for engine ``torch``."""

    reasons: tuple[Text, ...]
    """Sentences on automatic choices."""

    def __repr__(self) -> str:
        finest, scales = self.scales[-1], len(self.scales)
        return (
            f"<Plan {finest.width}x{finest.height}, {scales} scale{'s' * (scales != 1)}, "
            f"{self.steps} step{'s' * (self.steps != 1)}, "
            f"engine {self.engine} on {self.provider} in {self.precision}>"
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for a run's summary: reasons that concern compiled loops."""
        return tuple(
            f"{reason[0].upper()}{reason[1:]}."
            for reason in self.reasons
            if reason.startswith(LOOPS)
        )

    @property
    def steps(self) -> int:
        """Steps over the whole run."""
        return sum(scale.iterations for scale in self.scales)

    @property
    def work(self) -> int:
        """Pixels times steps over the whole run; the time is proportional to it."""
        return sum(scale.work for scale in self.scales)

    def fraction(self, scale: int, iterations: int) -> float:
        """Share of the work up to ``iterations`` steps at the scale with index ``scale``."""
        here = self.scales[scale]
        done = sum(each.work for each in self.scales[:scale])
        return (done + here.width * here.height * iterations) / self.work

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a recipe."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """The plan from the values of :meth:`as_dict`, also after a round trip through JSON.

        Raises :class:`ValueError` if a value is missing, unknown, of another type or out of range.
        """
        return _plan_adapter().validate_json(json.dumps(values))


@lru_cache(maxsize=1)
def _plan_adapter() -> TypeAdapter[Plan]:
    # Importing pydantic and reading the types takes a tenth of a second.
    from pydantic import TypeAdapter

    return TypeAdapter(Plan)


def default_size(provider: str) -> int:
    """Default long side in pixels: minutes on a processor."""
    return 512 if provider in ("cpu", "coreml") else 1024


def plan_scales(
    options: StylizeOptions,
    *,
    photo: tuple[int, int],
    painting: tuple[int, int] | Sequence[tuple[int, int]],
    default: int,
) -> tuple[Scale, ...]:
    """Scales from coarse to fine, for a photo and paintings of (width, height) pixels.

    Raises :class:`OptionError` if a scale would have less than 16 pixels on a side.
    """
    paintings: Sequence[Any] = painting if isinstance(painting[0], Sequence) else (painting,)
    # The short side of a panorama needs a minimum too.
    enough = math.ceil(SMALLEST_SIDE * max(photo) / min(photo))
    size = options.size or min(max(default, enough), max(photo))
    schedule = options.schedule
    listed = len(options.iterations)
    count = options.scales or (listed if listed > 1 else _scale_count(size, photo, options.square))
    scales: list[Scale] = []
    for finer in reversed(range(count)):
        width, height = _fit(photo, size / SCALE_RATIO**finer, square=options.square)
        if min(width, height) < LEAST_SIDE:
            raise OptionError(_too_small(options, photo, size, count))
        steps = schedule[min(count - 1 - finer, len(schedule) - 1)]
        scales.append(
            Scale(
                width=width,
                height=height,
                styles=tuple(_same_area(size, width, height, options) for size in paintings),
                iterations=steps,
            )
        )
    return tuple(scales)


def _too_small(options: StylizeOptions, photo: tuple[int, int], size: int, count: int) -> str:
    """A sentence with a size, and a number of scales, whose coarsest scale is large enough."""
    width, height = _fit(photo, size / SCALE_RATIO ** (count - 1), square=options.square)
    which = "The picture" if count == 1 else f"The coarsest of {count} scales"
    advice = []
    ratio = 1.0 if options.square else max(photo) / min(photo)
    enough = math.ceil(LEAST_SIDE * ratio * SCALE_RATIO ** (count - 1))
    if enough <= (OPTIONS["size"].range.maximum or enough):
        advice.append(f"make {spelled('size')} at least {enough}")
    fewer = next((n for n in range(count - 1, 0, -1) if _holds(options, photo, size, n)), 0)
    if fewer:
        option = "scales" if options.scales else "iterations"
        advice.append(f"{spelled(option)} at most {fewer}{' numbers' * (option == 'iterations')}")
    return (
        f"{which} would be {width}x{height} pixels, and {LEAST_SIDE} are needed on each side; "
        f"{' or '.join(advice) or 'crop the photo'}."
    )


def _holds(options: StylizeOptions, photo: tuple[int, int], size: int, count: int) -> bool:
    """True if the coarsest of ``count`` scales is large enough."""
    coarsest = _fit(photo, size / SCALE_RATIO ** (count - 1), square=options.square)
    return min(coarsest) >= LEAST_SIDE


def _scale_count(size: int, photo: tuple[int, int], square: bool) -> int:
    """Number of scales from about :data:`COARSEST` pixels up to ``size``."""
    count = 1
    while True:
        coarser = size / SCALE_RATIO**count
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
    return (
        max(LEAST_SIDE, round(painting[0] * factor)),
        max(LEAST_SIDE, round(painting[1] * factor)),
    )
