"""Nested facts as lines that people read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["as_lines"]


def as_lines(facts: Mapping[str, Any], indent: int = 0) -> Iterator[str]:
    """Each fact in a line, those inside another indented below it."""
    for name, value in facts.items():
        label = " " * indent + name.replace("_", " ")
        if isinstance(value, dict):
            yield label
            yield from as_lines(value, indent + 2)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield label
            for item in value:
                yield " " * (indent + 2) + ", ".join(f"{k} {v}" for k, v in item.items())
        elif isinstance(value, list):
            yield f"{label}: {', '.join(_plain(item) for item in value) or 'none'}"
        else:
            yield f"{label}: {_plain(value)}"


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ":".join(_plain(item) for item in value)
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
