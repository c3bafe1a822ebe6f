"""System report: versions, working providers, the default device and the model files."""

from __future__ import annotations

import platform
from importlib.util import find_spec
from typing import Any

from nstrt.runtime.errors import NstrtError
from nstrt.runtime.kernels.compiled import uncached_reason
from nstrt.runtime.model import ModelStore
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.ort.providers import PROVIDERS, choose_provider, is_available
from nstrt.runtime.ort.session import Session, inference_session
from nstrt.runtime.planning.plan import default_size
from nstrt.runtime.planning.provider_choice import provider_serves
from nstrt.runtime.system.files import cache_folder
from nstrt.runtime.system.host import (
    default_threads,
    device_name,
    processor_name,
    versions,
)
from nstrt.runtime.system.memory import available_memory

__all__ = ["describe"]


def describe() -> dict[str, Any]:
    """The report on this machine and installation, as plain values for JSON."""
    choice = choose_provider("auto", provider_serves)
    store = ModelStore()
    return {
        "versions": {
            **versions(),
            "python": platform.python_version(),
            "system": platform.platform(),
        },
        "providers": {
            name: "runs (a session was made)" if is_available(name) else "not here"
            for name in PROVIDERS
            if name != "auto"
        },
        "would_run": {
            "provider": choice.provider,
            "device": device_name(choice.provider),
            "default_size": default_size(choice.provider),
        },
        "nodes": _nodes(store, choice.provider),
        "processor": {
            "name": processor_name(),
            "threads": default_threads(),
            "free_memory": f"{available_memory() / 1e9:.1f} GB",
        },
        "compiled_loops": _compiled_loops(),
        "models": {
            "folder": str(cache_folder() / "models"),
            "files": [model.path.name for model in store.list()],
        },
    }


def _compiled_loops() -> str:
    """Where the loops that Numba compiles are cached."""
    if not find_spec("numba"):
        return "left out: Numba is not installed"
    if reason := uncached_reason():
        return f"compiled for each run: {cache_folder() / 'compiled'} cannot be written ({reason})"
    return f"cached in {cache_folder() / 'compiled'}"


def _nodes(store: ModelStore, provider: str) -> dict[str, str]:
    """Counts of nodes per provider, as ONNX Runtime reports them, for each stored default model."""
    options = StylizeOptions.of()
    placements: dict[str, str] = {}
    for spec in (options.spec, options.step_spec):
        model = store.find(spec)
        if model is None:
            continue
        try:
            session = Session(inference_session(model.path, provider=provider), provider)
        except NstrtError as error:
            placements[spec.variant] = str(error)
        else:
            counts = session.nodes_by_provider()
            placements[spec.variant] = ", ".join(f"{n} on {name}" for name, n in counts.items())
    return placements
