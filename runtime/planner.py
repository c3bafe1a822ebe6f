"""From options to a plan and the engine that carries it out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nstrt.runtime.extraction import variant_for
from nstrt.runtime.machine import (
    available_memory,
    default_threads,
    device_name,
    machine_id,
    versions,
)
from nstrt.runtime.model import (
    ModelSpec,
    ModelStore,
    PackageMissingError,
    StoredModel,
    WeightsError,
)
from nstrt.runtime.options import StylizeOptions
from nstrt.runtime.plan import Plan, Scale, check_memory, default_size, plan_scales
from nstrt.runtime.providers import (
    ProviderChoice,
    Shape,
    choose_precision,
    choose_provider,
    loads,
)
from nstrt.runtime.session import open_session

if TYPE_CHECKING:
    from nstrt.runtime.engines import Engine

__all__ = ["Planner"]


class Planner:
    """Decides what runs where, once, and keeps what several pictures can share."""

    def __init__(
        self, options: StylizeOptions, store: ModelStore, notify: Callable[[str], None]
    ) -> None:
        self.options = options
        self._store = store
        self._notify = notify
        self._engines: dict[tuple[str, tuple[Shape, ...]], Engine] = {}
        self._choice: ProviderChoice | None = None

    def prepare(self, photo: tuple[int, int], painting: tuple[int, int]) -> tuple[Plan, Engine]:
        """The plan for a photo and a painting of (width, height) pixels, and its engine.

        Raises :class:`~nstrt.runtime.model.NstrtError` if it cannot run here.
        """
        options = self.options
        reasons: list[str] = []
        choice = self._choice = self._choice or choose_provider(options.provider, loads)
        if choice.reason:
            reasons.append(choice.reason)
        precision = choose_precision(options.precision, choice.provider)
        scales = plan_scales(
            options, photo=photo, painting=painting, default=default_size(choice.provider)
        )
        history = _history(options, scales)
        free = available_memory()
        # Before the model is touched: what cannot fit is refused at once.
        check_memory("torch", scales, history, free)
        torch = _torch()
        threads = options.threads or default_threads()
        torch.set_num_threads(threads)
        spec, model = self._model()
        name, why = self._engine_name(spec, choice.provider, precision, threads)
        if why:
            reasons.append(why)
        engine = self._engine(name, spec, choice.provider, precision, threads, scales)
        nodes = engine.session.nodes_by_provider() if hasattr(engine, "session") else {}
        plan = Plan(
            engine=name,
            provider=choice.provider,
            precision=precision,
            device=device_name(choice.provider),
            threads=threads,
            scales=scales,
            optimizer=options.optimizer,
            history=history,
            model=model.path.name,
            model_sha256=model.sha256,
            memory=check_memory(name, scales, history, free),
            nodes=nodes,
            reasons=tuple(reasons),
        )
        return plan, engine

    def _model(self) -> tuple[ModelSpec, StoredModel]:
        options = self.options
        if options.weights != "auto":
            return options.spec, self._store.obtain(options.spec)
        try:
            spec = replace(options, weights="torchvision").spec
            return spec, self._store.obtain(spec)
        except WeightsError:
            self._notify("torchvision's weights are not to be had here; using oxford instead.")
            spec = replace(options, weights="oxford").spec
            return spec, self._store.obtain(spec)

    def _engine_name(
        self, spec: ModelSpec, provider: str, precision: str, threads: int
    ) -> tuple[str, str]:
        """The engine to use and, when it was measured, why."""
        if self.options.engine != "auto":
            return self.options.engine, ""
        if provider == "coreml":
            return "onnx", "engine onnx, because torch does not run on Core ML"
        from nstrt.runtime.calibrate import SIDES, faster

        key = machine_id(
            provider=provider,
            precision=precision,
            threads=threads,
            pooling=spec.pooling,
            versions=versions(),
        )
        shape = (
            Scale(
                width=SIDES[1],
                height=SIDES[0],
                style_width=SIDES[1],
                style_height=SIDES[0],
                iterations=1,
            ),
        )
        makers = {
            name: lambda name=name: self._engine(name, spec, provider, precision, threads, shape)
            for name in ("onnx", "torch")
        }
        name, seconds = faster(key, makers)
        other = max(seconds, key=seconds.__getitem__)
        ratio = seconds[other] / seconds[name]
        return name, f"engine {name} measured {ratio:.2f} times as fast as {other} here"

    def _engine(
        self,
        name: str,
        spec: ModelSpec,
        provider: str,
        precision: str,
        threads: int,
        scales: Sequence[Scale],
    ) -> Engine:
        # Only TensorRT's engines depend on the shapes of the run.
        shapes = _shapes(scales) if provider == "tensorrt" else ()
        key = (f"{name}/{spec.key}", shapes)
        if key not in self._engines:
            self._engines[key] = self._build(name, spec, provider, precision, threads, scales)
        return self._engines[key]

    def _build(
        self,
        name: str,
        spec: ModelSpec,
        provider: str,
        precision: str,
        threads: int,
        scales: Sequence[Scale],
    ) -> Engine:
        torch = _torch()
        from nstrt.runtime.engines import OnnxEngine, TorchEngine
        from nstrt.runtime.mirror import read_mirror

        plain = self._store.obtain(spec)
        device = torch.device("cuda" if provider in ("cuda", "tensorrt") else "cpu")
        if device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
            torch.backends.cudnn.allow_tf32 = precision == "tf32"
        dtype = torch.float16 if precision == "fp16" else torch.float32
        mirrors = [e.mirror for e in self._engines.values() if hasattr(e, "mirror")]
        mirror = mirrors[0] if mirrors else read_mirror(plain.path, device=device, dtype=dtype)
        if name == "torch":
            return TorchEngine(mirror)
        model = self._store.obtain(spec.as_variant(variant_for(provider, precision)))
        return OnnxEngine(
            mirror,
            open_session(
                model.path,
                provider=provider,
                precision=precision,
                shapes=_shapes(scales),
                threads=threads,
                identity={"model": model.sha256, "device": device_name(provider)},
            ),
        )


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise PackageMissingError(
            'Repainting needs the package torch; install it with: pip install "nstrt[full]"'
        ) from error
    return torch


def _history(options: StylizeOptions, scales: Sequence[Scale]) -> int:
    if options.optimizer != "lbfgs":
        return 0
    return min(options.history, sum(scale.iterations for scale in scales))


def _shapes(scales: Sequence[Scale]) -> tuple[Shape, ...]:
    photos = [(scale.height, scale.width) for scale in scales]
    paintings = [(scale.style_height, scale.style_width) for scale in scales]
    return tuple(dict.fromkeys([*photos, *paintings]))
