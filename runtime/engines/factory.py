"""Builds engines from model files."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from nstrt.runtime.errors import PackageMissingError, ProviderUnavailableError, TooLargeError
from nstrt.runtime.kernels.compiled import kernels_fingerprint
from nstrt.runtime.model import ModelSpec, ModelStore, Variant
from nstrt.runtime.ort.features import variant_for
from nstrt.runtime.ort.providers import IMAGE_ONLY, InputShape, Shape
from nstrt.runtime.ort.session import FeatureSession, Session, inference_session
from nstrt.runtime.system.host import (
    compiler_versions,
    device_name,
    free_gpu_memory,
    machine_id,
    versions,
)
from nstrt.runtime.system.memory import (
    available_memory,
    is_out_of_memory,
    more_memory,
    process_limits,
)
from nstrt.runtime.system.own_settings import use_settings
from nstrt.runtime.system.process import owns_process
from nstrt.runtime.system.words import spelled

if TYPE_CHECKING:
    from nstrt.runtime.engines.engine import Engine
    from nstrt.runtime.engines.graph_engine import GraphEngine
    from nstrt.runtime.network.vgg import TorchVGG

__all__ = [
    "EngineFactory",
    "ExecutionTarget",
    "has_torch",
    "import_torch",
    "torch_reserve",
    "torch_sees_card",
    "torch_too_large",
]

_TORCH_BYTES = 4_500_000_000
"""Address space in which torch with its CUDA libraries loads and paints a small picture."""

_TRIAL_SECONDS = 120
"""Seconds that a child has to load torch."""

MAX_NETWORKS = 2
"""Networks kept in memory on one target; each takes some hundred megabytes."""


@dataclass(frozen=True, kw_only=True)
class ExecutionTarget:
    """Provider, precision and threads that an engine runs with."""

    provider: str
    """``cpu``, ``cuda``, ``tensorrt`` or ``coreml``."""

    precision: str
    """``fp32``, ``tf32``, ``bf16`` or ``fp16``."""

    threads: int
    """Processor threads."""

    @property
    def on_card(self) -> bool:
        """True if the activations lie on an NVIDIA card."""
        return self.provider in ("cuda", "tensorrt")

    def free_memory(self) -> int:
        """Free bytes of the memory that holds the activations."""
        if not self.on_card:
            return available_memory()
        if has_torch() and torch_sees_card():
            return int(import_torch().cuda.mem_get_info()[0])
        return free_gpu_memory()


class EngineFactory:
    """Builds engines for one target from a store's models, each once."""

    def __init__(self, store: ModelStore, target: ExecutionTarget) -> None:
        self._store = store
        self._target = target
        self._networks: dict[str, TorchVGG] = {}
        self._engines: dict[tuple[str, str, str, tuple[Shape, ...]], Engine] = {}
        self._used: list[str] = []

    def configure_torch(self) -> None:
        """Configure torch for the target, which another target may have changed.

        Engine ``graph`` does not need it.

        Raises :class:`ProviderUnavailableError` if torch cannot run there, and
        :class:`PackageMissingError` if it is not installed.
        """
        _configure_torch(self._target)

    def engine(
        self, name: str, spec: ModelSpec, shapes: Sequence[Shape], precision: str | None = None
    ) -> Engine:
        """The engine ``onnx``, ``torch`` or ``graph`` for images of ``shapes`` (height, width).

        ``precision`` defaults to the target's. ``spec`` describes the features' model; for
        ``graph``, the step's.

        Raises :class:`ProviderUnavailableError` if it cannot run on the target.
        """
        if name == "torch" and self._target.provider == "coreml":
            raise ProviderUnavailableError(
                f"Engine torch does not run on Core ML; use {spelled('engine', 'onnx')}, or "
                f"{spelled('provider', 'cpu')}."
            )
        # Only TensorRT's engines depend on the shapes of the run.
        kept = tuple(shapes) if self._target.provider == "tensorrt" else ()
        precision = precision or self._target.precision
        key = (name, spec.key, precision, kept)
        self._evict_least_used(spec)
        if key not in self._engines:
            if kept:
                # Each holds memory of the card for its own shapes: one at a time.
                self._engines = {k: e for k, e in self._engines.items() if not k[-1]}
            self._engines[key] = self._build(name, spec, shapes, precision)
        return self._engines[key]

    def _build(self, name: str, spec: ModelSpec, shapes: Sequence[Shape], precision: str) -> Engine:
        if name == "graph":
            return self._build_graph(spec, shapes, precision)
        from nstrt.runtime.engines.onnx_engine import OnnxEngine
        from nstrt.runtime.engines.torch_engine import TorchEngine

        vgg, target = self._network(spec), self._target
        key = machine_id(
            device=device_name(target.provider),
            threads=target.threads,
            versions=versions() | compiler_versions(),
            loops=kernels_fingerprint(),
        )
        if name == "torch":
            return TorchEngine(vgg, precision=precision, key=key)
        session = self._open(spec, variant_for(target.provider, precision), shapes, precision)
        features = FeatureSession(session, target.provider)
        return OnnxEngine(vgg, features, precision=precision, key=key)

    def _build_graph(self, spec: ModelSpec, shapes: Sequence[Shape], precision: str) -> GraphEngine:
        from nstrt.runtime.arrays import Arrays, PlainArrays
        from nstrt.runtime.engines.graph_engine import GraphEngine, step_shapes

        half = precision == "fp16"
        provider, inputs = self._target.provider, step_shapes(spec.content_layers)

        def open_session(variant: Variant) -> Session:
            return Session(self._open(spec, variant, shapes, precision, inputs), provider)

        arrays: Arrays = PlainArrays()
        if self._target.on_card and has_torch() and torch_sees_card():
            from nstrt.runtime.arrays.tensors import TensorArrays

            arrays = TensorArrays(import_torch().device("cuda"))
        features = self._open(spec.features, "fp16" if half else "plain", shapes, precision)
        return GraphEngine(
            FeatureSession(features, provider),
            step=lambda: open_session("step-fp16" if half else "step"),
            tile=lambda: open_session("tile-fp16" if half else "tile"),
            arrays=arrays,
        )

    def _open(
        self,
        spec: ModelSpec,
        variant: Variant,
        shapes: Sequence[Shape],
        precision: str,
        inputs: Mapping[str, InputShape] = IMAGE_ONLY,
    ) -> Any:
        """An ``onnxruntime.InferenceSession`` of one variant of a network."""
        target, model = self._target, self._store.obtain(spec.as_variant(variant))
        return inference_session(
            model.path,
            provider=target.provider,
            precision=precision,
            shapes=shapes,
            threads=target.threads,
            identity={"model": model.sha256, "device": device_name(target.provider)},
            inputs=inputs,
        )

    def _evict_least_used(self, spec: ModelSpec) -> None:
        """Drop the least recently used networks beyond :data:`MAX_NETWORKS`."""
        self._used = [key for key in self._used if key != spec.key] + [spec.key]
        for old in self._used[:-MAX_NETWORKS]:
            self._networks.pop(old, None)
            self._engines = {key: e for key, e in self._engines.items() if key[1] != old}
        del self._used[:-MAX_NETWORKS]

    def _network(self, spec: ModelSpec) -> TorchVGG:
        from nstrt.runtime.network.vgg import read_vgg

        torch = import_torch()
        if spec.key not in self._networks:
            self._networks[spec.key] = read_vgg(
                self._store.obtain(spec).path,
                device=torch.device("cuda" if self._target.on_card else "cpu"),
            )
        return self._networks[spec.key]


