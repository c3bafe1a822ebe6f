"""Specifications of options: type, range, text form and words of each.

Flags, tables, the worker and GIMP's dialog read them; no host states an option's type again.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import GenericAlias, NoneType
from typing import Any, get_args, get_type_hints

from nstrt.runtime.errors import OptionError
from nstrt.runtime.model import check_layer
from nstrt.runtime.system.words import spelled

__all__ = [
    "MAX_WEIGHT",
    "Boolean",
    "Integer",
    "LayerList",
    "LayerWeights",
    "Number",
    "NumberList",
    "OptionSpec",
    "Range",
    "ValueKind",
    "Word",
    "option_field",
    "parse_layers",
    "specs_of",
]

LayerWeights = tuple[tuple[str, float], ...]
"""Layers with the weight of each."""

MAX_WEIGHT = 1e6
"""Largest weight. A larger one leaves no single-precision digits for the other loss terms."""

_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, kw_only=True)
class Range:
    """Bounds of a number; None for no bound."""

    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: float | None = None

    def check(self, subject: str, number: float) -> None:
        """Raise :class:`OptionError`, which names ``subject``, if ``number`` is out of bounds."""
        inside = (
            (self.minimum is None or number >= self.minimum)
            and (self.exclusive_minimum is None or number > self.exclusive_minimum)
            and (self.maximum is None or number <= self.maximum)
        )
        if not inside:
            raise OptionError(f"{subject} must be {self}, not {_format_number(number)}.")

    def __str__(self) -> str:
        """Both bounds, as the object of "must be"."""
        least, most = self.minimum, self.maximum
        if least is not None and most is not None:
            return f"from {_format_number(least)} to {_format_number(most)}"
        bounds = (("at least", least), ("above", self.exclusive_minimum), ("at most", most))
        return " and ".join(
            f"{word} {_format_number(bound)}" for word, bound in bounds if bound is not None
        )


class ValueKind(ABC):
    """A type of option values, with its text form."""

    python_type: Any
    """Type of the option's field, without None."""

    flag_type: type = str
    """Type that the command line parses a flag's argument as."""

    metavar: str | None
    """Placeholder of the argument in the help; None for flags without an argument."""

    requirement: str
    """Requirement on a text of this kind, as the object of "it must be"."""

    def convert(self, value: Any) -> Any:
        """Convert a value from Python or JSON to the field's type, where that is unambiguous."""
        return value

    @abstractmethod
    def check(self, spec: OptionSpec, value: Any) -> None:
        """Raise :class:`OptionError` if ``value`` is not of this kind or out of range."""

    @abstractmethod
    def parse(self, text: str) -> Any:
        """Parse a value; raise ValueError if ``text`` is malformed."""

    def format(self, value: Any) -> str:
        """Format a value so that :meth:`parse` returns an equal one."""
        return str(value)


class Boolean(ValueKind):
    """True or False; ``yes`` or ``no`` as text."""

    python_type = bool
    flag_type = bool
    metavar = None
    requirement = "yes or no"

    def check(self, spec: OptionSpec, value: Any) -> None:
        if not isinstance(value, bool):
            raise OptionError(f"{spec.spelled} must be True or False, not {value!r}.")

    def parse(self, text: str) -> bool:
        if (word := text.lower()) not in _BOOLEANS:
            raise ValueError(text)
        return _BOOLEANS[word]

    def format(self, value: Any) -> str:
        return "yes" if value else "no"


class Number(ValueKind):
    """A finite number."""

    python_type: Any = float
    flag_type: type = float
    metavar: str = "X"
    requirement = "a number"
    accepted_types: tuple[type, ...] = (int, float)

    def check(self, spec: OptionSpec, value: Any) -> None:
        self.check_number(spec.spelled, value, spec.range)

    def check_number(self, subject: str, number: Any, limits: Range) -> None:
        """Raise :class:`OptionError`, which names ``subject``, for another type or a bad value."""
        accepted = isinstance(number, self.accepted_types) and not isinstance(number, bool)
        if not accepted or not math.isfinite(number):
            raise OptionError(f"{subject} must be {self.requirement}, not {number!r}.")
        limits.check(subject, number)

    def parse(self, text: str) -> float:
        return float(text)

    def format(self, value: Any) -> str:
        return _format_float(value) if isinstance(value, float) else str(value)


