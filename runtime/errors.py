"""Errors that users can cause; each message is one sentence that says what to do.

NstrtError
  x OptionError
    . LayerNameError
  x PictureReadError
  x PictureWriteError
    . OutputExistsError
  x CheckpointError
  x TooLargeError
  x ModelFileError
    . ModelBuilderMissingError
  x ExportCheckError
  x ForkedProcessError
  x WeightsError
  x ProviderUnavailableError
  x PackageMissingError
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "CheckpointError",
    "ExportCheckError",
    "ForkedProcessError",
    "LayerNameError",
    "ModelBuilderMissingError",
    "ModelFileError",
    "NstrtError",
    "OptionError",
    "OutputExistsError",
    "PackageMissingError",
    "PictureReadError",
    "PictureWriteError",
    "ProviderUnavailableError",
    "TooLargeError",
    "WeightsError",
]


class NstrtError(Exception):
    """Base class of all errors; the message is one sentence for the user."""

    code: ClassVar[str]
    """Error code for other programs, see ``docs/worker.md``."""


class OptionError(NstrtError, ValueError):
    """An option has an invalid value."""

    code = "option"


class LayerNameError(OptionError):
    """The network has no layer of this name."""


class PictureReadError(NstrtError):
    """A picture cannot be read, or its content is not usable."""

    code = "picture"


class PictureWriteError(NstrtError):
    """A result cannot be written to its path."""

    code = "picture"


class OutputExistsError(PictureWriteError):
    """The result file exists, and overwriting is not allowed."""


class CheckpointError(NstrtError):
    """A checkpoint is damaged, belongs to another run or cannot be resumed on this machine."""

    code = "option"


class TooLargeError(NstrtError):
    """The work does not fit into this machine's memory."""

    code = "too-large"


class ModelFileError(NstrtError):
    """A model file is missing, damaged or of another version and cannot be rebuilt."""

    code = "model"


class ModelBuilderMissingError(ModelFileError):
    """A model must be built, but no exporter is installed."""


class ExportCheckError(NstrtError):
    """An exported model differs from its reference network."""

    code = "model"


class ForkedProcessError(NstrtError):
    """This process was forked from one in which nstrt had worked."""

    code = "process"


class WeightsError(NstrtError):
    """Weights are missing, damaged or not VGG19's."""

    code = "weights"


class ProviderUnavailableError(NstrtError):
    """The requested provider or precision cannot run on this machine."""

    code = "provider"


class PackageMissingError(NstrtError):
    """A required package is not installed."""

    code = "package"
