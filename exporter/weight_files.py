"""Read VGG19's convolutions from .pth, .safetensors and Keras .h5 files.

Reading a file executes no code. Names and shapes other than VGG19's are refused.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nstrt.runtime.errors import WeightsError
from nstrt.runtime.model import LAYERS, MAX_WEIGHTS_BYTES, conv_shapes, layers_through
from nstrt.runtime.system.memory import import_failure
from nstrt.runtime.system.regular_file import open_regular

__all__ = [
    "KERAS_SUFFIXES",
    "Convolution",
    "collect_convolutions",
    "keras_name",
    "load_pickle",
    "read_convolutions",
    "torchvision_convolutions",
]

KERAS_SUFFIXES = (".h5", ".hdf5")


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """Parameters of one convolution."""

    weight: Tensor
    """Output channels x input channels x 3 x 3."""

    bias: Tensor
    """One value for each output channel."""


def read_convolutions(path: Path, deepest: str) -> dict[str, Convolution]:
    """Read the convolutions up to ``deepest`` from a file; its suffix selects the format.

    Raises :class:`WeightsError` for a missing, damaged or unknown file and
    :class:`PackageMissingError` if the format's package is not installed.
    """
    try:
        # The libraries open the file by its name, which may block for a pipe.
        open_regular(path, limit=MAX_WEIGHTS_BYTES).close()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise WeightsError(
            f"There is no weights file '{path}'; give 'oxford', 'torchvision' or the path of a "
            ".pth, .safetensors or .h5 file."
        ) from error
    except OSError as error:
        raise WeightsError(
            f"The weights file '{path}' cannot be read ({error.strerror}); give the path of a "
            ".pth, .safetensors or .h5 file."
        ) from error
    suffix = path.suffix.lower()
    if suffix in (".pth", ".pt"):
        return torchvision_convolutions(load_pickle(path), path, deepest)
    if suffix == ".safetensors":
        return torchvision_convolutions(_load_safetensors(path), path, deepest)
    if suffix in KERAS_SUFFIXES:
        return _keras_convolutions(_load_keras(path), path, deepest)
    raise WeightsError(
        f"'{path.name}' is not a kind of weights file that nstrt reads; it reads .pth, "
        ".safetensors and Keras .h5."
    )


def torchvision_convolutions(
    stored: Mapping[str, Tensor], path: Path, deepest: str
) -> dict[str, Convolution]:
    """Take convolutions named ``features.N.weight`` or ``N.weight``.

    N is the index of torchvision's feature module.
    """

    def lookup(layer: str) -> Convolution:
        number = LAYERS.index(layer)
        prefix = f"features.{number}" if f"features.{number}.weight" in stored else str(number)
        return Convolution(weight=stored[f"{prefix}.weight"], bias=stored[f"{prefix}.bias"])

    return collect_convolutions(lookup, path, deepest)


def collect_convolutions(
    lookup: Callable[[str], Convolution], path: Path, deepest: str
) -> dict[str, Convolution]:
    """Look up each convolution up to ``deepest`` and convert it to contiguous float32.

    Raises :class:`WeightsError` for a missing layer, a wrong shape or a value that is not finite.
    """
    shapes = conv_shapes()
    result: dict[str, Convolution] = {}
    for layer in layers_through([deepest]):
        if not layer.startswith("conv"):
            continue
        try:
            stored = lookup(layer)
            weight, bias = stored.weight.float(), stored.bias.float()
        except (KeyError, IndexError, AttributeError, RuntimeError, TypeError) as error:
            raise WeightsError(
                f"'{path.name}' has no usable weights for VGG19's layer {layer}; it must hold "
                "the feature layers under torchvision's or Keras's names."
            ) from error
        if tuple(weight.shape) != shapes[layer] or bias.shape != weight.shape[:1]:
            raise WeightsError(
                f"'{path.name}' is not VGG19: its {layer} has the shape {tuple(weight.shape)} "
                f"instead of {shapes[layer]}."
            )
        if not (torch.isfinite(weight).all() and torch.isfinite(bias).all()):
            raise WeightsError(f"'{path.name}' holds values that are not numbers in {layer}.")
        result[layer] = Convolution(weight=weight.contiguous(), bias=bias.contiguous())
    return result


def keras_name(layer: str) -> str:
    """Return the Keras name of a convolution: ``conv3_2`` is ``block3_conv2``."""
    block, index = layer.removeprefix("conv").split("_")
    return f"block{block}_conv{index}"


def load_pickle(path: Path) -> dict[str, Tensor]:
    """Load the tensors of a torch file without executing code."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch's exceptions for damaged files have no common base.
        raise _damaged(path) from error
    if not isinstance(stored, dict):
        raise WeightsError(f"'{path.name}' holds no named weights.")
    tensors: dict[str, Tensor] = stored.get("state_dict", stored)
    return tensors


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        import safetensors
        import safetensors.torch
    except ImportError as error:
        raise import_failure(
            error,
            "These weights need the package safetensors; install it with: "
            'pip install "nstrt[full]"',
        ) from error
    try:
        return dict(safetensors.torch.load_file(path))
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _damaged(path) from error


def _load_keras(path: Path) -> dict[str, Tensor]:
    try:
        import h5py
    except ImportError as error:
        raise import_failure(
            error, 'Keras weights need the package h5py; install it with: pip install "nstrt[full]"'
        ) from error
    try:
        with h5py.File(path, "r") as file:
            stored: dict[str, Tensor] = {}
            file.visititems(
                lambda name, item: (
                    stored.update({name: torch.from_numpy(item[()])})
                    if isinstance(item, h5py.Dataset) and item.dtype.kind == "f"
                    else None
                )
            )
    except Exception as error:
        # h5py's exceptions for damaged files have no common base.
        raise _damaged(path) from error
    return stored


def _keras_convolutions(
    stored: Mapping[str, Tensor], path: Path, deepest: str
) -> dict[str, Convolution]:
    """Take convolutions named ``blockB_convC/...kernel:0`` or ``..._W_1:0``.

    Keras stores weights as height x width x input channels x output channels.
    """

    def lookup(layer: str) -> Convolution:
        block = re.escape(keras_name(layer))
        kernel = _match(stored, rf"(^|/){block}/.*(kernel(:0)?|_W(_1)?(:0)?)$")
        bias = _match(stored, rf"(^|/){block}/.*(bias(:0)?|_b(_1)?(:0)?)$")
        return Convolution(weight=kernel.permute(3, 2, 0, 1).contiguous(), bias=bias)

    return collect_convolutions(lookup, path, deepest)


def _match(stored: Mapping[str, Tensor], pattern: str) -> Tensor:
    for name, tensor in stored.items():
        if re.search(pattern, name):
            return tensor
    raise KeyError(pattern)


def _damaged(path: Path) -> WeightsError:
    return WeightsError(
        f"The weights file '{path.name}' is damaged, truncated or of another kind than its name "
        "says; fetch it again."
    )
