"""From options to a plan and the engine that carries it out."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from nstrt.runtime.engines.benchmark import SIDES, measure_step, step_pace
from nstrt.runtime.engines.factory import (
    EngineFactory,
    ExecutionTarget,
    torch_reserve,
)
from nstrt.runtime.errors import CheckpointError, TooLargeError
from nstrt.runtime.kernels.compiled import is_large, left_out_reason, uncached_reason
from nstrt.runtime.model import ModelStore, StoredModel
from nstrt.runtime.network.sections import Section, sections_of
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.ort.providers import Shape, choose_precision
from nstrt.runtime.planning.engine_choice import (
    EngineChoice,
    candidate_engines,
    choose_engine,
    engines_within_limits,
)
from nstrt.runtime.planning.estimate import Estimate, known_pace
from nstrt.runtime.planning.loss_weights import loss_weights
from nstrt.runtime.planning.memory import (
    PLANNING_MARGIN,
    SAFE_SHARE,
    MemoryDemand,
    fit_to_memory,
    fitting_size,
    source_pixels,
)
from nstrt.runtime.planning.plan import LOOPS, Plan, Scale, default_size, plan_scales
from nstrt.runtime.planning.provider_choice import choose_target, provider_serves
from nstrt.runtime.planning.weights_choice import choose_weights, spec_for
from nstrt.runtime.system.host import device_name, machine_id, versions
from nstrt.runtime.system.measurements import repair_measurements
from nstrt.runtime.system.memory import is_out_of_memory, process_limits
from nstrt.runtime.system.words import spelled

if TYPE_CHECKING:
    from nstrt.runtime.engines.engine import Engine

__all__ = ["Planner"]

MAX_TARGETS = 2
"""Execution targets whose networks stay in memory."""


class Planner:
    """Plans runs, and keeps the networks that several runs share."""

    def __init__(
        self,
        options: StylizeOptions,
        store: ModelStore,
        notify: Callable[[str], None],
        factories: dict[ExecutionTarget, EngineFactory] | None = None,
        paces: dict[str, float] | None = None,
    ) -> None:
        self.options = options
        self._store = store
        self._notify = notify
        self._factories: dict[ExecutionTarget, EngineFactory] = (
            {} if factories is None else factories
        )
        self._paces: dict[str, float] = {} if paces is None else paces
        """Seconds for a step of one pixel by :meth:`pace_key`, measured to choose the engine."""
        self.most_bytes: int | None = None
        """Most bytes of a run, after one that ran out of memory; None for what is free."""
        self._target: tuple[ExecutionTarget, str] | None = None
        self._weighted: tuple[StylizeOptions, str] | None = None

    def with_options(self, options: StylizeOptions) -> Planner:
        """A planner for other options that shares the loaded networks."""
        return Planner(options, self._store, self._notify, self._factories, self._paces)

    def within(self, most_bytes: int) -> Planner:
        """A planner for runs of at most ``most_bytes``."""
        other = self.with_options(self.options)
        other.most_bytes = most_bytes
        return other

    def load_small(self) -> Engine:
        """The engine for these options, with its network loaded, for small pictures."""
        repair_measurements(self._notify)
        target, _ = self._chosen_target()
        names, reason = candidate_engines(self.options, target, masks=False)
        names, reason = engines_within_limits(names, reason, target, masks=False)
        factory = self._factory(target, names)
        options, _ = self._chosen_weights(names)
        choice = choose_engine(options, target, names, reason, factory, self._notify)
        return factory.engine(
            choice.name, spec_for(options, choice.name), [SIDES], choice.precision
        )

    def load_and_plan(
        self,
        photo: tuple[int, int],
        *paintings: tuple[int, int],
        masks: int = 0,
        part_of_paintings: bool = False,
    ) -> tuple[Plan, Engine]:
        """Load the network, plan a run, and return the plan with its engine.

        Sizes are (width, height) in pixels; ``part_of_paintings`` says that some painting has a
        mask or transparency. Measures engines and algorithms where no measurement
        is stored, which takes seconds. Raises :class:`NstrtError` if the run cannot run here.
        """
        repair_measurements(self._notify)
        options = self.options
        target, target_reason = self._chosen_target()
        names, reason = candidate_engines(options, target, masks=masks > 0)
        names, reason = engines_within_limits(names, reason, target, masks=masks > 0)
        scales = plan_scales(
            options, photo=photo, painting=paintings, default=default_size(target.provider)
        )
        # The leanest engine first, before the model is touched: what it cannot do, none can.
        demand = MemoryDemand(
            engine="torch" if "torch" in names else names[-1],
            precision=target.precision,
            on_card=target.on_card,
            options=options,
            scales=scales,
            history=_history(options, scales),
            sources=source_pixels(options, photo, paintings, masks, part_of_paintings),
            masks=masks,
            part_of_paintings=part_of_paintings,
            enlarged=photo[0] * photo[1] if options.original_size else 0,
        )
        names, reason = self._engines_that_fit(names, reason, demand, target)
        try:
            return self._load(demand, target, target_reason, names, reason)
        except (MemoryError, RuntimeError, TooLargeError) as error:
            if not is_out_of_memory(error):
                raise
            if len(names) == 1 or "graph" not in names:
                raise
        # Outside of the handler, whose error would keep the memory that was taken.
        gc.collect()
        reason = "engine graph, because the memory did not suffice for torch"
        return self._load(demand, target, target_reason, ["graph"], reason)

    def _load(
        self,
        demand: MemoryDemand,
        target: ExecutionTarget,
        target_reason: str,
        names: Sequence[str],
        engine_reason: str,
    ) -> tuple[Plan, Engine]:
        """Load one of the engines ``names``, and plan the run with it."""
        options = self.options
        factory = self._factory(target, names)
        weighted, weights_reason = self._chosen_weights(names)
        choice = choose_engine(weighted, target, names, engine_reason, factory, self._notify)
        demand, engine_reason = self._fit(
            replace(demand, engine=choice.name), target, choice, names
        )
        precision = choice.precision if demand.engine == choice.name else target.precision
        model = self._obtain_model(weighted, demand.engine, demand.scales)
        spec = spec_for(weighted, demand.engine)
        shapes = _shapes(demand.scales, spec.border)
        engine = factory.engine(demand.engine, spec, shapes, precision)
        plan = Plan(
            engine=demand.engine,
            provider=target.provider,
            precision=precision,
            device=device_name(target.provider),
            threads=target.threads,
            scales=demand.scales,
            optimizer=options.optimizer,
            history=demand.history,
            model=model.path.name,
            model_sha256=model.sha256,
            memory=demand.peak,
            kernels=self._finest_kernels(engine, demand.scales[-1]),
            nodes=engine.nodes_by_provider(),
            reasons=tuple(
                reason
                for reason in (
                    target_reason,
                    engine_reason,
                    weights_reason,
                    _compiling_reason(demand),
                    *_memory_reasons(demand),
                )
                if reason
            ),
        )
        if choice.step_seconds is not None and demand.engine == choice.name:
            self._paces[self.pace_key(plan)] = step_pace(choice.step_seconds)
        return plan, engine

    def load_planned(self, plan: Plan) -> Engine:
        """Load the engine of a plan that was made before, to resume its run.

        Raises :class:`CheckpointError` if the plan cannot be carried out here.
        """
        device = device_name(plan.provider)
        if device != plan.device or not provider_serves(plan.provider, engine=plan.engine):
            raise CheckpointError(
                f"The run was begun with engine {plan.engine} on {plan.provider} ({plan.device}), "
                f"which is not to be had here; start again without {spelled('resume', True)}."
            )
        target = ExecutionTarget(
            provider=plan.provider,
            precision=choose_precision(self.options.precision, plan.provider),
            threads=plan.threads,
        )
        if plan.memory > (free := target.free_memory()):
            raise CheckpointError(
                f"The run was begun with {plan.memory / 1e9:.1f} GB of memory, and "
                f"{free / 1e9:.1f} GB are free now; close other programs, or start again without "
                f"{spelled('resume', True)}."
            )
        factory = self._factory(target, [plan.engine])
        weighted, _ = self._choose_weights([plan.engine])
        model = self._obtain_model(weighted, plan.engine, plan.scales)
        if (model.path.name, model.sha256) != (plan.model, plan.model_sha256):
            raise CheckpointError(
                f"The run was begun with the model {plan.model}, and {model.path.name} here is "
                f"another; start again without {spelled('resume', True)}."
            )
        spec = spec_for(weighted, plan.engine)
        return factory.engine(plan.engine, spec, _shapes(plan.scales, spec.border), plan.precision)

    def choose_algorithms(self, plan: Plan, engine: Engine) -> None:
        """Choose the algorithms of a whole run now, so that a resumed run has the same."""
        tiles = {
            (tile.size, str(tile.core), tile.after, tile.layers): tile
            for scale in plan.scales
            for width, height in scale.seen(self.options.spec.border)
            for section in self._sections(engine, height, width, scale.tile)
            for tile in section.tiles
        }
        for tile in tiles.values():
            engine.kernels(tile)

    def as_run(self, plan: Plan, engine: Engine) -> Plan:
        """The plan of a run that ended, with the algorithms and loops that it really used."""
        kernels = self._finest_kernels(engine, plan.scales[-1])
        reason = left_out_reason() if _uses_loops(plan) else ""
        if reason:
            reason = (
                f"{LOOPS} are left out ({reason}); torch's own operations, which take "
                "longer, take their place"
            )
        known = plan.reasons if not reason or reason in plan.reasons else (*plan.reasons, reason)
        return replace(plan, kernels=kernels, reasons=known)

    def pace_key(self, plan: Plan) -> str:
        """Key of everything that a run's time depends on, besides its pixels and steps."""
        return machine_id(
            device=plan.device,
            provider=plan.provider,
            precision=plan.precision,
            threads=plan.threads,
            engine=plan.engine,
            optimizer=plan.optimizer,
            pooling=self.options.pooling,
            style_loss=self.options.style_loss,
            deepest=self.options.spec.taps[-1],
            versions=versions(),
        )

    def known_seconds(self, plan: Plan) -> float | None:
        """Seconds of a plan by earlier runs or by the engine's choice; None if nothing is known."""
        key = self.pace_key(plan)
        pace = known_pace(key) or self._paces.get(key)
        return None if pace is None else plan.work * pace

    def estimate(self, plan: Plan, engine: Engine) -> Estimate:
        """Time and memory of a plan that is loaded in ``engine``.

        Takes a small step if nothing is known of the time.
        """
        seconds = self.known_seconds(plan)
        if seconds is None:
            weights = loss_weights(self.options)
            measure_step(engine, weights)
            self._paces[self.pace_key(plan)] = pace = step_pace(measure_step(engine, weights))
            engine.release()
            seconds = plan.work * pace
        return Estimate(plan=plan, seconds=seconds, available=self.free_memory())

    def free_memory(self) -> int:
        """Free bytes of memory where the options run."""
        target, _ = self._chosen_target()
        return target.free_memory()

    def _chosen_target(self) -> tuple[ExecutionTarget, str]:
        if self._target is None:
            self._target = choose_target(self.options)
        return self._target

    def _chosen_weights(self, names: Sequence[str]) -> tuple[StylizeOptions, str]:
        """The options with available weights, chosen once."""
        if self._weighted is None:
            self._weighted = self._choose_weights(names)
        return self._weighted

    def _choose_weights(self, names: Sequence[str]) -> tuple[StylizeOptions, str]:
        options, reason = choose_weights(self.options, self._store, names[0])
        if reason:
            self._notify(reason + ".")
        return options, reason

    def _factory(self, target: ExecutionTarget, names: Sequence[str]) -> EngineFactory:
        """The target's factory; drops the factories that were not used for longest."""
        factory = self._factories.pop(target, None) or EngineFactory(self._store, target)
        self._factories[target] = factory
        while len(self._factories) > MAX_TARGETS:
            del self._factories[next(iter(self._factories))]
        if list(names) != ["graph"]:
            factory.configure_torch()
        return factory

    def _obtain_model(
        self, options: StylizeOptions, engine: str, scales: Sequence[Scale]
    ) -> StoredModel:
        """The engine's model, and its companion for tiles: found missing now, not in a run."""
        spec = spec_for(options, engine)
        model = self._store.obtain(spec)
        if engine == "graph" and (
            options.style_loss != "gram" or any(scale.tile for scale in scales)
        ):
            self._store.obtain(spec.as_variant("tile"))
        return model

    def _finest_kernels(self, engine: Engine, finest: Scale) -> dict[str, str]:
        """Algorithms of the first tile of each section at the finest scale."""
        width, height = finest.seen(self.options.spec.border)[0]
        sections = self._sections(engine, height, width, finest.tile)
        return {
            name: algorithm
            for section in sections
            for name, algorithm in engine.kernels(section.tiles[0]).items()
        }

    def _sections(self, engine: Engine, height: int, width: int, tile: int | None) -> list[Section]:
        layers = self.options.layers
        return sections_of(height, width, tile, layers, in_two=engine.supports_sections)

    def _engines_that_fit(
        self, names: Sequence[str], reason: str, demand: MemoryDemand, target: ExecutionTarget
    ) -> tuple[Sequence[str], str]:
        """The engines ``names``, or ``graph`` alone where torch fits at no size.

        Checks the leanest engine before the model is touched: what it cannot do, none can.
        """
        budget = self._budget(target, demand.engine)
        try:
            fit_to_memory(demand, budget)
        except TooLargeError:
            graph = replace(demand, engine="graph")
            if demand.engine == "graph" or "graph" not in names:
                raise
            if fitting_size(demand, budget):
                raise
            fit_to_memory(graph, self._budget(target, "graph"))
            return ["graph"], "engine graph, because torch would take more memory than it may"
        return names, reason

    def _budget(self, target: ExecutionTarget, engine: str) -> int:
        """Bytes that a run with ``engine`` may take."""
        free = target.free_memory()
        if engine != "graph" and not target.on_card:
            free -= torch_reserve() or 0
        safe = int(SAFE_SHARE * free)
        if self.most_bytes is not None:
            safe = min(safe, self.most_bytes)
        if self.options.max_memory is None:
            return safe
        asked = int(PLANNING_MARGIN * self.options.max_memory * 1e9)
        # Beyond the process's own limits no memory is to be had, whatever was asked for.
        limited = self.most_bytes is not None or any(process_limits())
        return min(asked, safe) if limited else asked

    def _fit(
        self,
        demand: MemoryDemand,
        target: ExecutionTarget,
        choice: EngineChoice,
        names: Sequence[str],
    ) -> tuple[MemoryDemand, str]:
        """The demand as it fits, and why its engine; engine ``torch`` where another one does not
        fit whole."""
        budget = self._budget(target, demand.engine)
        demand = replace(demand, precision=choice.precision)
        if "torch" in names and demand.engine != "torch" and demand.peak > budget:
            budget = self._budget(target, "torch")
            leaner = replace(demand, engine="torch", precision=target.precision)
            reason = f"engine torch, because {demand.engine} would take more memory than it may"
            return fit_to_memory(leaner, budget), reason
        return fit_to_memory(demand, budget), choice.reason


