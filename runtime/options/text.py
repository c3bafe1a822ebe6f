"""Options as text: from a table's cell or a list on a command line, and back as flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from nstrt.runtime.errors import OptionError
from nstrt.runtime.options.options import StylizeOptions

__all__ = ["flags_of", "option_name", "read_option"]

_KINDS = {item.name: str(item.type) for item in fields(StylizeOptions)}
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def option_name(text: str) -> str:
    """The field that ``style-scale``, ``--style-scale`` or ``style_scale`` names."""
    name = text.strip().removeprefix("--").replace("-", "_")
    if name not in _KINDS:
        near = get_close_matches(name, _KINDS, n=1)
        hint = f"; did you mean '{near[0].replace('_', '-')}'?" if near else "."
        raise OptionError(f"There is no option '{text.strip()}'{hint}")
    return name


def read_option(name: str, text: str) -> Any:
    """The value that ``text`` gives a field; its range is :class:`StylizeOptions`' to check."""
    kind, text = _KINDS[name], text.strip()
    flag = "--" + name.replace("_", "-")
    try:
        if kind == "bool":
            return _WORDS[text.lower()]
        if kind.startswith("int"):
            return int(text)
        if kind.startswith("float"):
            return float(text)
        if kind.startswith("tuple"):
            return tuple(int(part) for part in text.split(","))
    except (KeyError, ValueError) as error:
        wanted = {"b": "yes or no", "f": "a number", "i": "a whole number"}
        needs = wanted.get(kind[0], "a whole number, or several with commas between them")
        raise OptionError(f"{flag} cannot be '{text}'; it must be {needs}.") from error
    return text


def flags_of(values: Mapping[str, Any]) -> list[str]:
    """Fields and their values as the words of a command line."""
    words: list[str] = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None and value != ():
            words += [f"--{flag}", _text(value)]
    return words


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        value = tuple(value.items())
    if isinstance(value, tuple | list):
        return ",".join(_part(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _part(part: Any) -> str:
    if isinstance(part, tuple):
        layer, weight = part
        return layer if weight == 1 else f"{layer}:{weight:g}"
    return str(part)
