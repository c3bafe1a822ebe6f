"""From options to a plan and the engine that carries it out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from nstrt.runtime.engines.factory import EngineFactory, ExecutionTarget, has_torch, torch_sees_card
from nstrt.runtime.errors import CheckpointError, ProviderUnavailableError, WeightsError
from nstrt.runtime.kernels.compiled import loops_stamp
from nstrt.runtime.model import ModelSpec, ModelStore
from nstrt.runtime.network.sections import sections_of
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.ort.providers import Shape, choose_precision, choose_provider, loads
from nstrt.runtime.planning.memory import PLANNING_MARGIN, SAFE_SHARE, MemoryDemand, fitted
from nstrt.runtime.planning.plan import Plan, Scale, default_size, plan_scales
from nstrt.runtime.system.host import (
    compiler_versions,
    default_threads,
    device_name,
    has_native_bf16,
    machine_id,
    versions,
)

if TYPE_CHECKING:
    from nstrt.runtime.engines import Engine

__all__ = ["Planner", "choose_weights", "serves"]

_ROUNDED = "torch in bf16"
"""Products of rounded numbers, as one more engine to measure."""

_ROUNDED_GAIN = 1.25
"""How much quicker than exact ones they have to be. The loss falls nearly the same way, step by
step, but the one that they tell of is out by some thousandths."""

MAX_TARGETS = 2
"""Sites (a provider with its precision and threads) whose networks are kept in memory."""


class Planner:
    """Decides what runs where, once, and keeps what several pictures can share."""

    def __init__(
        self,
        options: StylizeOptions,
        store: ModelStore,
        notify: Callable[[str], None],
        assemblies: dict[ExecutionTarget, EngineFactory] | None = None,
    ) -> None:
        self.options = options
        self._store = store
        self._notify = notify
        self._assemblies: dict[ExecutionTarget, EngineFactory] = (
            {} if assemblies is None else assemblies
        )
        self._site: tuple[ExecutionTarget, str] | None = None
        self._weighted: tuple[StylizeOptions, str] | None = None

    def with_options(self, options: StylizeOptions) -> Planner:
        """A planner for other options that shares the networks that are loaded."""
        return Planner(options, self._store, self._notify, self._assemblies)

    def load(self) -> Engine:
        """The engine for these options, its network loaded, for small pictures."""
        from nstrt.runtime.engines.benchmark import SIDES

        site, _ = self._site = self._site or self._choose_site()
        names, why = self._names(site)
        assembly = self._assembly(site, names)
        options, _ = self._weighted = self._weighted or self._choose_weights(names)
        choice = self._choose_engine(assembly, site, names, why)
        return assembly.engine(choice.name, _spec(options, choice.name), [SIDES], choice.precision)

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

    def _assembly(self, site: ExecutionTarget, names: Sequence[str]) -> EngineFactory:
        assembly = self._assemblies.pop(site, None) or EngineFactory(self._store, site)
        # The last one used is the last one; what was not used for longest goes first.
        self._assemblies[site] = assembly
        while len(self._assemblies) > MAX_TARGETS:
            del self._assemblies[next(iter(self._assemblies))]
        if list(names) != ["graph"]:
            assembly.set_up()
        return assembly

    def prepare(
        self, photo: tuple[int, int], *paintings: tuple[int, int], masks: int = 0
    ) -> tuple[Plan, Engine]:
        """The plan for a photo and paintings of (width, height) pixels, and its engine, which can
        have that many ``masks``.

        Raises :class:`NstrtError` if it cannot run here.
        """
        options = self.options
        site, why_there = self._site = self._site or self._choose_site()
        names, why_engine = self._names(site) if not masks else self._guided(site)
        scales = plan_scales(
            options, photo=photo, painting=paintings, default=default_size(site.provider)
        )
        # The leanest engine first, before the model is touched: what it cannot do, none can.
        demand = MemoryDemand(
            engine="torch" if "torch" in names else names[-1],
            precision=site.precision,
            on_card=site.on_card,
            options=options,
            scales=scales,
            history=_history(options, scales),
            sources=_sources(options, photo, paintings, masks),
            masks=masks,
            enlarged=photo[0] * photo[1] if options.original_size else 0,
        )
        fitted(demand, self._budget(site))
        assembly = self._assembly(site, names)
        weighted, why_these = self._weighted = self._weighted or self._choose_weights(names)
        choice = self._choose_engine(assembly, site, names, why_engine)
        demand, why_so = self._fitted(replace(demand, engine=choice.name), site, choice, names)
        precision = choice.precision if demand.engine == choice.name else site.precision
        spec = _spec(weighted, demand.engine)
        model = self._store.obtain(spec)
        if demand.engine == "graph" and any(scale.tile for scale in demand.scales):
            # Found missing now, not in the middle of a run.
            self._store.obtain(spec.as_variant("tile"))
        engine = assembly.engine(demand.engine, spec, _shapes(demand.scales), precision)
        finest = demand.scales[-1]
        sections = sections_of(
            finest.height,
            finest.width,
            finest.tile,
            options.layers,
            in_two=engine.supports_sections,
        )
        kernels = [engine.kernels(section.tiles[0]) for section in sections]
        plan = Plan(
            engine=demand.engine,
            provider=site.provider,
            precision=precision,
            device=device_name(site.provider),
            threads=site.threads,
            scales=demand.scales,
            optimizer=options.optimizer,
            history=demand.history,
            model=model.path.name,
            model_sha256=model.sha256,
            memory=demand.peak,
            kernels={name: chosen for found in kernels for name, chosen in found.items()},
            nodes=engine.nodes_by_provider(),
            reasons=tuple(
                reason for reason in (why_there, why_so, why_these, *_sacrifices(demand)) if reason
            ),
        )
        return plan, engine

    def carry_out(self, plan: Plan) -> Engine:
        """The engine for a plan that was made before, for a run that goes on.

        Raises :class:`CheckpointError` if it cannot be carried out here.
        """
        device = device_name(plan.provider)
        if device != plan.device or not serves(plan.provider, engine=plan.engine):
            raise CheckpointError(
                f"The run was begun with engine {plan.engine} on {plan.provider} ({plan.device}), "
                "which is not to be had here; start again without --resume."
            )
        site = ExecutionTarget(
            provider=plan.provider,
            precision=choose_precision(self.options.precision, plan.provider),
            threads=plan.threads,
        )
        if plan.memory > (free := site.free_memory()):
            raise CheckpointError(
                f"The run was begun with {plan.memory / 1e9:.1f} GB of memory, and "
                f"{free / 1e9:.1f} GB are free now; close other programs, or start again without "
                "--resume."
            )
        assembly = self._assembly(site, [plan.engine])
        weighted, _ = self._choose_weights([plan.engine])
        spec = _spec(weighted, plan.engine)
        model = self._store.obtain(spec)
        if (model.path.name, model.sha256) != (plan.model, plan.model_sha256):
            raise CheckpointError(
                f"The run was begun with the model {plan.model}, and {model.path.name} here is "
                "another; start again without --resume."
            )
        if plan.engine == "graph" and any(scale.tile for scale in plan.scales):
            self._store.obtain(spec.as_variant("tile"))
        return assembly.engine(plan.engine, spec, _shapes(plan.scales), plan.precision)

    def choose_algorithms(self, plan: Plan, engine: Engine) -> None:
        """Choose all algorithms of a run now, so that they are the same however often it is broken
        off and gone on with."""
        layers = self.options.layers
        tiles = {
            (tile.size, str(tile.core), tile.after, tile.layers): tile
            for scale in plan.scales
            for width, height in ((scale.width, scale.height), *scale.styles)
            for section in sections_of(
                height, width, scale.tile, layers, in_two=engine.supports_sections
            )
            for tile in section.tiles
        }
        for tile in tiles.values():
            engine.kernels(tile)

    def _budget(self, site: ExecutionTarget) -> int:
        """Bytes that a run may take."""
        if self.options.max_memory is not None:
            return int(PLANNING_MARGIN * self.options.max_memory * 1e9)
        return int(SAFE_SHARE * site.free_memory())

    def _fitted(
        self, demand: MemoryDemand, site: ExecutionTarget, choice: _Choice, names: Sequence[str]
    ) -> tuple[MemoryDemand, str]:
        """The demand as it fits, and why its engine; the leaner one where it does not fit whole."""
        budget = self._budget(site)
        demand = replace(demand, precision=choice.precision)
        if "torch" in names and demand.engine != "torch" and demand.peak > budget:
            leaner = replace(demand, engine="torch", precision=site.precision)
            reason = f"engine torch, because {demand.engine} would take more memory than it may"
            return fitted(leaner, budget), reason
        return fitted(demand, budget), choice.reason

    def _choose_site(self) -> tuple[ExecutionTarget, str]:
        options = self.options
        asked = options.provider
        auto = partial(serves, engine=options.engine)
        choice = choose_provider(asked, auto if asked == "auto" else loads)
        site = ExecutionTarget(
            provider=choice.provider,
            precision=choose_precision(options.precision, choice.provider),
            threads=options.threads or default_threads(),
        )
        return site, choice.reason

    def _names(self, site: ExecutionTarget) -> tuple[Sequence[str], str]:
        """The engines to choose from, and why if there is no choice; torch is not loaded."""
        names, why = self._possible(site)
        if site.precision == "bf16":
            names = [name for name in names if name != "graph"]
        if not names:
            raise ProviderUnavailableError(
                "Engine graph has no bf16: its graph could not be checked anywhere; use "
                "--precision fp32, or --engine torch."
            )
        return names, why

    def _possible(self, site: ExecutionTarget) -> tuple[Sequence[str], str]:
        """The engines that run on a site, in some precision."""
        asked = self.options.engine
        if asked != "auto":
            return [asked], ""
        if not has_torch():
            return ["graph"], "engine graph, because torch is not installed"
        if site.provider == "coreml":
            return ["onnx"], "engine onnx, because torch does not run on Core ML"
        if site.on_card and not torch_sees_card():
            return ["graph"], "engine graph, because torch does not see the card"
        return ["onnx", "torch", "graph"], ""

    def _guided(self, site: ExecutionTarget) -> tuple[Sequence[str], str]:
        """The engines to choose from for what has masks: the graph of ``graph`` has none."""
        if self.options.engine == "graph":
            raise ProviderUnavailableError(
                "Engine graph knows no masks; use --engine torch or --engine onnx with --region "
                "and --protect."
            )
        names, why = self._names(site)
        if list(names) == ["graph"]:
            raise ProviderUnavailableError(
                "Masks (--region, --protect) need the engines torch or onnx, which do not run "
                'here: install torch with pip install "nstrt[full]", or use --provider cpu.'
            )
        return [name for name in names if name != "graph"], why

    def _choose_weights(self, names: Sequence[str]) -> tuple[StylizeOptions, str]:
        """The options with weights that can be had, and why if they were chosen."""
        options, reason = choose_weights(self.options, self._store, names[0])
        if reason:
            self._notify(reason + ".")
        return options, reason

    def _choose_engine(
        self, assembly: EngineFactory, site: ExecutionTarget, names: Sequence[str], why: str
    ) -> _Choice:
        """The engine to use, the precision of its products and, where measured, why."""
        assert self._weighted is not None
        options = self._weighted[0]
        choices = {name: _Choice(name=name, precision=site.precision) for name in names}
        free = options.precision == "auto" and "torch" in names and site.provider == "cpu"
        if free and has_native_bf16():
            choices[_ROUNDED] = _Choice(name="torch", precision="bf16")
        if len(choices) == 1:
            return replace(next(iter(choices.values())), reason=why)
        from nstrt.runtime.engines.benchmark import SIDES, fastest_engine
        from nstrt.runtime.loss.objective import LossWeights

        key = machine_id(
            provider=site.provider,
            precision=site.precision,
            threads=site.threads,
            pooling=options.pooling,
            deepest=options.spec.taps[-1],
            versions=versions() | compiler_versions(),
            loops=loops_stamp(),
            sides=SIDES,
        )
        engines = {
            words: partial(
                assembly.engine,
                choice.name,
                _spec(options, choice.name),
                [SIDES],
                choice.precision,
            )
            for words, choice in choices.items()
        }
        words, seconds = fastest_engine(key, engines, LossWeights.of(options))
        if words == _ROUNDED and seconds["torch"] < _ROUNDED_GAIN * seconds[words]:
            seconds = {name: took for name, took in seconds.items() if name != words}
            words = min(seconds, key=seconds.__getitem__)
        second = min((other for other in seconds if other != words), key=seconds.__getitem__)
        ratio = seconds[second] / seconds[words]
        reason = f"engine {words} measured {ratio:.2f} times as fast as {second} here"
        return replace(choices[words], reason=reason)


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """An engine and the precision of its products, and why."""

    name: str
    precision: str
    reason: str = ""


def _sacrifices(demand: MemoryDemand) -> Iterator[str]:
    """What was given up to fit into memory, in sentences."""
    tiled = [scale for scale in demand.scales if scale.tile]
    if tiled:
        yield (
            f"in tiles of {tiled[-1].tile} pixels from {tiled[0].width}x{tiled[0].height} on, to "
            "fit into memory; the result is the same"
        )
    if demand.history and demand.history < _history(demand.options, demand.scales):
        yield f"a history of {demand.history} steps for L-BFGS, to fit into memory"


def _spec(options: StylizeOptions, engine: str) -> ModelSpec:
    """The model that an engine starts from."""
    return options.step_spec if engine == "graph" else options.spec


def choose_weights(
    options: StylizeOptions, store: ModelStore, engine: str = "onnx"
) -> tuple[StylizeOptions, str]:
    """The options with weights that can be had for an engine, and why if ``auto`` could not take
    its first choice."""
    if options.weights != "auto":
        return options, ""
    try:
        chosen = replace(options, weights="torchvision")
        store.obtain(_spec(chosen, engine))
    except WeightsError:
        reason = "torchvision's weights are not to be had here; using oxford instead"
        return replace(options, weights="oxford"), reason
    return chosen, ""


def serves(provider: str, *, engine: str = "auto") -> bool:
    """Whether all of a step runs on a provider: ONNX Runtime's part, and torch's if it has one."""
    if not loads(provider):
        return False
    if engine in ("auto", "graph"):
        return True
    if provider == "coreml":
        return engine != "torch"
    return provider == "cpu" or torch_sees_card()


def _history(options: StylizeOptions, scales: Sequence[Scale]) -> int:
    if options.optimizer != "lbfgs":
        return 0
    return min(options.history, sum(scale.iterations for scale in scales))


def _sources(
    options: StylizeOptions,
    photo: tuple[int, int],
    paintings: Sequence[tuple[int, int]],
    masks: int,
) -> int:
    """Pixels of the pictures of a run as they were read, and as colours ask for them."""
    photos = 1 + masks + (options.color in ("content", "match-style"))
    copies = 1 + (options.color in ("content", "match-content"))
    return photos * math.prod(photo) + copies * sum(map(math.prod, paintings))


def _shapes(scales: Sequence[Scale]) -> tuple[Shape, ...]:
    photos = [_within(scale.tile, scale.height, scale.width) for scale in scales]
    paintings = [
        _within(scale.tile, height, width) for scale in scales for width, height in scale.styles
    ]
    return tuple(dict.fromkeys([*photos, *paintings]))


def _within(tile: int | None, height: int, width: int) -> Shape:
    return (height, width) if tile is None else (min(tile, height), min(tile, width))
