"""Choice and settings of ONNX Runtime's execution providers.

``onnxruntime.get_available_providers`` lists the providers of a build, not those that run. It lists
CUDA without its libraries, and a session for it then runs on the CPU without an error. A provider
counts as available once a session on it was made (:func:`is_available`). The choices are pure
functions, so tests of them need no hardware.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from nstrt.runtime.errors import ProviderUnavailableError
from nstrt.runtime.system.memory import LEAST_BYTES, available_memory, too_large
from nstrt.runtime.system.onnx_runtime import import_onnxruntime
from nstrt.runtime.system.process import owns_process
from nstrt.runtime.system.words import spelled

__all__ = [
    "IMAGE_ONLY",
    "PRECISIONS",
    "PROVIDERS",
    "InputShape",
    "Precision",
    "Provider",
    "ProviderChoice",
    "Shape",
    "check_placement",
    "choose_precision",
    "choose_provider",
    "execution_providers",
    "is_available",
    "provider_options",
]

Provider = Literal["auto", "tensorrt", "cuda", "coreml", "cpu"]
Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
PROVIDERS: tuple[str, ...] = get_args(Provider)
PRECISIONS: tuple[str, ...] = get_args(Precision)

Shape = tuple[int, int]
"""Height and width of a picture in pixels."""

InputShape = Callable[[int, int], tuple[int, ...]]
"""Maps the height and width of a picture to the shape of a model's input."""


def image_shape(height: int, width: int) -> tuple[int, ...]:
    """Shape of an image: 1 x 3 x height x width."""
    return 1, 3, height, width


IMAGE_ONLY: Mapping[str, InputShape] = {"image": image_shape}
"""The inputs of a feature model."""

PREFERENCE = ("tensorrt", "cuda", "coreml", "cpu")
"""The order in which ``auto`` tries providers."""

_EXECUTION_PROVIDERS: Mapping[str, str] = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "cpu": "CPUExecutionProvider",
}

_MISSING: Mapping[str, str] = {
    "tensorrt": "TensorRT needs an NVIDIA card with its driver and TensorRT 10's libraries; "
    'install them with: pip install "nstrt[tensorrt]"',
    "cuda": "CUDA needs an NVIDIA card with its driver and CUDA's libraries; "
    'install them with: pip install "nstrt[cuda]"',
    "coreml": "Core ML is there only on Macs with Apple silicon and macOS 14 or later",
}

# A model of one ReLU on one number, for trying whether a session runs on a provider.
_PROBE = bytes.fromhex(
    "08083a370a0c0a0178120179220452656c75120570726f62655a0f0a0178120a0a08080112040a02"
    "0801620f0a0179120a0a08080112040a02080142040a00100d"
)


@dataclass(frozen=True, kw_only=True)
class ProviderChoice:
    """The provider of a run and the reason for it."""

    provider: str
    """``tensorrt``, ``cuda``, ``coreml`` or ``cpu``."""

    reason: str
    """One sentence for the user; empty if the provider was requested by name."""


def choose_provider(requested: str, is_available: Callable[[str], bool]) -> ProviderChoice:
    """The requested provider; for ``auto`` the first available one.

    Raises :class:`ProviderUnavailableError` if the provider is not available.
    """
    if requested != "auto":
        if not is_available(requested):
            reason = _MISSING.get(requested, "it does not load")
            raise ProviderUnavailableError(
                f"{spelled('provider', requested)} cannot run here: {reason}, or use "
                f"{spelled('provider', 'auto')}."
            )
        return ProviderChoice(provider=requested, reason="")
    missing: list[str] = []
    for provider in PREFERENCE:
        if is_available(provider):
            without = f": no {', '.join(missing)} here" if missing else ""
            return ProviderChoice(
                provider=provider, reason=f"provider {provider} chosen automatically{without}"
            )
        missing.append(provider)
    if available_memory() < LEAST_BYTES:
        raise too_large("Loading the network", LEAST_BYTES)
    raise ProviderUnavailableError(
        "ONNX Runtime cannot run even on the processor; install it again with: "
        "pip install --force-reinstall onnxruntime"
    )


def choose_precision(requested: str, provider: str) -> str:
    """The requested precision; for ``auto`` the provider's default, tf32 or fp32.

    Raises :class:`ProviderUnavailableError` if the provider does not support the precision. The
    planner measures later whether bf16 is faster on a processor.
    """
    supported = {
        "tensorrt": ("tf32", "fp32", "bf16", "fp16"),
        "cuda": ("tf32", "fp32", "bf16", "fp16"),
        "coreml": ("fp32", "bf16"),
        "cpu": ("fp32", "bf16"),
    }[provider]
    if requested == "auto":
        return supported[0]
    if requested not in supported:
        raise ProviderUnavailableError(
            f"{spelled('precision', requested)} needs an NVIDIA card "
            f"({spelled('provider', 'cuda')} or tensorrt); on {provider} use "
            f"{spelled('precision', 'fp32')}."
        )
    return requested


def execution_providers(provider: str) -> list[str]:
    """ONNX Runtime's names of the provider and of those for nodes that it does not support."""
    names = [_EXECUTION_PROVIDERS[provider]]
    if provider == "tensorrt":
        names.append(_EXECUTION_PROVIDERS["cuda"])
    if provider != "cpu":
        names.append(_EXECUTION_PROVIDERS["cpu"])
    return names


