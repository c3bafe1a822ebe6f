"""Paths and types that the tests share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nstrt.runtime.model import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
CAT, NIGHT, EMBER = (EXAMPLES / name for name in ("cat.jpg", "night.jpg", "ember.jpg"))

Capture = pytest.CaptureFixture[str]
"""Captured standard output and standard error."""


@dataclass(frozen=True)
class Network:
    """A network in one pooling and padding, exported once for all tests."""

    spec: ModelSpec
    path: Path


Crop = Callable[[int, int], "Tensor"]
"""A piece of a picture by height and width: 1 x 3 x height x width, RGB in 0..1."""
