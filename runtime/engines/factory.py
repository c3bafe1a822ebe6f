"""From model files to engines on this machine."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from nstrt.runtime.errors import PackageMissingError, ProviderUnavailableError
from nstrt.runtime.kernels.compiled import loops_stamp
from nstrt.runtime.model import ModelSpec, ModelStore, Variant
from nstrt.runtime.ort.features import variant_for
from nstrt.runtime.ort.providers import IMAGE_ONLY, InputShape, Shape
from nstrt.runtime.ort.session import FeatureSession, Session, inference_session
from nstrt.runtime.system.host import (
    available_memory,
    card_memory,
    compiler_versions,
    device_name,
    machine_id,
    versions,
)

if TYPE_CHECKING:
    from nstrt.runtime.engines import Engine
    from nstrt.runtime.engines.graph_engine import GraphEngine
    from nstrt.runtime.network.vgg import TorchVGG

__all__ = ["EngineFactory", "ExecutionTarget", "has_torch", "import_torch", "torch_sees_card"]

NETWORKS = 2
"""Networks kept in memory on one site: each takes some hundred megabytes."""


@dataclass(frozen=True, kw_only=True)
class ExecutionTarget:
    """Where an engine runs."""

    provider: str
    """``cpu``, ``cuda``, ``tensorrt`` or ``coreml``."""

    precision: str
    """``fp32``, ``tf32``, ``bf16`` or ``fp16``."""

    threads: int
    """Processor threads."""

    @property
    def on_card(self) -> bool:
        """Whether the activations lie on an NVIDIA card."""
        return self.provider in ("cuda", "tensorrt")

    def free_memory(self) -> int:
        """Bytes free where the activations lie."""
        if not self.on_card:
            return available_memory()
        if has_torch() and torch_sees_card():
            return int(import_torch().cuda.mem_get_info()[0])
        return card_memory()


class EngineFactory:
    """Builds engines on one site from the models of a store, each once."""

    def __init__(self, store: ModelStore, site: ExecutionTarget) -> None:
        self._store = store
        self._site = site
        self._mirrors: dict[str, TorchVGG] = {}
        self._engines: dict[tuple[str, str, str, tuple[Shape, ...]], Engine] = {}
        self._used: list[str] = []

    def set_up(self) -> None:
        """Set torch up for the site, which another one may have changed; engine ``graph`` does
        without.

        Raises :class:`ProviderUnavailableError` if torch cannot run there, and
        :class:`PackageMissingError` if it is not installed.
        """
        _check_torch(self._site)

    def engine(
        self, name: str, spec: ModelSpec, shapes: Sequence[Shape], precision: str | None = None
    ) -> Engine:
        """The engine ``onnx``, ``torch`` or ``graph`` for pictures of ``shapes``, in the site's
        precision or another one; ``spec`` is of the network's features, for ``graph`` of its step.

        Raises :class:`ProviderUnavailableError` if it cannot run on the site.
        """
        if name == "torch" and self._site.provider == "coreml":
            raise ProviderUnavailableError(
                "Engine torch does not run on Core ML; use --engine onnx, or --provider cpu."
            )
        # Only TensorRT's engines depend on the shapes of the run.
        kept = tuple(shapes) if self._site.provider == "tensorrt" else ()
        precision = precision or self._site.precision
        key = (name, spec.key, precision, kept)
        self._forget_but(spec)
        if key not in self._engines:
            if kept:
                # Each holds the card's memory for its own shapes: one at a time.
                self._engines = {k: e for k, e in self._engines.items() if not k[-1]}
            self._engines[key] = self._build(name, spec, shapes, precision)
        return self._engines[key]

    def _build(self, name: str, spec: ModelSpec, shapes: Sequence[Shape], precision: str) -> Engine:
        if name == "graph":
            return self._build_graph(spec, shapes, precision)
        from nstrt.runtime.engines.torch_engine import OnnxEngine, TorchEngine

        vgg, site = self._mirror(spec), self._site
        key = machine_id(
            device=device_name(site.provider),
            threads=site.threads,
            versions=versions() | compiler_versions(),
            loops=loops_stamp(),
        )
        if name == "torch":
            return TorchEngine(vgg, precision=precision, key=key)
        session = self._open(spec, variant_for(site.provider, precision), shapes, precision)
        features = FeatureSession(session, site.provider)
        return OnnxEngine(vgg, features, precision=precision, key=key)

    def _build_graph(self, spec: ModelSpec, shapes: Sequence[Shape], precision: str) -> GraphEngine:
        from nstrt.runtime.arrays import Arrays, PlainArrays
        from nstrt.runtime.engines.graph_engine import GraphEngine, step_shapes

        half = precision == "fp16"
        provider, inputs = self._site.provider, step_shapes(spec.content_layers)

        def opened(variant: Variant) -> Session:
            return Session(self._open(spec, variant, shapes, precision, inputs), provider)

        arrays: Arrays = PlainArrays()
        if self._site.on_card and has_torch() and torch_sees_card():
            from nstrt.runtime.arrays.tensors import TensorArrays

            arrays = TensorArrays(import_torch().device("cuda"))
        features = self._open(spec.features, "fp16" if half else "plain", shapes, precision)
        return GraphEngine(
            FeatureSession(features, provider),
            step=lambda: opened("step-fp16" if half else "step"),
            tile=lambda: opened("tile-fp16" if half else "tile"),
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
        """An ``onnxruntime.InferenceSession`` of a network as one kind of file."""
        site, model = self._site, self._store.obtain(spec.as_variant(variant))
        return inference_session(
            model.path,
            provider=site.provider,
            precision=precision,
            shapes=shapes,
            threads=site.threads,
            identity={"model": model.sha256, "device": device_name(site.provider)},
            inputs=inputs,
        )

    def _forget_but(self, spec: ModelSpec) -> None:
        """Drop the networks beyond :data:`NETWORKS` that were not used for longest."""
        self._used = [key for key in self._used if key != spec.key] + [spec.key]
        for old in self._used[:-NETWORKS]:
            self._mirrors.pop(old, None)
            self._engines = {key: e for key, e in self._engines.items() if key[1] != old}
        del self._used[:-NETWORKS]

    def _mirror(self, spec: ModelSpec) -> TorchVGG:
        from nstrt.runtime.network.vgg import read_vgg

        torch = import_torch()
        if spec.key not in self._mirrors:
            self._mirrors[spec.key] = read_vgg(
                self._store.obtain(spec).path,
                device=torch.device("cuda" if self._site.on_card else "cpu"),
            )
        return self._mirrors[spec.key]


def has_torch() -> bool:
    """Whether torch is installed; it takes seconds to import."""
    return find_spec("torch") is not None


def import_torch() -> Any:
    """torch, or :class:`PackageMissingError`."""
    try:
        with _uncollected():
            import torch
    except ImportError as error:
        raise PackageMissingError(
            "The engines torch and onnx need the package torch; use --engine graph, or install it "
            'with: pip install "nstrt[full]"'
        ) from error
    return torch


@contextmanager
def _uncollected() -> Iterator[None]:
    """Import without looking for garbage: there is none, and looking takes a tenth of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def torch_sees_card() -> bool:
    """Whether torch can use an NVIDIA card here."""
    return bool(import_torch().cuda.is_available())


def _check_torch(site: ExecutionTarget) -> None:
    """Set torch up for the site, or say why it cannot run there."""
    torch = import_torch()
    torch.set_num_threads(site.threads)
    if not site.on_card:
        return
    if not torch_sees_card():
        raise ProviderUnavailableError(
            f"ONNX Runtime runs on {site.provider} here, but torch does not see the card; install "
            "torch's CUDA build, or use --engine graph or --provider cpu."
        )
    torch.backends.cuda.matmul.allow_tf32 = site.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = site.precision == "tf32"
