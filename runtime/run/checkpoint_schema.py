"""Schema of a checkpoint's header: types, ranges, and how its numbers belong together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Annotated, NamedTuple

import numpy as np
from annotated_types import Ge, Interval, Len, Predicate
from pydantic import BaseModel, ConfigDict, Field, model_validator

from nstrt.runtime.loss.terms import LossTerms
from nstrt.runtime.options.options import OPTIONS
from nstrt.runtime.planning.plan import Plan, Text

__all__ = ["ArrayRule", "Header"]

_TERMS = frozenset(field.name for field in fields(LossTerms))


_LARGEST = float(np.finfo(np.float32).max)


class ArrayRule(NamedTuple):
    """Shape of an array, and the range of its numbers; by default all that are finite."""

    shape: tuple[int, ...]
    least: float = -_LARGEST
    most: float = _LARGEST


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


_Loss = Annotated[float, Ge(0)]
"""Sum of squares."""


class _Index(_Part):
    """Index of an array."""

    array: Annotated[int, Ge(0)]


class _Adam(_Part):
    steps: Annotated[int, Ge(0)]
    moments: tuple[_Index, _Index] | None


class _Point(_Part):
    image: _Index
    loss: _Loss
    gradient: _Index
    direction: _Index
    length: Annotated[float, Interval(ge=0, le=1)]
    shortened: Annotated[int, Ge(0)]
    restarts: Annotated[int, Ge(0)]


class _Lbfgs(_Part):
    pairs: list[tuple[_Index, _Index, _Index]]
    gamma: _Index | None
    at: _Point | None


class _Average(_Part):
    sum: _Index | None
    weight: Annotated[float, Ge(0)]


class _Best(_Part):
    image: _Index | None
    terms: Annotated[dict[str, _Loss], Predicate(lambda terms: terms.keys() == _TERMS)] | None
    average: _Average | None


class _Stall(_Part):
    lowest: Annotated[list[_Loss], Len(0, 11)]


class _LoopState(_Part):
    scale: Annotated[int, Ge(0)]
    iteration: Annotated[int, Ge(0)]
    step: Annotated[int, Ge(1)]
    complete: bool
    ended: bool
    image: _Index
    optimizer: _Adam | _Lbfgs
    best: _Best | None
    gain: _Stall | None


_OptionName = Annotated[str, Predicate(lambda name: name in OPTIONS)]
_OptionValue = bool | int | float | str | list[float] | list[tuple[str, float]] | None


class Identity(_Part):
    """Identity of a run."""

    pictures: dict[Text, Text]
    options: dict[_OptionName, _OptionValue]


class Header(_Part):
    """Header of a checkpoint file."""

    format: int = Field(alias="nstrt-checkpoint")
    asked: Identity
    plan: Plan
    algorithms: dict[Text, Text]
    versions: dict[Text, Text]
    seconds: Annotated[float, Ge(0)] = 0.0
    state: _LoopState

    @model_validator(mode="after")
    def _belong_together(self) -> Header:
        if not all(self._conditions()):
            raise ValueError("numbers that contradict each other")
        return self

    def _conditions(self) -> Iterator[bool]:
        plan, state, options = self.plan, self.state, self.asked.options
        yield plan.optimizer == options.get("optimizer")
        yield state.scale < len(plan.scales)
        steps = [scale.iterations for scale in plan.scales[: state.scale + 1]]
        yield state.iteration <= steps[-1]
        # Before a scale's first step there is a state only of a run that was stopped in it.
        fresh = state.iteration == 0
        yield not fresh or state.scale > 0
        # A scale takes a step at least, and fewer than planned if its loss stalls.
        yield state.scale <= state.step - state.iteration <= sum(steps[:-1])
        yield not fresh if state.complete else state.iteration < steps[-1] and not state.ended
        yield not state.ended or state.scale + 1 < len(plan.scales)
        yield (state.best is None) == (state.gain is None) == state.ended
        if isinstance(state.optimizer, _Adam):
            yield plan.optimizer == "adam"
            yield state.optimizer.steps == state.step
            yield state.optimizer.moments is not None
        else:
            point = state.optimizer.at
            yield plan.optimizer == "lbfgs"
            yield len(state.optimizer.pairs) <= max(1, plan.history)
            yield point is None or max(point.shortened, point.restarts) <= state.step
        if state.best is not None:
            average = state.best.average
            averages = plan.optimizer == "adam" and options.get("average") is True
            yield (average is not None) == averages
            yield average is None or (average.sum is None) == (average.weight == 0) == fresh
            yield (state.best.image is None) == (state.best.terms is None) == (averages or fresh)
        indices = [index for index, _ in self._rules()]
        yield sorted(indices) == list(range(len(indices)))

    def arrays(self) -> list[ArrayRule]:
        """Rules of the state's arrays, by index."""
        return [rule for _, rule in sorted(self._rules())]

    def _rules(self) -> Iterator[tuple[int, ArrayRule]]:
        state, scale = self.state, self.plan.scales[self.state.scale]
        shape = (1, 3, scale.height, scale.width)
        number, numbers = ArrayRule(()), ArrayRule(shape)
        # Averages and enlarged pictures pass 0 and 1 by a little.
        image = ArrayRule(shape, -1, 2) if self.asked.options.get("clamp") else numbers
        yield state.image.array, image
        if isinstance(state.optimizer, _Adam):
            if state.optimizer.moments is not None:
                mean, square = state.optimizer.moments
                yield mean.array, numbers
                yield square.array, ArrayRule(shape, 0)
        else:
            for step, change, rho in state.optimizer.pairs:
                yield step.array, numbers
                yield change.array, numbers
                yield rho.array, number
            if state.optimizer.gamma is not None:
                yield state.optimizer.gamma.array, number
            if (point := state.optimizer.at) is not None:
                yield point.image.array, image
                yield point.gradient.array, numbers
                yield point.direction.array, numbers
        if state.best is not None:
            if state.best.image is not None:
                yield state.best.image.array, image
            if state.best.average is not None and state.best.average.sum is not None:
                yield state.best.average.sum.array, numbers
