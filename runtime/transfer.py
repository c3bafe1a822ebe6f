"""The public face of the runtime: one photo, one painting, the photo repainted."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.events import Event, Finished, Preview, ScaleDone, Started, Step
from nstrt.runtime.machine import available_memory, default_threads, machine_id, processor
from nstrt.runtime.model import (
    ModelSpec,
    ModelStore,
    PackageMissingError,
    StoredModel,
    Variant,
    WeightsError,
    in_network_order,
)
from nstrt.runtime.options import INITS, StylizeOptions
from nstrt.runtime.pictures import Picture, PictureSource, as_picture, enlarge, resize
from nstrt.runtime.plan import Plan, Scale, check_memory, default_size, plan_scales
from nstrt.runtime.providers import (
    ProviderChoice,
    Shape,
    choose_precision,
    choose_provider,
    loads,
)
from nstrt.runtime.result import Result
from nstrt.runtime.session import FeatureSession, open_session

if TYPE_CHECKING:
    from nstrt.runtime.engines import Engine
    from nstrt.runtime.loop import Progress

__all__ = ["Run", "StyleTransfer", "features", "stylize"]

Notify = Callable[[str], None]


class StyleTransfer:
    """Repaints photos in the manner of paintings, with the same options.

    One object serves many pictures: the model, its session and the choice of the engine are
    made once. ``notify`` is told, in a sentence, what takes time or was decided on the way.

    Not for several threads at once; :meth:`Run.stop` may come from any.
    """

    def __init__(
        self,
        options: StylizeOptions | None = None,
        *,
        store: ModelStore | None = None,
        notify: Notify | None = None,
    ) -> None:
        self.options = options or StylizeOptions.of()
        self._notify: Notify = notify or (lambda line: None)
        self._store = store or ModelStore(notify=self._notify)
        self._engines: dict[tuple[str, tuple[Shape, ...]], Engine] = {}
        self._choice: ProviderChoice | None = None

    def run(
        self,
        content: PictureSource,
        style: PictureSource,
        *,
        preview_steps: int | None = None,
        preview_seconds: float | None = None,
        started: float | None = None,
    ) -> Run:
        """Start repainting ``content`` in the manner of ``style``; nothing happens before the
        run is iterated.

        Pictures are paths, Pillow images, NumPy arrays, torch tensors or :class:`Picture`.
        Previews come every so many steps or seconds. ``started`` is when the command began, by
        ``time.perf_counter()``, if earlier than now.
        """
        return Run(
            self,
            content,
            style,
            preview_steps=preview_steps,
            preview_seconds=preview_seconds,
            started=time.perf_counter() if started is None else started,
        )

    def stylize(self, content: PictureSource, style: PictureSource) -> Result:
        """Repaint ``content`` in the manner of ``style`` and wait for the result."""
        return self.run(content, style).result()

    def plan(self, photo: tuple[int, int], painting: tuple[int, int]) -> Plan:
        """What would run for a photo and a painting of (width, height) pixels.

        Raises :class:`~nstrt.runtime.model.NstrtError` if it cannot run here.
        """
        return self._prepare(photo, painting)[0]

    def _prepare(self, photo: tuple[int, int], painting: tuple[int, int]) -> tuple[Plan, Engine]:
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
        model = self._store.obtain(spec.as_variant(_variant(provider, precision)))
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


class Run:
    """One picture being repainted: iterate it for its events, stop it from any thread."""

    def __init__(
        self,
        transfer: StyleTransfer,
        content: PictureSource,
        style: PictureSource,
        *,
        preview_steps: int | None,
        preview_seconds: float | None,
        started: float,
    ) -> None:
        self._transfer = transfer
        self._sources = content, style
        self._preview_steps = preview_steps
        self._preview_seconds = preview_seconds
        self._started = started
        self._stop = threading.Event()
        self._result: Result | None = None
        self._events = self._paint()
        self.painting = False
        """Whether a picture would be kept if the run were stopped now."""

    def __iter__(self) -> Iterator[Event]:
        return self._events

    def stop(self) -> None:
        """End after the step that is under way, with the best picture so far. From any thread."""
        self._stop.set()

    def result(self) -> Result:
        """Run to the end, as far as that has not happened, and give the result."""
        for event in self._events:
            if isinstance(event, Finished):
                self._result = event.result
        assert self._result is not None
        return self._result

    def _paint(self) -> Iterator[Event]:
        options = self._transfer.options
        content, style = (as_picture(source) for source in self._sources)
        start = None if options.init in INITS else as_picture(options.init)
        plan, engine = self._transfer._prepare(content.size, style.size)
        from nstrt.runtime.loop import optimize

        pace = _Pace(plan)
        first = plan.scales[0]
        yield Started(
            scale=1,
            width=first.width,
            height=first.height,
            iteration=0,
            step=0,
            terms=None,
            painted=0.0,
            fraction=0.0,
            seconds=self._seconds(),
            seconds_left=None,
            plan=plan,
        )
        last: Progress | None = None
        shown = time.perf_counter()
        pace.begin()
        try:
            for progress in optimize(
                engine,
                options,
                plan,
                content=content,
                style=style,
                start=start,
                stopped=self._stop.is_set,
            ):
                last = progress
                self.painting = True
                place = self._place(progress, plan, pace)
                if progress.scale_done:
                    yield ScaleDone(**place)
                    continue
                yield Step(**place)
                if self._preview_due(progress, shown):
                    shown = time.perf_counter()
                    yield Preview(**place, rgb=progress.picture())
        finally:
            engine.release()
        assert last is not None
        place = self._place(last, plan, pace)
        self._result = self._finish(last, plan, content, style, start)
        place["seconds"] = self._seconds()
        yield Finished(**place, result=self._result)

    def _seconds(self) -> float:
        return time.perf_counter() - self._started

    def _place(self, progress: Progress, plan: Plan, pace: _Pace) -> dict[str, Any]:
        scale = plan.scales[progress.scale]
        fraction, left = pace.at(progress)
        return {
            "scale": progress.scale + 1,
            "width": scale.width,
            "height": scale.height,
            "iteration": progress.iteration,
            "step": progress.step,
            "terms": progress.terms,
            "painted": progress.painted,
            "fraction": fraction,
            "seconds": self._seconds(),
            "seconds_left": left,
        }

    def _preview_due(self, progress: Progress, shown: float) -> bool:
        if self._preview_steps and progress.step % self._preview_steps == 0:
            return True
        return (
            self._preview_seconds is not None
            and time.perf_counter() - shown >= self._preview_seconds
        )

    def _finish(
        self, last: Progress, plan: Plan, content: Picture, style: Picture, start: Picture | None
    ) -> Result:
        options = self._transfer.options
        rgb = last.picture()
        finest = plan.scales[-1]
        if rgb.shape[:2] != (finest.height, finest.width):
            rgb = resize(rgb, finest.width, finest.height)
        if options.original_size:
            rgb = enlarge(rgb, content.rgb)
        alpha = content.alpha
        if alpha is not None and alpha.shape != rgb.shape[:2]:
            alpha = resize(alpha, rgb.shape[1], rgb.shape[0])
        seconds = self._seconds()
        return Result(
            picture=Picture(rgb=rgb, alpha=alpha, depth=content.depth),
            options=options,
            plan=plan,
            terms=last.terms,
            painted=last.painted,
            seconds=seconds,
            stopped=last.step < plan.steps,
            steps=last.step,
            recipe=_recipe(
                options, plan, content, style, start, last, seconds, self._transfer._store
            ),
        )


class _Pace:
    """How far a run is and how long it still takes, from the time its steps took."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._total = sum(scale.work for scale in plan.scales)
        self._last = 0.0
        self._rate: float | None = None

    def begin(self) -> None:
        """The first step is about to start."""
        self._last = time.perf_counter()

    def at(self, progress: Progress) -> tuple[float, float | None]:
        """The fraction of the work that is done, and the seconds to go."""
        now = time.perf_counter()
        scales = self._plan.scales
        here = scales[progress.scale]
        done = sum(scale.work for scale in scales[: progress.scale])
        done += here.width * here.height * progress.iteration
        if not progress.scale_done:
            rate = (now - self._last) / (here.width * here.height)
            # The first step of a scale also prepares its targets: it says little about the rest.
            if self._rate is None or progress.iteration > 1:
                self._rate = rate if self._rate is None else 0.8 * self._rate + 0.2 * rate
        self._last = now
        left = None if self._rate is None else (self._total - done) * self._rate
        return done / self._total, left


