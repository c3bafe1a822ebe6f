"""Neural style transfer: pictures in, pictures out.

Names are loaded when they are first used, so that importing this costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nstrt.runtime.estimate import Estimate
    from nstrt.runtime.events import Event, Finished, Preview, ScaleDone, Started, Step
    from nstrt.runtime.extraction import features
    from nstrt.runtime.interrupt import Interrupted
    from nstrt.runtime.model import (
        CheckpointError,
        ExportCheckError,
        LayerNameError,
        ModelBuilderMissingError,
        ModelFileError,
        ModelSpec,
        ModelStore,
        NstrtError,
        OptionError,
        OutputExistsError,
        PackageMissingError,
        PictureReadError,
        PictureWriteError,
        ProviderUnavailableError,
        TooLargeError,
        WeightsError,
    )
    from nstrt.runtime.options import PRESETS, StylizeOptions
    from nstrt.runtime.pictures import Picture, read_recipe
    from nstrt.runtime.plan import Plan, Scale
    from nstrt.runtime.result import Result
    from nstrt.runtime.run import Run
    from nstrt.runtime.terms import LossTerms
    from nstrt.runtime.transfer import StyleTransfer, stylize

_HOMES = {
    "WeightsError": "model",
    "TooLargeError": "model",
    "ProviderUnavailableError": "model",
    "PictureWriteError": "model",
    "PictureReadError": "model",
    "PackageMissingError": "model",
    "OutputExistsError": "model",
    "OptionError": "model",
    "ModelFileError": "model",
    "ModelBuilderMissingError": "model",
    "LayerNameError": "model",
    "ExportCheckError": "model",
    "CheckpointError": "model",
    "Estimate": "estimate",
    "Interrupted": "interrupt",
    "Event": "events",
    "Finished": "events",
    "LossTerms": "terms",
    "ModelSpec": "model",
    "ModelStore": "model",
    "NstrtError": "model",
    "PRESETS": "options",
    "Picture": "pictures",
    "Plan": "plan",
    "Preview": "events",
    "Result": "result",
    "Run": "run",
    "Scale": "plan",
    "ScaleDone": "events",
    "Started": "events",
    "Step": "events",
    "StyleTransfer": "transfer",
    "StylizeOptions": "options",
    "features": "extraction",
    "read_recipe": "pictures",
    "stylize": "transfer",
}

__all__ = [
    "PRESETS",
    "CheckpointError",
    "Estimate",
    "Event",
    "ExportCheckError",
    "Finished",
    "Interrupted",
    "LayerNameError",
    "LossTerms",
    "ModelBuilderMissingError",
    "ModelFileError",
    "ModelSpec",
    "ModelStore",
    "NstrtError",
    "OptionError",
    "OutputExistsError",
    "PackageMissingError",
    "Picture",
    "PictureReadError",
    "PictureWriteError",
    "Plan",
    "Preview",
    "ProviderUnavailableError",
    "Result",
    "Run",
    "Scale",
    "ScaleDone",
    "Started",
    "Step",
    "StyleTransfer",
    "StylizeOptions",
    "TooLargeError",
    "WeightsError",
    "features",
    "read_recipe",
    "stylize",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nstrt.runtime' has no attribute '{name}'")
    value = getattr(import_module(f"nstrt.runtime.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
