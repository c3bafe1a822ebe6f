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
    """Steps of the finest scales, the finest last; coarser scales take the first number."""

    values: Mapping[str, Any]
    """Options that differ from the defaults."""


ADAM_STEPS = 3
"""Steps of Adam for one step of L-BFGS, which lowers the loss more."""

PRESETS: Mapping[str, Preset] = {
    "fast": Preset(schedule=(60, 40, 25, 15), values={}),
    "balanced": Preset(schedule=(100, 70, 50, 35), values={}),
    "best": Preset(schedule=(200, 160, 120, 90), values={"history": 30}),
    "classic": Preset(
        schedule=(300,),
        values={
            "weights": "auto",
            "precision": "fp32",
            "normalize": False,
            "padding": "zero",
            "pooling": "avg-unscaled",
            "size": 512,
            "square": True,
            "scales": 1,
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
