"""State of an optimiser or a loop, as checkpoints store it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

__all__ = ["State"]

State: TypeAlias = Mapping[str, Any]
"""Mappings and sequences of numbers, strings, None and arrays."""
