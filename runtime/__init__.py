"""Neural style transfer: pictures in, pictures out.

Names are loaded when they are first used, so that importing this costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nstrt.runtime.batch import (
        Batch,
        BatchEvent,
        Job,
        JobDone,
        JobEvent,
        JobFailed,
        JobProgress,
        JobSkipped,
        JobStarted,
    )
    from nstrt.runtime.compare import Difference, PictureLosses, losses_of
    from nstrt.runtime.estimate import Estimate
    from nstrt.runtime.events import Event, Finished, Preview, ScaleDone, Started, Step
    from nstrt.runtime.explore import Axis, Cell, Exploration, parse_axis
    from nstrt.runtime.extraction import features
    from nstrt.runtime.interrupt import Interrupted
    from nstrt.runtime.joblist import jobs_from
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
    from nstrt.runtime.preview import PreviewFile
    from nstrt.runtime.result import Result
    from nstrt.runtime.run import Run
    from nstrt.runtime.sheets import contact_sheet
    from nstrt.runtime.terms import LossTerms
    from nstrt.runtime.timelapse import Timelapse
    from nstrt.runtime.transfer import StyleTransfer, stylize

_HOMES = {
    "contact_sheet": "sheets",
    "parse_axis": "explore",
    "Exploration": "explore",
    "Cell": "explore",
    "Axis": "explore",
    "losses_of": "compare",
    "PictureLosses": "compare",
    "Difference": "compare",
    "jobs_from": "joblist",
    "JobStarted": "batch",
    "JobSkipped": "batch",
    "JobProgress": "batch",
    "JobFailed": "batch",
    "JobEvent": "batch",
    "JobDone": "batch",
    "Job": "batch",
    "BatchEvent": "batch",
    "Batch": "batch",
    "Timelapse": "timelapse",
    "PreviewFile": "preview",
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
    "Axis",
    "Batch",
    "BatchEvent",
    "Cell",
    "CheckpointError",
    "Difference",
    "Estimate",
    "Event",
    "Exploration",
    "ExportCheckError",
    "Finished",
    "Interrupted",
    "Job",
    "JobDone",
    "JobEvent",
    "JobFailed",
    "JobProgress",
    "JobSkipped",
    "JobStarted",
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
    "PictureLosses",
    "PictureReadError",
    "PictureWriteError",
    "Plan",
    "Preview",
    "PreviewFile",
    "ProviderUnavailableError",
    "Result",
    "Run",
    "Scale",
    "ScaleDone",
    "Started",
    "Step",
    "StyleTransfer",
    "StylizeOptions",
    "Timelapse",
    "TooLargeError",
    "WeightsError",
    "contact_sheet",
    "features",
    "jobs_from",
    "losses_of",
    "parse_axis",
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
