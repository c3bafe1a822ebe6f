"""Which ONNX Runtime provider runs the network: everything nstrt knows about providers is here.

The choices are pure functions of what was asked and what loads, so they can be tested without
the hardware. ``onnxruntime.get_available_providers`` lists what a build contains, not what runs:
CUDA without its libraries is listed, and a session for it runs on the CPU with no error. A
provider counts as there only when a session on it was made (:func:`loads`).
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
    "loads",
    "onnx_names",
    "provider_options",
]

Provider = Literal["auto", "tensorrt", "cuda", "coreml", "cpu"]
Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
PROVIDERS: tuple[str, ...] = get_args(Provider)
PRECISIONS: tuple[str, ...] = get_args(Precision)

Shape = tuple[int, int]
"""Height and width of a picture in pixels."""

InputShape = Callable[[int, int], tuple[int, ...]]
"""From the height and width of a picture to the shape of an input."""


def image_shape(height: int, width: int) -> tuple[int, ...]:
    """1 x 3 x height x width."""
    return 1, 3, height, width


IMAGE_ONLY: Mapping[str, InputShape] = {"image": image_shape}
"""The inputs of a model of features, whose shapes follow from a picture's."""

PREFERENCE = ("tensorrt", "cuda", "coreml", "cpu")
"""The order in which ``auto`` looks for a provider."""

