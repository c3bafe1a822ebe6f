"""Store measurements of this machine in the cache folder."""

from __future__ import annotations

import json
from typing import Any

from nstrt.runtime.system.files import cache_folder, remove_stale_temporaries, write_atomically

__all__ = ["load_measurements", "store_measurement"]


def load_measurements(name: str) -> dict[str, Any]:
    """Load the measurements of ``name`` by key; empty if the file is missing or damaged."""
    try:
        content = json.loads((cache_folder() / f"{name}.json").read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def store_measurement(name: str, key: str, value: Any) -> None:
    """Store a measurement; a folder that is not writable is ignored."""
    path = cache_folder() / f"{name}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_stale_temporaries(path.parent)
        write_atomically(
            path, json.dumps({**load_measurements(name), key: value}, indent=1).encode()
        )
    except OSError:
        pass