def stylize(content: PictureSource, style: PictureSource, **options: Any) -> Result:
    """Repaint ``content`` in the manner of ``style``.

    ``options`` are those of :class:`StylizeOptions`, ``preset`` among them. Pictures are paths,
    Pillow images, NumPy arrays or torch tensors.
    """
    return StyleTransfer(StylizeOptions.of(**options)).stylize(content, style)


def features(
    image: PictureSource,
    layers: Sequence[str],
    *,
    provider: str = "auto",
    weights: str = "oxford",
    pooling: str = "max",
    padding: str = "replicate",
    store: ModelStore | None = None,
) -> dict[str, NDArray[np.float32]]:
    """VGG19's features of a picture: 1 x channels x height x width by layer, on any provider.

    ONNX Runtime computes them; torch is not needed once the model is there.
    """
    picture = as_picture(image)
    session = feature_session(
        ModelSpec(
            taps=in_network_order(layers),
            weights=weights,
            pooling=pooling,  # type: ignore[arg-type]
            padding=padding,  # type: ignore[arg-type]
        ),
        provider=provider,
        shape=(picture.height, picture.width),
        store=store or ModelStore(),
    )
    batch = np.ascontiguousarray(picture.rgb.transpose(2, 0, 1)[None])
    return session.features(batch, list(layers))