def _memory_reasons(demand: MemoryDemand) -> Iterator[str]:
    """Sentences on what was reduced to fit into memory."""
    tiled = [scale for scale in demand.scales if scale.tile]
    if tiled:
        yield (
            f"in tiles of {tiled[-1].tile} pixels from {tiled[0].width}x{tiled[0].height} on, to "
            "fit into memory; the result is the same"
        )
    if demand.history and demand.history < _history(demand.options, demand.scales):
        yield f"a history of {demand.history} steps for L-BFGS, to fit into memory"


def _uses_loops(plan: Plan | MemoryDemand) -> bool:
    """True if a run is large enough for compiled loops, on a processor with torch."""
    large = any(is_large(scale.height, scale.width) or scale.tile for scale in plan.scales)
    return large and plan.engine != "graph"


def _compiling_reason(demand: MemoryDemand) -> str:
    """Sentence on compiled code that cannot be cached."""
    if demand.on_card or not _uses_loops(demand) or not find_spec("numba") or not uncached_reason():
        return ""
    return f"{LOOPS} are compiled for this run only, because the cache folder cannot be written"


def _history(options: StylizeOptions, scales: Sequence[Scale]) -> int:
    if options.optimizer != "lbfgs":
        return 0
    return min(options.history, sum(scale.iterations for scale in scales))


def _shapes(scales: Sequence[Scale], border: int) -> tuple[Shape, ...]:
    """Shapes of all images and tiles, as the network sees them."""
    sizes = [(scale.tile, size) for scale in scales for size in scale.seen(border)]
    return tuple(dict.fromkeys(_tile_shape(tile, height, width) for tile, (width, height) in sizes))


def _tile_shape(tile: int | None, height: int, width: int) -> Shape:
    return (height, width) if tile is None else (min(tile, height), min(tile, width))
