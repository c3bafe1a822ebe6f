"""The errors people can cause: each is one plain sentence that says what to do."""

from __future__ import annotations

__all__ = [
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


class OptionError(NstrtError, ValueError):
    """An option has a value that cannot be used."""


class LayerNameError(OptionError):
    """A layer name that the network does not have."""


class PictureReadError(NstrtError):
    """A picture file that cannot be read, or holds nothing that can be used."""


class PictureWriteError(NstrtError):
    """A result that cannot be written where it was asked for."""


class OutputExistsError(PictureWriteError):
    """The result file exists already and was not to be overwritten."""


class TooLargeError(NstrtError):
    """Work that does not fit in this machine's memory."""


class ModelFileError(NstrtError):
    """A model file that is missing, damaged or of another version, and could not be rebuilt."""


class ModelBuilderMissingError(ModelFileError):
    """A model has to be built, and no exporter is installed to build it."""


class ExportCheckError(NstrtError):
    """An exported model that does not agree with the network it was made from."""


class WeightsError(NstrtError):
    """Weights that are missing, damaged or not VGG19's."""


class ProviderUnavailableError(NstrtError):
    """A processor, provider or precision that was asked for and cannot run here."""


class PackageMissingError(NstrtError):
    """A part of nstrt that needs a package which is not installed."""