def provider_options(
    provider: str,
    *,
    precision: str,
    shapes: Sequence[Shape],
    cache: Path,
    identity: Mapping[str, str],
    inputs: Mapping[str, InputShape] = IMAGE_ONLY,
) -> list[dict[str, str]]:
    """Options for each of :func:`execution_providers`, for pictures of the given ``shapes``.

    A TensorRT engine is valid for one model, version, card, precision and profile; the first three
    are in ``identity``. Each combination has its own folder below ``cache``. One profile spans the
    shapes of all ``inputs`` over the run; otherwise each new shape would build another engine.
    """
    cuda = {
        # Exhaustive search costs about half a second for each new shape and pays back over the
        # hundreds of steps of a run.
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "use_tf32": "1" if precision == "tf32" else "0",
        # Leaves memory on the card to torch.
        "arena_extend_strategy": "kSameAsRequested",
    }
    if provider == "cpu":
        return [{}]
    if provider == "coreml":
        return [{"ModelFormat": "MLProgram", "RequireStaticInputShapes": "0"}, {}]
    if provider == "cuda":
        return [cuda, {}]
    folder = str(cache / engine_key(precision=precision, shapes=shapes, identity=identity))
    tensorrt = {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": folder,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(cache),
        "trt_fp16_enable": "1" if precision == "fp16" else "0",
        **_profile(shapes, inputs),
    }
    return [tensorrt, cuda, {}]


def engine_key(*, precision: str, shapes: Iterable[Shape], identity: Mapping[str, str]) -> str:
    """The folder name for TensorRT engines that are interchangeable."""
    content = {"precision": precision, "shapes": sorted(set(shapes)), **identity}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _profile(shapes: Sequence[Shape], inputs: Mapping[str, InputShape]) -> dict[str, str]:
    heights, widths = zip(*shapes, strict=True)

    def input_shapes(height: int, width: int) -> str:
        return ",".join(
            f"{name}:{'x'.join(map(str, shape(height, width)))}" for name, shape in inputs.items()
        )

    smallest = input_shapes(min(heights), min(widths))
    largest = input_shapes(max(heights), max(widths))
    return {
        "trt_profile_min_shapes": smallest,
        # Most time goes into the largest shape, so the engine is optimised for it.
        "trt_profile_opt_shapes": largest,
        "trt_profile_max_shapes": largest,
    }


def check_placement(placements: Iterable[tuple[str, str]], provider: str) -> None:
    """Check that an NVIDIA ``provider`` runs all convolutions and matrix products of a session.

    ``placements`` has the provider and operator of each node. Raises
    :class:`ProviderUnavailableError` if another provider runs some of them.
    """
    if provider not in ("cuda", "tensorrt"):
        return
    heavy = [name for name, operator in placements if operator in _HEAVY]
    elsewhere = [name for name in heavy if name != _EXECUTION_PROVIDERS[provider]]
    if elsewhere:
        other = "cuda" if provider == "tensorrt" else "cpu"
        raise ProviderUnavailableError(
            f"{provider} does not take {len(elsewhere)} of the network's {len(heavy)} convolutions "
            f"and matrix products, which would run on {', '.join(sorted(set(elsewhere)))}; use "
            f"{spelled('provider', other)}."
        )


_HEAVY = frozenset({"Conv", "FusedConv", "Gemm", "MatMul", "FusedMatMul"})
"""Operators that take nearly all the time."""


@lru_cache(maxsize=8)
def is_available(provider: str) -> bool:
    """Make a small session on the provider; true if it runs there."""
    if provider in ("cuda", "tensorrt") and not _has_driver():
        # Loading CUDA's libraries, which pip can install without a driver, takes a second.
        return False
    onnxruntime = import_onnxruntime()

    name = _EXECUTION_PROVIDERS[provider]
    if name not in onnxruntime.get_available_providers():
        return False
    preload_libraries(provider)
    options = onnxruntime.SessionOptions()
    # No message on the console: the caller reports an unavailable provider.
    options.log_severity_level = 4
    if owns_process():
        onnxruntime.set_default_logger_severity(4)
    try:
        # ONNX Runtime prints when a provider fails, and then tries another one.
        with contextlib.redirect_stdout(io.StringIO()):
            session = onnxruntime.InferenceSession(_PROBE, options, providers=[name])
    except Exception:
        # A missing driver or library raises different exceptions by provider and version.
        return False
    finally:
        if owns_process():
            onnxruntime.set_default_logger_severity(2)
    return bool(session.get_providers()[0] == name)


def _has_driver() -> bool:
    """True if NVIDIA's driver is installed."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def preload_libraries(provider: str) -> None:
    """Load CUDA's and TensorRT's libraries from pip packages, which no loader searches."""
    onnxruntime = import_onnxruntime()

    if provider == "tensorrt":
        # Importing the package loads its libraries; preload_dlls does not.
        with contextlib.suppress(Exception):
            import tensorrt  # noqa: F401
    if provider in ("cuda", "tensorrt") and hasattr(onnxruntime, "preload_dlls"):
        # preload_dlls prints the names of missing libraries.
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()
