"""Options as text: parsed from tables and axes, formatted as flags."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from nstrt.runtime.errors import OptionError
from nstrt.runtime.options.options import OPTIONS
from nstrt.runtime.options.spec import LayerList

__all__ = ["format_flags", "option_name", "parse_option"]


def option_name(text: str) -> str:
    """The field that ``style-scale``, ``--style-scale`` or ``style_scale`` names.

    Raises :class:`OptionError` for an unknown name.
    """
    name = text.strip().removeprefix("--").replace("-", "_")
    if name not in OPTIONS:
        near = get_close_matches(name, OPTIONS, n=1)
        hint = f"; did you mean '{near[0].replace('_', '-')}'?" if near else "."
        raise OptionError(f"There is no option '{text.strip()}'{hint}")
    return name


def parse_option(name: str, text: str) -> Any:
    """Parse a field's value for :meth:`StylizeOptions.of`, which checks its range.

    Raises :class:`OptionError` for a malformed text.
    """
    spec, text = OPTIONS[name], text.strip()
    # Contact sheets and JSON show layers as they were written.
    return text if isinstance(spec.kind, LayerList) else spec.parse(text)


def format_flags(values: Mapping[str, Any]) -> list[str]:
    """Format fields and their values as arguments of the command line.

    Values that the runtime chooses, None and empty tuples, have no flag.
    """
    arguments: list[str] = []
    for name, value in values.items():
        spec = OPTIONS[name]
        if isinstance(value, bool):
            arguments.append(spec.flag if value else f"--no-{spec.dashed_name}")
        elif value is not None and value != ():
            arguments += [spec.flag, spec.format(value)]
    return arguments