class Integer(Number):
    """A whole number."""

    python_type = int
    flag_type = int
    metavar = "N"
    requirement = "a whole number"
    accepted_types = (int,)

    def parse(self, text: str) -> int:
        return int(text)


class Word(ValueKind):
    """A text, one of the option's choices if it has any."""

    python_type = str
    metavar = "TEXT"
    requirement = "a word"

    def check(self, spec: OptionSpec, value: Any) -> None:
        if not isinstance(value, str):
            raise OptionError(f"{spec.spelled} must be {self.requirement}, not {value!r}.")
        if spec.choices and value not in spec.choices:
            raise OptionError(
                f"{spec.spelled} cannot be '{value}'; choose {', '.join(spec.choices)}."
            )

    def parse(self, text: str) -> str:
        return text


class NumberList(ValueKind):
    """A tuple of numbers; numbers with commas between them as text."""

    def __init__(self, item: Number, *, accepts_single: bool = False) -> None:
        self.item = item
        self.accepts_single = accepts_single
        self.python_type = GenericAlias(tuple, (item.python_type, ...))
        self.metavar = f"{item.metavar}[,{item.metavar}...]"
        self.requirement = f"{item.requirement}, or several with commas between them"

    def convert(self, value: Any) -> Any:
        if isinstance(value, list):
            return tuple(value)
        return (value,) if self.accepts_single and not isinstance(value, tuple) else value

    def check(self, spec: OptionSpec, value: Any) -> None:
        if not isinstance(value, tuple):
            raise OptionError(f"{spec.spelled} must be a list of numbers, not {value!r}.")
        for number in value:
            self.item.check_number(spec.spelled, number, spec.range)

    def parse(self, text: str) -> tuple[float, ...]:
        return tuple(self.item.parse(part) for part in text.split(","))

    def format(self, value: Any) -> str:
        return ",".join(self.item.format(number) for number in self.convert(value))


