"""The errors people can cause: each is one plain sentence that says what to do."""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "CheckpointError",
    "ExportCheckError",
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
    """What nstrt refuses or cannot do, in one sentence meant for the person who asked."""

    code: ClassVar[str]
    """What other programs know the kind by: see ``docs/worker.md``. Each kind has one."""


class OptionError(NstrtError, ValueError):
    """An option has a value that cannot be used."""

    code = "option"


class LayerNameError(OptionError):
    """A layer name that the network does not have."""


class PictureReadError(NstrtError):
    """A picture file that cannot be read, or holds nothing that can be used."""

    code = "picture"


class PictureWriteError(NstrtError):
    """A result that cannot be written where it was asked for."""

    code = "picture"


class OutputExistsError(PictureWriteError):
    """The result file exists already and was not to be overwritten."""


class CheckpointError(NstrtError):
    """A checkpoint that is damaged, of another run, or cannot be gone on from here."""

    code = "option"


class TooLargeError(NstrtError):
    """Work that does not fit in this machine's memory."""

    code = "too-large"


class ModelFileError(NstrtError):
    """A model file that is missing, damaged or of another version, and could not be rebuilt."""

    code = "model"


class ModelBuilderMissingError(ModelFileError):
    """A model has to be built, and no exporter is installed to build it."""


class ExportCheckError(NstrtError):
    """An exported model that does not agree with the network it was made from."""

    code = "model"


class WeightsError(NstrtError):
    """Weights that are missing, damaged or not VGG19's."""

    code = "weights"


class ProviderUnavailableError(NstrtError):
    """A processor, provider or precision that was asked for and cannot run here."""

    code = "provider"


class PackageMissingError(NstrtError):
    """A part of nstrt that needs a package which is not installed."""

    code = "package"
