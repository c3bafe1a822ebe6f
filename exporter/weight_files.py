"""Read VGG19's convolutions from .pth, .safetensors and Keras .h5 files.

Reading a file executes no code. Names and shapes other than VGG19's are refused.
"""

from __future__ import annotations

import io
import math
import pickletools
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nstrt.runtime.errors import NstrtError, WeightsError
from nstrt.runtime.model import LAYERS, MAX_WEIGHTS_BYTES, conv_shapes, layers_through
from nstrt.runtime.system.memory import (
    BUILDING_BYTES,
    import_failure,
    met_limit,
    too_large,
)
from nstrt.runtime.system.regular_file import open_regular

__all__ = [
    "KERAS_SUFFIXES",
    "Convolution",
    "StoredArray",
    "collect_convolutions",
    "keras_name",
    "load_pickle",
    "read_convolutions",
    "stored_tensors",
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


_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_SAFETENSORS_DTYPES = ("F16", "BF16", "F32", "F64")

_MAX_DESCRIPTION = 1 << 20
"""Largest description of the tensors in bytes; that of VGG19 has 2 KiB."""

_PLAIN_PICKLES = 5
"""Pickles at the start of a torch file that is no archive."""

_MAX_LEVELS = 20
"""Most groups around a dataset."""

_MAX_CHUNK = 1 << 26
"""Largest chunk of a dataset in bytes; VGG19's largest convolution has 18 MiB in doubles."""

_DEFLATE, _FILTERS = 1, frozenset([1, 2, 3])
"""HDF5's numbers of its usual filters: deflate, shuffle, checksums."""

_CHECKSUM = 4
"""Bytes that a filter adds to a chunk."""


@dataclass(frozen=True, kw_only=True)
class StoredArray:
    """An array in a file; only its shape has been read."""

    shape: tuple[int, ...]

    read: Callable[[], Tensor]
    """Reads its values."""


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
        return torchvision_convolutions(stored_tensors(load_pickle(path)), path, deepest)
    if suffix == ".safetensors":
        with _opened_safetensors(path) as stored:
            return torchvision_convolutions(stored, path, deepest)
    if suffix in KERAS_SUFFIXES:
        with _opened_keras(path) as stored:
            return _keras_convolutions(stored, path, deepest)
    raise WeightsError(
        f"'{path.name}' is not a kind of weights file that nstrt reads; it reads .pth, "
        ".safetensors and Keras .h5."
    )


def torchvision_convolutions(
    stored: Mapping[str, StoredArray], path: Path, deepest: str
) -> dict[str, Convolution]:
    """Take convolutions named ``features.N.weight`` or ``N.weight``.

    N is the index of torchvision's feature module.
    """

    def lookup(layer: str) -> Convolution:
        number = LAYERS.index(layer)
        prefix = f"features.{number}" if f"features.{number}.weight" in stored else str(number)
        shape = conv_shapes()[layer]
        return Convolution(
            weight=_taken(stored[f"{prefix}.weight"], shape, path, layer),
            bias=_taken(stored[f"{prefix}.bias"], shape[:1], path, layer),
        )

    return collect_convolutions(lookup, path, deepest)


def collect_convolutions(
    lookup: Callable[[str], Convolution], path: Path, deepest: str
) -> dict[str, Convolution]:
    """Look up each convolution up to ``deepest`` and convert it to contiguous float32.

    Raises :class:`WeightsError` for a missing layer, a wrong shape or a value that is not finite.
    """
    result: dict[str, Convolution] = {}
    for layer in layers_through([deepest]):
        if not layer.startswith("conv"):
            continue
        shape = conv_shapes()[layer]
        try:
            found = lookup(layer)
            # Shapes come first: a view of few bytes can be of any size.
            weight = _taken(_stored_tensor(found.weight), shape, path, layer).float()
            bias = _taken(_stored_tensor(found.bias), shape[:1], path, layer).float()
        except (KeyError, IndexError, AttributeError, RuntimeError, TypeError) as error:
            raise WeightsError(
                f"'{path.name}' has no usable weights for VGG19's layer {layer}; it must hold "
                "the feature layers under torchvision's or Keras's names."
            ) from error
        if not (torch.isfinite(weight).all() and torch.isfinite(bias).all()):
            raise WeightsError(f"'{path.name}' holds values that are not numbers in {layer}.")
        result[layer] = Convolution(weight=weight.contiguous(), bias=bias.contiguous())
    return result


def _taken(array: StoredArray, shape: tuple[int, ...], path: Path, layer: str) -> Tensor:
    """Read an array of the right shape. Raises :class:`WeightsError` for another shape."""
    if array.shape != shape:
        raise WeightsError(
            f"'{path.name}' is not VGG19: its {layer} has the shape {array.shape} "
            f"instead of {shape}."
        )
    return array.read()


def stored_tensors(tensors: Mapping[str, Tensor]) -> dict[str, StoredArray]:
    """The tensors among the values of ``tensors`` that can be weights."""
    result: dict[str, StoredArray] = {}
    for name, value in tensors.items():
        with suppress(TypeError):
            result[name] = _stored_tensor(value)
    return result


def _stored_tensor(value: Tensor) -> StoredArray:
    """Raises TypeError for a value that is no dense tensor of floating-point numbers."""
    if (
        not isinstance(value, Tensor)
        or value.is_nested
        or value.layout != torch.strided
        or value.device.type != "cpu"
        or value.dtype not in _DTYPES
    ):
        raise TypeError(f"not a dense tensor: {type(value)}")
    return StoredArray(shape=tuple(value.shape), read=lambda: value)


def keras_name(layer: str) -> str:
    """Return the Keras name of a convolution: ``conv3_2`` is ``block3_conv2``."""
    block, index = layer.removeprefix("conv").split("_")
    return f"block{block}_conv{index}"


def load_pickle(path: Path) -> dict[str, Tensor]:
    """Load the tensors of a torch file without executing code."""
    try:
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch's exceptions for damaged files have no common base.
        raise _failure(path, error) from error
    finally:
        # A load that fails leaves its sparse tensors there, and the next load would judge them.
        getattr(torch._utils, "_sparse_tensors_to_validate", []).clear()
    if isinstance(stored, dict):
        stored = stored.get("state_dict", stored)
    if not isinstance(stored, dict):
        raise WeightsError(f"'{path.name}' holds no named weights.")
    return stored


def _check_archive(path: Path) -> None:
    """Raise ValueError for data or a description of more bytes than an honest file has.

    torch compresses nothing; older torch files are no archives.
    """
    with open(path, "rb") as file:
        start = file.read(_MAX_DESCRIPTION)
        if start[:4] != b"PK\3\4":
            _check_pickles(start, _PLAIN_PICKLES)
            return
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > path.stat().st_size or any(
                entry.compress_type != zipfile.ZIP_STORED for entry in entries
            ):
                raise ValueError("a member larger than the file")
            for entry in entries:
                if entry.filename.lower().endswith(".pkl"):
                    if entry.file_size > _MAX_DESCRIPTION:
                        raise ValueError("a large description")
                    _check_pickles(archive.read(entry), 1)


def _check_pickles(content: bytes, count: int) -> None:
    """Raise ValueError if so many pickles do not end, or make an array of any number of bytes."""
    stream = io.BytesIO(content)
    for _ in range(count):
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "GLOBAL" and str(argument).endswith("bytearray"):
                raise ValueError("an array of bytes")


@contextmanager
def _opened_safetensors(path: Path) -> Iterator[dict[str, StoredArray]]:
    try:
        import safetensors
    except ImportError as error:
        raise import_failure(
            error,
            "These weights need the package safetensors; install it with: "
            'pip install "nstrt[full]"',
        ) from error
    with _reported(path), open(path, "rb") as start:
        if int.from_bytes(start.read(8), "little") > _MAX_DESCRIPTION:
            raise ValueError("a description of that size")
    with _reported(path), safetensors.safe_open(path, framework="pt") as file:
        yield {
            name: StoredArray(
                shape=tuple(file.get_slice(name).get_shape()), read=partial(file.get_tensor, name)
            )
            for name in file.keys()  # noqa: SIM118 - the file is no mapping
            if file.get_slice(name).get_dtype() in _SAFETENSORS_DTYPES
        }


@contextmanager
def _opened_keras(path: Path) -> Iterator[dict[str, StoredArray]]:
    """Datasets of floating-point numbers that lie in the file itself."""
    try:
        import h5py
    except ImportError as error:
        raise import_failure(
            error, 'Keras weights need the package h5py; install it with: pip install "nstrt[full]"'
        ) from error
    stored: dict[str, StoredArray] = {}

    def add(name: str, item: Any) -> None:
        if name.count("/") > _MAX_LEVELS:
            raise ValueError("too many levels")
        if isinstance(item, h5py.Dataset) and item.dtype.kind == "f" and item.shape is not None:
            stored[name] = StoredArray(shape=item.shape, read=partial(_read_dataset, item))

    # visititems follows neither soft nor external links.
    with _reported(path), h5py.File(path, "r") as file:
        file.visititems(add)
        yield stored


def _read_dataset(dataset: Any) -> Tensor:
    """Raises ValueError for data in other files, and for chunks larger than any dataset of VGG19.

    A dataset of no bytes may have chunks of any size.
    """
    chunk = math.prod(dataset.chunks or (0,)) * dataset.dtype.itemsize
    if dataset.external or dataset.is_virtual or chunk > _MAX_CHUNK:
        raise ValueError("not data of this file")
    _check_filters(dataset.id, chunk)
    with np.errstate(over="ignore"):
        return torch.from_numpy(np.asarray(dataset[()], np.float32))


def _check_filters(dataset: Any, chunk: int) -> None:
    """Raise ValueError for a chunk that holds more than its ``chunk`` bytes.

    HDF5 inflates all of it.
    """
    pipeline = dataset.get_create_plist()
    filters = [pipeline.get_filter(place)[0] for place in range(pipeline.get_nfilters())]
    if not _FILTERS.issuperset(filters) or filters.count(_DEFLATE) > 1:
        raise ValueError("unusual filters")
    if _DEFLATE not in filters:
        return
    most = chunk + _CHECKSUM
    for number in range(dataset.get_num_chunks()):
        place = dataset.get_chunk_info(number).chunk_offset
        _, stored = dataset.read_direct_chunk(place)
        if len(zlib.decompressobj().decompress(stored, most + 1)) > most:
            raise ValueError("a chunk of more bytes")


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Turn errors of the block into one :class:`WeightsError`."""
    try:
        yield
    except WeightsError:
        raise
    except Exception as error:
        # The exceptions of h5py and safetensors for damaged files have no common base.
        raise _failure(path, error) from error


def _keras_convolutions(
    stored: Mapping[str, StoredArray], path: Path, deepest: str
) -> dict[str, Convolution]:
    """Take convolutions named ``blockB_convC/...kernel:0`` or ``..._W_1:0``.

    Keras stores weights as height x width x input channels x output channels.
    """

    def lookup(layer: str) -> Convolution:
        block = re.escape(keras_name(layer))
        shape = conv_shapes()[layer]
        kernel = _match(stored, rf"(^|/){block}/.*(kernel(:0)?|_W(_1)?(:0)?)$")
        bias = _match(stored, rf"(^|/){block}/.*(bias(:0)?|_b(_1)?(:0)?)$")
        kernel_shape = (*shape[2:], shape[1], shape[0])
        return Convolution(
            weight=_taken(kernel, kernel_shape, path, layer).permute(3, 2, 0, 1).contiguous(),
            bias=_taken(bias, shape[:1], path, layer),
        )

    return collect_convolutions(lookup, path, deepest)


def _match(stored: Mapping[str, StoredArray], pattern: str) -> StoredArray:
    for name, array in stored.items():
        if re.search(pattern, name):
            return array
    raise KeyError(pattern)


def _failure(path: Path, error: Exception) -> NstrtError:
    """The error for a file that cannot be loaded."""
    if met_limit(error):
        return too_large("Building the network's model", BUILDING_BYTES)
    return WeightsError(
        f"The weights file '{path.name}' is damaged, truncated or of another kind than its name "
        "says; fetch it again."
    )