class LayerList(ValueKind):
    """Layers with weights; ``relu1_1,relu2_1:0.5`` as text."""

    python_type = LayerWeights
    metavar = "LAYERS"
    requirement = "layers with commas between them"
    weight = Number()
    weight_range = Range(exclusive_minimum=0.0, maximum=MAX_WEIGHT)

    def convert(self, value: Any) -> LayerWeights:
        if isinstance(value, str):
            return parse_layers(value)
        if isinstance(value, Mapping):
            return tuple(value.items())
        return tuple((item, 1.0) if isinstance(item, str) else (item[0], item[1]) for item in value)

    def check(self, spec: OptionSpec, value: Any) -> None:
        for layer, weight in value:
            check_layer(layer)
            subject = f"The weight of {layer} in {spec.spelled}"
            self.weight.check_number(subject, weight, self.weight_range)

    def parse(self, text: str) -> LayerWeights:
        return parse_layers(text)

    def format(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        return ",".join(
            layer if weight == 1 else f"{layer}:{_format_float(weight)}"
            for layer, weight in self.convert(value)
        )


_KINDS: tuple[ValueKind, ...] = (
    Boolean(),
    Integer(),
    Number(),
    Word(),
    NumberList(Integer(), accepts_single=True),
    NumberList(Number()),
    LayerList(),
)


@dataclass(frozen=True, kw_only=True)
class OptionSpec:
    """An option as every host needs it: kind, default, range and words."""

    name: str
    """Name of the field in :class:`StylizeOptions`."""

    kind: ValueKind
    """Type of the values, with its text form."""

    default: Any
    """Value without a preset; None or an empty tuple if the runtime chooses the value."""

    help: str
    """Help text of the command line."""

    group: str
    """Panel of the help."""

    choices: tuple[str, ...] = ()
    """Words that the option takes; empty for any word."""

    file_words: tuple[str, ...] = ()
    """Words that the option takes besides the path of a file; empty if it takes no path."""

    range: Range = Range()
    """Bounds of the number, or of each number in a list."""

    flag_advice: str = ""
    """End of the command line's sentence about a malformed list."""

    @property
    def dashed_name(self) -> str:
        """The name with dashes, as in flags and in GIMP."""
        return self.name.replace("_", "-")

    @property
    def flag(self) -> str:
        """The long flag."""
        return f"--{self.dashed_name}"

    @property
    def spelled(self) -> str:
        """The option in the words of the host, for sentences."""
        return spelled(self.name)

    def convert(self, value: Any) -> Any:
        """Convert a value from Python or JSON to the field's type, where that is unambiguous."""
        return self.kind.convert(value)

    def validate(self, value: Any) -> None:
        """Raise :class:`OptionError` if a value is of another type, no choice or out of range."""
        if value is not None or self.default is not None:
            self.kind.check(self, value)

    def parse(self, text: str, *, advice: str = "") -> Any:
        """Parse a value; :meth:`validate` checks its range.

        Raises :class:`OptionError` for a malformed text; its sentence ends with ``advice``, or
        with the kind's requirement.
        """
        try:
            return self.kind.parse(text)
        except OptionError:
            raise
        except ValueError as error:
            ending = advice or f"it must be {self.kind.requirement}"
            raise OptionError(f"{self.spelled} cannot be '{text}'; {ending}.") from error

    def format(self, value: Any) -> str:
        """Format a value so that :meth:`parse` returns an equal one.

        None and an empty list have no text form.
        """
        return self.kind.format(value)


def option_field(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    exclusive_minimum: float | None = None,
    **facts: Any,
) -> Any:
    """A dataclass field with the arguments of its :class:`OptionSpec` as metadata."""
    bounds = Range(minimum=minimum, maximum=maximum, exclusive_minimum=exclusive_minimum)
    return field(default=default, metadata={"help": help, "range": bounds, **facts})


def specs_of(options: type) -> dict[str, OptionSpec]:
    """The specifications of a dataclass whose fields are made by :func:`option_field`."""
    types = get_type_hints(options)
    return {
        item.name: OptionSpec(
            name=item.name, kind=_kind_of(types[item.name]), default=item.default, **item.metadata
        )
        for item in fields(options)
    }


def parse_layers(text: str) -> LayerWeights:
    """Parse ``relu1_1,relu2_1:0.5``; a layer without a weight has 1.

    Raises :class:`OptionError` for an unknown layer or a malformed weight.
    """
    weights: dict[str, float] = {}
    for part in (part.strip() for part in text.split(",") if part.strip()):
        name, _, weight = part.partition(":")
        try:
            weights[check_layer(name.strip())] = float(weight or 1)
        except ValueError as error:
            if isinstance(error, OptionError):
                raise
            raise OptionError(
                f"'{weight}' is not a weight for {name}; write layers as relu1_1 or relu1_1:0.5, "
                "separated by commas."
            ) from error
    return tuple(weights.items())


def _kind_of(annotation: Any) -> ValueKind:
    """The kind of a field that is annotated with a type, or with a type and None."""
    members = get_args(annotation)
    if NoneType in members:
        (annotation,) = (member for member in members if member is not NoneType)
    return next(kind for kind in _KINDS if kind.python_type == annotation)


def _format_number(number: float) -> str:
    """A bound or a value in digits, without an exponent where it is whole."""
    return str(int(number)) if number == int(number) else f"{number:g}"


def _format_float(number: float) -> str:
    """Six digits, or as many as ``float`` needs to read the same number."""
    text = f"{number:g}"
    return text if float(text) == number else repr(number)