def has_torch() -> bool:
    """True if torch is installed, without the seconds that importing it takes."""
    return find_spec("torch") is not None


def import_torch() -> Any:
    """Import torch; raises :class:`PackageMissingError` if it is not installed."""
    try:
        with _without_garbage_collection():
            import torch
    except ModuleNotFoundError as error:
        raise PackageMissingError(
            "The engines torch and onnx need the package torch; use "
            f"{spelled('engine', 'graph')}, or install it "
            'with: pip install "nstrt[full]"'
        ) from error
    except (ImportError, OSError, MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise torch_too_large() from error
        raise PackageMissingError(
            f"torch is installed and does not load ({str(error).splitlines()[0]}); use "
            f"{spelled('engine', 'graph')}, or install it again with: "
            "pip install --force-reinstall torch"
        ) from error
    return torch


def torch_too_large(*, graph: bool = True) -> TooLargeError:
    """The error where this process's memory does not hold torch.

    ``graph`` means that engine ``graph`` could do the work.
    """
    free, advice = more_memory(_TORCH_BYTES)
    alternative = f", or use {spelled('engine', 'graph')}" if graph else ""
    return TooLargeError(
        f"The engines torch and onnx take about {_TORCH_BYTES / 1e9:.1f} GB of memory, and {free}; "
        f"{advice}{alternative}."
    )


def torch_reserve() -> int | None:
    """Bytes of address space that loading torch takes beyond its memory, if they are limited.

    0 once torch is loaded, None if it does not load within the limits.
    """
    limited = any(process_limits())
    if not limited or "torch" in sys.modules or not owns_process() or not sys.executable:
        return 0
    return _tried_reserve()


@lru_cache(maxsize=1)
def _tried_reserve() -> int | None:
    """The bytes by a trial of a child: a library that is loaded in part keeps what it took."""
    import psutil

    code = (
        "import numpy, torch, psutil; used = psutil.Process().memory_info(); "
        "print(used.vms - used.rss)"
    )
    try:
        tried = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=_TRIAL_SECONDS
        )
        if tried.returncode:
            return None
        used = psutil.Process().memory_info()
        return max(0, int(tried.stdout) - int(used.vms - used.rss))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Pause garbage collection: an import makes no garbage, and collecting takes a tenth of it."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def torch_sees_card() -> bool:
    """True if torch can use an NVIDIA card."""
    return bool(import_torch().cuda.is_available())


def _configure_torch(target: ExecutionTarget) -> None:
    """Configure torch for the target, or raise an error that says why it cannot run there."""
    import_torch()
    if not target.on_card:
        use_settings(threads=target.threads)
        return
    if not torch_sees_card():
        raise ProviderUnavailableError(
            f"ONNX Runtime runs on {target.provider} here, but torch does not see the card; "
            f"install torch's CUDA build, or use {spelled('engine', 'graph')} or "
            f"{spelled('provider', 'cpu')}."
        )
    use_settings(threads=target.threads, tf32=target.precision == "tf32")
