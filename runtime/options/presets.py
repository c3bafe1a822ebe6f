"""Presets: named values that options start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["ADAM_STEPS", "PRESETS", "Preset"]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Steps and option values of one preset."""

    schedule: tuple[int, ...]
    """Steps of the scales, the coarsest first; further scales take the last number.

    A small picture is so painted as a large one is at its first scales."""

    frame_steps: int
    """Steps of a film's frames after the first, which start from the one before."""

    values: Mapping[str, Any]
    """Options that differ from the defaults."""

    def schedule_of(self, optimizer: str) -> tuple[int, ...]:
        """Steps of the scales with this optimiser."""
        return tuple(self._factor(optimizer) * steps for steps in self.schedule)

    def frame_schedule_of(self, optimizer: str) -> tuple[int, ...]:
        """Steps of a film's frames with this optimiser."""
        return (self._factor(optimizer) * self.frame_steps,)

    def _factor(self, optimizer: str) -> int:
        """Steps for one of the preset, which counts those of its own optimiser."""
        own = self.values.get("optimizer", "lbfgs")
        return ADAM_STEPS if (optimizer, own) == ("adam", "lbfgs") else 1


ADAM_STEPS = 3
"""Steps of Adam for one step of L-BFGS, which lowers the loss more."""

PRESETS: Mapping[str, Preset] = {
    "fast": Preset(schedule=(30, 20, 15, 10, 8), frame_steps=15, values={}),
    "balanced": Preset(schedule=(60, 40, 30, 20, 15), frame_steps=35, values={}),
    "best": Preset(schedule=(200, 160, 120, 90, 60), frame_steps=90, values={"history": 30}),
    "classic": Preset(
        schedule=(300,),
        frame_steps=300,
        values={
            "weights": "auto",
            "precision": "fp32",
            "normalize": False,
            "padding": "zero",
            "pooling": "avg-unscaled",
            "size": 512,
            "square": True,
            "scales": 1,
            "style_loss": "gram",
            "content_layers": tuple((f"relu{block}_1", 1.0) for block in range(2, 6)),
            "style_layers": tuple((f"relu{block}_1", 0.2) for block in range(2, 6)),
            "content_weight": 1.0,
            "tv_weight": 0.0,
            "style_weight": 3.0,
            "relative": False,
            "gram_mean": False,
            "optimizer": "adam",
            "learning_rate": 0.01,
            "adam_beta2": 0.999,
            "clamp": False,
            "average": False,
            "keep": "last",
            "tolerance": 0.0,
        },
    ),
}
