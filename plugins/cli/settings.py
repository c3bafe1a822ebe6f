"""Settings of a run that differ from the defaults, in words and as flags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nstrt.runtime.options.options import MACHINE, OPTIONS, StylizeOptions
from nstrt.runtime.options.presets import PRESETS

__all__ = ["changed_values", "settings_of"]


def changed_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of options that differ from their preset's.

    ``values`` may come from a recipe of another version: names and presets that this one does not
    have are left out.
    """
    preset = values.get("preset")
    usual = StylizeOptions.of(str(preset)) if preset in PRESETS else StylizeOptions.of()
    changed = {}
    for name, spec in OPTIONS.items():
        if name not in values:
            continue
        value = None if values[name] is None else spec.convert(_frozen(values[name]))
        default = spec.default if name == "preset" else getattr(usual, name)
        if value != default and value is not None:
            changed[name] = value
    return changed


def settings_of(values: Mapping[str, Any]) -> list[str]:
    """The changed values that make the picture, such as "strength 0.7", without the machine's."""
    return [
        _words(name, value)
        for name, value in changed_values(values).items()
        if OPTIONS[name].group != MACHINE
    ]


def _words(name: str, value: Any) -> str:
    words = name.replace("_", " ")
    if isinstance(value, bool):
        return words if value else f"no {words}"
    return f"{words} {OPTIONS[name].format(value)}"


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
