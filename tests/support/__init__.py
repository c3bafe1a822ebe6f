"""Paths and types that the tests share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nstrt.runtime.model import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


@dataclass(frozen=True)
class Network:
    """A network in one pooling and padding, exported once for all tests."""

    spec: ModelSpec
    path: Path


Crop = Callable[[int, int], "Tensor"]
"""A piece of a picture by height and width: 1 x 3 x height x width, RGB in 0..1."""
