"""Strategies for valid values of options."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from nstrt.runtime.model import LAYERS
from nstrt.runtime.options.spec import (
    Boolean,
    Integer,
    LayerList,
    Number,
    NumberList,
    OptionSpec,
    Range,
)

__all__ = ["option_values"]


def option_values(spec: OptionSpec) -> SearchStrategy[Any]:
    """Every valid value of an option but None and the empty list, which have no text form."""
    match spec.kind:
        case Boolean():
            return st.booleans()
        case Number():
            return _numbers(spec.kind, spec.range)
        case NumberList():
            items = _numbers(spec.kind.item, spec.range)
            # Weights of paintings must not all be 0.
            return st.lists(items, min_size=1, max_size=5).filter(any).map(tuple)
        case LayerList():
            weights = _numbers(spec.kind.weight, spec.kind.weight_range)
            pairs = st.tuples(st.sampled_from(LAYERS), weights)
            return st.lists(pairs, min_size=1, unique_by=lambda pair: pair[0]).map(tuple)
    words = st.sampled_from(spec.choices or spec.file_words)
    return words | st.just("my cat.png") if spec.file_words else words


def _numbers(kind: Number, limits: Range) -> SearchStrategy[Any]:
    if isinstance(kind, Integer):
        return st.integers(limits.minimum, limits.maximum)
    if limits.exclusive_minimum is None:
        return st.floats(limits.minimum, limits.maximum)
    return st.floats(limits.exclusive_minimum, limits.maximum, exclude_min=True)
