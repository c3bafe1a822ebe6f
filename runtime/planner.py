"""From options to a plan and the engine that carries it out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from nstrt.runtime.assembly import Assembly, Site, torch_sees_card
from nstrt.runtime.machine import default_threads, device_name, machine_id, versions
from nstrt.runtime.model import ModelSpec, ModelStore, StoredModel, TooLargeError, WeightsError
from nstrt.runtime.options import StylizeOptions
from nstrt.runtime.plan import Plan, Scale, check_memory, default_size, plan_scales
from nstrt.runtime.providers import Shape, choose_precision, choose_provider, loads

if TYPE_CHECKING:
    from nstrt.runtime.engines import Engine

__all__ = ["Planner", "serves"]

SITES = 2
"""Sites (a provider with its precision and threads) whose networks are kept in memory."""


class Planner:
    """Decides what runs where, once, and keeps what several pictures can share."""

    def __init__(
        self,
        options: StylizeOptions,
        store: ModelStore,
        notify: Callable[[str], None],
        assemblies: dict[Site, Assembly] | None = None,
    ) -> None:
        self.options = options
        self._store = store
        self._notify = notify
        self._assemblies: dict[Site, Assembly] = {} if assemblies is None else assemblies
        self._site: tuple[Site, str] | None = None
        self._model: tuple[ModelSpec, StoredModel, str] | None = None

    def with_options(self, options: StylizeOptions) -> Planner:
        """A planner for other options that shares the networks that are loaded."""
        return Planner(options, self._store, self._notify, self._assemblies)

    def load(self) -> Engine:
        """The engine for these options, its network loaded, for small pictures."""
        from nstrt.runtime.calibrate import SIDES

        site, _ = self._site = self._site or self._choose_site()
        assembly = self._assembly(site)
        spec, _, _ = self._model = self._model or self._choose_model()
        name, _ = self._engine_name(assembly, site, spec)
        return assembly.engine(name, spec, [SIDES])

    def pace_key(self, plan: Plan) -> str:
        """What a run's time depends on, besides its pixels and steps."""
        return machine_id(
            device=plan.device,
            provider=plan.provider,
            precision=plan.precision,
            threads=plan.threads,
            engine=plan.engine,
            optimizer=plan.optimizer,
            pooling=self.options.pooling,
            deepest=self.options.spec.taps[-1],
            versions=versions(),
        )

    def free_memory(self) -> int:
        """Bytes free where the options run."""
        site, _ = self._site = self._site or self._choose_site()
        return site.free_memory()

    def _assembly(self, site: Site) -> Assembly:
        assembly = self._assemblies.pop(site, None) or Assembly(self._store, site)
        # The last one used is the last one; what was not used for longest goes first.
        self._assemblies[site] = assembly
        while len(self._assemblies) > SITES:
            del self._assemblies[next(iter(self._assemblies))]
        assembly.set_up()
        return assembly

    def prepare(self, photo: tuple[int, int], painting: tuple[int, int]) -> tuple[Plan, Engine]:
        """The plan for a photo and a painting of (width, height) pixels, and its engine.

        Raises :class:`~nstrt.runtime.model.NstrtError` if it cannot run here.
        """
        options = self.options
        site, why_there = self._site = self._site or self._choose_site()
        scales = plan_scales(
            options, photo=photo, painting=painting, default=default_size(site.provider)
        )
        history = _history(options, scales)
        enlarged = photo[0] * photo[1] if options.original_size else 0
        # Before the model is touched: what cannot fit with any engine is refused at once.
        if site.torch_device == "cpu":
            least = "torch" if options.engine == "auto" else options.engine
            check_memory(least, scales, history, site.free_memory(), enlarged=enlarged)
        assembly = self._assembly(site)
        free = site.free_memory()
        spec, model, why_these = self._model = self._model or self._choose_model()
        name, why_so = self._engine_name(assembly, site, spec)
        try:
            memory = check_memory(name, scales, history, free, enlarged=enlarged)
        except TooLargeError:
            if options.engine != "auto" or name == "torch" or site.provider == "coreml":
                raise
            name, why_so = "torch", "engine torch, because onnx would take more memory than is free"
            memory = check_memory(name, scales, history, free, enlarged=enlarged)
        engine = assembly.engine(name, spec, _shapes(scales))
        plan = Plan(
            engine=name,
            provider=site.provider,
            precision=site.precision,
            device=device_name(site.provider),
            threads=site.threads,
            scales=scales,
            optimizer=options.optimizer,
            history=history,
            model=model.path.name,
            model_sha256=model.sha256,
            memory=memory,
            nodes=engine.nodes_by_provider(),
            reasons=tuple(reason for reason in (why_there, why_so, why_these) if reason),
        )
        return plan, engine

    def _choose_site(self) -> tuple[Site, str]:
        options = self.options
        asked = options.provider
        auto = partial(serves, engine=options.engine)
        choice = choose_provider(asked, auto if asked == "auto" else loads)
        site = Site(
            provider=choice.provider,
            precision=choose_precision(options.precision, choice.provider),
            threads=options.threads or default_threads(),
        )
        return site, choice.reason

    def _choose_model(self) -> tuple[ModelSpec, StoredModel, str]:
        """The network's specification and file, and why if the weights were chosen."""
        options = self.options
        if options.weights != "auto":
            return options.spec, self._store.obtain(options.spec), ""
        try:
            spec = replace(options, weights="torchvision").spec
            return spec, self._store.obtain(spec), ""
        except WeightsError:
            reason = "torchvision's weights are not to be had here; using oxford instead"
            self._notify(reason + ".")
            spec = replace(options, weights="oxford").spec
            return spec, self._store.obtain(spec), reason

    def _engine_name(self, assembly: Assembly, site: Site, spec: ModelSpec) -> tuple[str, str]:
        """The engine to use and, when it was measured, why."""
        if self.options.engine != "auto":
            return self.options.engine, ""
        if site.provider == "coreml":
            return "onnx", "engine onnx, because torch does not run on Core ML"
        from nstrt.runtime.calibrate import SIDES, faster

        key = machine_id(
            provider=site.provider,
            precision=site.precision,
            threads=site.threads,
            pooling=spec.pooling,
            deepest=spec.taps[-1],
            versions=versions(),
        )
        engines = {
            name: partial(assembly.engine, name, spec, [SIDES]) for name in ("onnx", "torch")
        }
        name, seconds = faster(key, engines)
        other = max(seconds, key=seconds.__getitem__)
        ratio = seconds[other] / seconds[name]
        return name, f"engine {name} measured {ratio:.2f} times as fast as {other} here"


def serves(provider: str, *, engine: str = "auto") -> bool:
    """Whether both halves of a step run on a provider: ONNX Runtime's, and torch's."""
    if not loads(provider):
        return False
    if provider == "coreml":
        return engine != "torch"
    return provider == "cpu" or torch_sees_card()


def _history(options: StylizeOptions, scales: Sequence[Scale]) -> int:
    if options.optimizer != "lbfgs":
        return 0
    return min(options.history, sum(scale.iterations for scale in scales))


def _shapes(scales: Sequence[Scale]) -> tuple[Shape, ...]:
    photos = [(scale.height, scale.width) for scale in scales]
    paintings = [(scale.style_height, scale.style_width) for scale in scales]
    return tuple(dict.fromkeys([*photos, *paintings]))