def feature_session(
    spec: ModelSpec, *, provider: str, shape: Shape, store: ModelStore
) -> FeatureSession:
    """A session that evaluates the model of ``spec`` on ``provider`` for pictures of ``shape``."""
    choice = choose_provider(provider, loads)
    precision = choose_precision("auto", choice.provider)
    model = store.obtain(spec.as_variant(_variant(choice.provider, precision)))
    return open_session(
        model.path,
        provider=choice.provider,
        precision=precision,
        shapes=[shape],
        threads=default_threads(),
        identity={"model": model.sha256, "device": device_name(choice.provider)},
    )


def device_name(provider: str) -> str:
    """The processor or card that a provider runs on, by name."""
    if provider in ("cuda", "tensorrt"):
        torch = _torch()
        if torch.cuda.is_available():
            return str(torch.cuda.get_device_name())
    return processor()


def versions() -> dict[str, str]:
    """The versions of what decides about pixels and speed."""
    found = {"nstrt": version("nstrt"), "numpy": version("numpy")}
    import onnxruntime

    found["onnxruntime"] = str(onnxruntime.__version__)
    with contextlib.suppress(ModuleNotFoundError):
        found["torch"] = version("torch")
    return found


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise PackageMissingError(
            'Repainting needs the package torch; install it with: pip install "nstrt[full]"'
        ) from error
    return torch


def _variant(provider: str, precision: str) -> Variant:
    """The kind of model file that a provider runs best.

    ONNX Runtime's own fusions are made for the processor; CUDA, TensorRT and Core ML make theirs
    from the plain graph.
    """
    if precision == "fp16":
        return "fp16"
    return "optimized" if provider == "cpu" else "plain"


def _history(options: StylizeOptions, scales: Sequence[Scale]) -> int:
    if options.optimizer != "lbfgs":
        return 0
    return min(options.history, sum(scale.iterations for scale in scales))


def _shapes(scales: Sequence[Scale]) -> tuple[Shape, ...]:
    photos = [(scale.height, scale.width) for scale in scales]
    paintings = [(scale.style_height, scale.style_width) for scale in scales]
    return tuple(dict.fromkeys([*photos, *paintings]))


def _recipe(
    options: StylizeOptions,
    plan: Plan,
    content: Picture,
    style: Picture,
    start: Picture | None,
    last: Progress,
    seconds: float,
    store: ModelStore,
) -> dict[str, Any]:
    """How a picture was made. Names and hashes of files, never paths."""
    asked = options.as_dict()
    asked["init"] = options.init if start is None else start.name
    asked["weights"] = Path(options.weights).name
    recipe: dict[str, Any] = {
        "nstrt": version("nstrt"),
        "content": {"name": content.name, "sha256": content.sha256},
        "style": {"name": style.name, "sha256": style.sha256},
        "options": asked,
        "plan": plan.as_dict(),
        "versions": versions(),
        "losses": {
            "loss": last.terms.loss,
            "content": last.terms.content,
            "style": last.terms.style,
            "tv": last.terms.tv,
            "painted": last.painted,
        },
        "steps": last.step,
        "seconds": round(seconds, 2),
    }
    if start is not None:
        recipe["init"] = {"name": start.name, "sha256": start.sha256}
    return recipe
