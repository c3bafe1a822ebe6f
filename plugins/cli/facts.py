"""Nested facts as lines for people, and facts about installed weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nstrt.runtime.system.memory import is_out_of_memory

__all__ = ["describe_weights", "format_facts"]


def format_facts(facts: Mapping[str, Any], indent: int = 0) -> Iterator[str]:
    """One line for each fact; facts inside another are indented below it."""
    for name, value in facts.items():
        label = " " * indent + name.replace("_", " ")
        if isinstance(value, dict):
            yield label
            yield from format_facts(value, indent + 2)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield label
            for item in value:
                yield " " * (indent + 2) + ", ".join(f"{k} {v}" for k, v in item.items())
        elif isinstance(value, list):
            yield f"{label}: {', '.join(_format_value(item) for item in value) or 'none'}"
        else:
            yield f"{label}: {_format_value(value)}"


def _format_value(value: Any) -> str:
    if isinstance(value, list):
        return ":".join(_format_value(item) for item in value)
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def describe_weights() -> dict[str, str]:
    """The weights that can be exported here, as the exporter describes them."""
    try:
        from nstrt.exporter.weights import available_weights
    except ImportError as error:
        if is_out_of_memory(error):
            return {"exporter": "does not load within this process's memory"}
        return {"exporter": 'not installed; add it with: pip install "nstrt[full]"'}
    return available_weights()
