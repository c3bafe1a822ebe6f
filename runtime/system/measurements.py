"""What was measured on this machine, kept in the cache from one run to the next."""

from __future__ import annotations

import json
from typing import Any

from nstrt.runtime.system.files import cache_folder, write_whole

__all__ = ["load_measurements", "store_measurement"]


def load_measurements(name: str) -> dict[str, Any]:
    """All that is kept under ``name``, by key; nothing where there is none that can be read."""
    try:
        content = json.loads((cache_folder() / f"{name}.json").read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def store_measurement(name: str, key: str, value: Any) -> None:
    """Keep a value. In a folder that cannot be written it is measured again another time."""
    path = cache_folder() / f"{name}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps({**load_measurements(name), key: value}, indent=1).encode())
    except OSError:
        pass
