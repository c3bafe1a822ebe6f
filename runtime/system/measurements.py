"""Store measurements of this machine in the cache folder: durations in seconds.

The files may be damaged; what is no measurement is left out and measured again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nstrt.runtime.system.files import cache_folder, remove_stale_temporaries, write_atomically
from nstrt.runtime.system.json_file import read_json
from nstrt.runtime.system.trust import make_folder

__all__ = ["load_measurements", "repair_measurements", "store_measurement"]

_LIMIT = 4 << 20
"""Bytes of a file; tens of thousands of measurements fit."""

_LONGEST = 1e9
"""More seconds than any measurement takes."""


def load_measurements(name: str) -> dict[str, Any]:
    """Load the measurements of ``name`` by key, without those that are damaged."""
    return _load(name)[0]


def store_measurement(name: str, key: str, value: Any) -> None:
    """Store a measurement; a folder that is not writable is ignored."""
    # A clock that stood still has measured nothing.
    if _KINDS[name](value):
        _write(name, {**load_measurements(name), key: value})


def repair_measurements(notify: Callable[[str], None]) -> None:
    """Rewrite damaged files without what is damaged; ``notify`` gets a sentence for each."""
    for name in _KINDS:
        measurements, is_damaged = _load(name)
        if not is_damaged:
            continue
        repaired = _write(name, measurements)
        advice = "they are made again" if repaired else "they are left out, delete the file"
        notify(f"Measurements in '{_path(name)}' are damaged; {advice}.")


def _path(name: str) -> Path:
    return cache_folder() / f"{name}.json"


def _load(name: str) -> tuple[dict[str, Any], bool]:
    """The measurements of a file, and true if it has others or cannot be read."""
    path, is_valid = _path(name), _KINDS[name]
    try:
        content = read_json(path, limit=_LIMIT)
    except (OSError, ValueError):
        return {}, os.path.lexists(path)
    if not isinstance(content, dict):
        return {}, True
    valid = {key: value for key, value in content.items() if is_valid(value)}
    return valid, len(valid) < len(content)


def _write(name: str, measurements: Mapping[str, Any]) -> bool:
    """Write a file; false if that fails."""
    path = _path(name)
    try:
        make_folder(path.parent)
        remove_stale_temporaries(path.parent)
        if path.is_dir() and not path.is_symlink():
            # Everything in a cache may be deleted at any time.
            shutil.rmtree(path)
        write_atomically(path, json.dumps(measurements, indent=1).encode())
    except OSError:
        return False
    return True


def _is_duration(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 0 < value < _LONGEST


def _is_table(value: object) -> bool:
    """True for the durations of several candidates by name."""
    return isinstance(value, dict) and bool(value) and all(map(_is_duration, value.values()))


_KINDS: Mapping[str, Callable[[object], bool]] = {
    "kernels": _is_table,
    "paces": _is_duration,
    "steps": _is_table,
}
"""Files by name, and what their measurements are."""