_ONNX_NAMES: Mapping[str, str] = {
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

# One ReLU on one number: the smallest model that makes a provider prove that it loads.
_PROBE = bytes.fromhex(
    "08083a370a0c0a0178120179220452656c75120570726f62655a0f0a0178120a0a08080112040a02"
    "0801620f0a0179120a0a08080112040a02080142040a00100d"
)


@dataclass(frozen=True, kw_only=True)
class ProviderChoice:
    """Where the network runs, and why."""

    provider: str
    """``tensorrt``, ``cuda``, ``coreml`` or ``cpu``."""

    reason: str
    """One sentence for the person who runs it; empty when they asked for it by name."""


def choose_provider(asked: str, loads: Callable[[str], bool]) -> ProviderChoice:
    """The provider to run on: the one asked for, or for ``auto`` the first that loads.

    Raises :class:`ProviderUnavailableError` if a provider asked for by name does not load.
    """
    if asked != "auto":
        if not loads(asked):
            raise ProviderUnavailableError(
                f"--provider {asked} cannot run here: {_MISSING.get(asked, 'it does not load')}, "
                "or use --provider auto."
            )
        return ProviderChoice(provider=asked, reason="")
    passed: list[str] = []
    for provider in PREFERENCE:
        if loads(provider):
            without = f": no {', '.join(passed)} here" if passed else ""
            return ProviderChoice(
                provider=provider, reason=f"provider {provider} chosen automatically{without}"
            )
        passed.append(provider)
    raise ProviderUnavailableError(
        "ONNX Runtime cannot run even on the processor; install it again with: "
        "pip install --force-reinstall onnxruntime"
    )


def choose_precision(asked: str, provider: str) -> str:
    """``fp32``, ``tf32``, ``bf16`` or ``fp16`` for a provider; raises if it does not have it.

    Asked for ``auto``, the first that it has; where bf16 is quicker on a processor is measured
    later.
    """
    has = {
        "tensorrt": ("tf32", "fp32", "bf16", "fp16"),
        "cuda": ("tf32", "fp32", "bf16", "fp16"),
        "coreml": ("fp32", "bf16"),
        "cpu": ("fp32", "bf16"),
    }[provider]
    if asked == "auto":
        return has[0]
    if asked not in has:
        raise ProviderUnavailableError(
            f"--precision {asked} needs an NVIDIA card (--provider cuda or tensorrt); "
            f"on {provider} use --precision fp32."
        )
    return asked


def onnx_names(provider: str) -> list[str]:
    """ONNX Runtime's names, the chosen provider first and the processor for what it leaves."""
    names = [_ONNX_NAMES[provider]]
    if provider == "tensorrt":
        names.append(_ONNX_NAMES["cuda"])
    if provider != "cpu":
        names.append(_ONNX_NAMES["cpu"])
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
    """Options for :func:`onnx_names`, for a loop over pictures of fixed ``shapes``.

    TensorRT's engines hold for one model, precision, profile, version and card: ``identity``
    names those, and each gets a cache folder of its own. One profile spans the shapes of the
    run and all ``inputs`` that depend on them, so that no engine is built twice; without it every
    new shape would build one.
    """
    cuda = {
        # Exhaustive search costs about half a second for each new shape and pays back over the
        # hundreds of steps of a run.
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "use_tf32": "1" if precision == "tf32" else "0",
        # torch uses the same card.
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
    """The name of the folder for engines that can serve each other."""
    content = {"precision": precision, "shapes": sorted(set(shapes)), **identity}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _profile(shapes: Sequence[Shape], inputs: Mapping[str, InputShape]) -> dict[str, str]:
    heights, widths = zip(*shapes, strict=True)

    def all_at(height: int, width: int) -> str:
        return ",".join(
            f"{name}:{'x'.join(map(str, shape(height, width)))}" for name, shape in inputs.items()
        )

    least, most = all_at(min(heights), min(widths)), all_at(max(heights), max(widths))
    return {
        "trt_profile_min_shapes": least,
        # The optimum is the largest shape: most of the time goes there.
        "trt_profile_opt_shapes": most,
        "trt_profile_max_shapes": most,
    }


def check_placement(placed: Iterable[tuple[str, str]], provider: str) -> None:
    """Refuse a session whose convolutions or matrix products lie elsewhere than on the NVIDIA
    ``provider`` it was opened for; ``placed`` has the provider and kind of each node.

    Raises :class:`ProviderUnavailableError`.
    """
    if provider not in ("cuda", "tensorrt"):
        return
    heavy = [place for place, kind in placed if kind in _HEAVY]
    elsewhere = [place for place in heavy if place != _ONNX_NAMES[provider]]
    if elsewhere:
        other = "cuda" if provider == "tensorrt" else "cpu"
        raise ProviderUnavailableError(
            f"{provider} does not take {len(elsewhere)} of the network's {len(heavy)} convolutions "
            f"and matrix products, which would run on {', '.join(sorted(set(elsewhere)))}; use "
            f"--provider {other}."
        )


_HEAVY = frozenset({"Conv", "FusedConv", "Gemm", "MatMul", "FusedMatMul"})
"""Kinds of node that nearly all the time goes to."""


@lru_cache(maxsize=8)
def loads(provider: str) -> bool:
    """Whether a session really runs on the provider here: one is made, and asked."""
    if provider in ("cuda", "tensorrt") and not _has_driver():
        # CUDA's other libraries are large and come with pip: a second is lost on loading them.
        return False
    import onnxruntime

    name = _ONNX_NAMES[provider]
    if name not in onnxruntime.get_available_providers():
        return False
    prepare_libraries(provider)
    options = onnxruntime.SessionOptions()
    # A provider that does not load is reported here, in words, not on the console.
    options.log_severity_level = 4
    onnxruntime.set_default_logger_severity(4)
    try:
        # It also prints when a provider fails, and then tries another.
        with contextlib.redirect_stdout(io.StringIO()):
            session = onnxruntime.InferenceSession(_PROBE, options, providers=[name])
    except Exception:
        # What a missing driver or library raises differs between providers and versions.
        return False
    finally:
        onnxruntime.set_default_logger_severity(2)
    return bool(session.get_providers()[0] == name)


def _has_driver() -> bool:
    """Whether NVIDIA's driver is installed."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def prepare_libraries(provider: str) -> None:
    """Load CUDA's and TensorRT's libraries from pip packages, where no loader looks by itself."""
    import onnxruntime

    if provider == "tensorrt":
        # Its package loads its libraries; preload_dlls does not.
        with contextlib.suppress(Exception):
            import tensorrt  # noqa: F401
    if provider in ("cuda", "tensorrt") and hasattr(onnxruntime, "preload_dlls"):
        # It prints what it does not find.
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()
