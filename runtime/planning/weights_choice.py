"""Choice of the network: its weights and its model file."""

from __future__ import annotations

from dataclasses import replace

from nstrt.runtime.errors import WeightsError
from nstrt.runtime.model import ModelSpec, ModelStore
from nstrt.runtime.options.options import StylizeOptions

__all__ = ["choose_weights", "spec_for"]


def choose_weights(
    options: StylizeOptions, store: ModelStore, engine: str = "onnx"
) -> tuple[StylizeOptions, str]:
    """The options with weights that are available for ``engine``.

    The second value is a reason where ``auto`` could not take its first choice.
    """
    if options.weights != "auto":
        return options, ""
    try:
        chosen = replace(options, weights="torchvision")
        store.obtain(spec_for(chosen, engine))
    except WeightsError:
        reason = "torchvision's weights are not to be had here; using oxford instead"
        return replace(options, weights="oxford"), reason
    return chosen, ""


def spec_for(options: StylizeOptions, engine: str) -> ModelSpec:
    """Specification of the model that ``engine`` reads."""
    return options.step_spec if engine == "graph" else options.spec
