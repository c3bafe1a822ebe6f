"""What would run here: versions, providers that really load, devices, models."""

from __future__ import annotations

import platform
from typing import Any

from nstrt.runtime.machine import (
    available_memory,
    default_threads,
    device_name,
    processor,
    versions,
)
from nstrt.runtime.model import ModelStore, cache_folder
from nstrt.runtime.plan import default_size
from nstrt.runtime.planner import serves
from nstrt.runtime.providers import PROVIDERS, choose_provider, loads

__all__ = ["describe"]


def describe() -> dict[str, Any]:
    """Facts about this machine and installation, as plain values."""
    choice = choose_provider("auto", serves)
    store = ModelStore()
    return {
        "versions": {
            **versions(),
            "python": platform.python_version(),
            "system": platform.platform(),
        },
        "providers": {
            name: "runs (a session was made)" if loads(name) else "not here"
            for name in PROVIDERS
            if name != "auto"
        },
        "would_run": {
            "provider": choice.provider,
            "device": device_name(choice.provider),
            "default_size": default_size(choice.provider),
        },
        "processor": {
            "name": processor(),
            "threads": default_threads(),
            "free_memory": f"{available_memory() / 1e9:.1f} GB",
        },
        "models": {
            "folder": str(cache_folder() / "models"),
            "files": [model.path.name for model in store.list()],
        },
    }
