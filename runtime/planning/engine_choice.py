"""Choice of the engine: the candidates, and the measurement that decides between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from nstrt.runtime.engines.factory import (
    EngineFactory,
    ExecutionTarget,
    has_torch,
    torch_reserve,
    torch_sees_card,
    torch_too_large,
)
from nstrt.runtime.errors import ProviderUnavailableError
from nstrt.runtime.kernels.compiled import kernels_fingerprint
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.planning.loss_weights import loss_weights
from nstrt.runtime.planning.weights_choice import spec_for
from nstrt.runtime.system.host import (
    compiler_versions,
    has_native_bf16,
    machine_id,
    versions,
)
from nstrt.runtime.system.memory import process_limits
from nstrt.runtime.system.words import spelled

__all__ = ["EngineChoice", "candidate_engines", "choose_engine", "engines_within_limits"]

_ROOM = 3_000_000_000
"""Bytes within a process's own limits in which engines are measured."""

_BF16_ENGINE = "torch in bf16"
"""Name of engine ``torch`` with bf16 products, one more engine to measure."""

_BF16_GAIN = 1.25
"""Times that bf16 products must be faster. The loss falls nearly as with exact ones, but the loss
that they report is out by some thousandths."""


@dataclass(frozen=True, kw_only=True)
class EngineChoice:
    """An engine, the precision of its products, and why it was chosen."""

    name: str
    precision: str
    reason: str = ""
    step_seconds: float | None = None
    """Measured seconds of a step of the benchmark's image; None if it was not measured."""


def candidate_engines(
    options: StylizeOptions, target: ExecutionTarget, *, masks: bool
) -> tuple[Sequence[str], str]:
    """Engines that can run on ``target``, and why if there is just one; does not load torch.

    Raises :class:`ProviderUnavailableError` if none can, with ``masks`` or without.
    """
    if masks and options.engine == "graph":
        raise ProviderUnavailableError(
            f"Engine graph knows no masks; use {spelled('engine', 'torch')} or "
            f"{spelled('engine', 'onnx')} with {spelled('regions')} and {spelled('protect')}."
        )
    names, reason = _engines_on(options, target)
    if target.precision == "bf16":
        names = [name for name in names if name != "graph"]
    if not names:
        raise ProviderUnavailableError(
            "Engine graph has no bf16: its graph could not be checked anywhere; use "
            f"{spelled('precision', 'fp32')}, or {spelled('engine', 'torch')}."
        )
    if not masks:
        return names, reason
    if list(names) == ["graph"]:
        raise ProviderUnavailableError(
            f"Masks ({spelled('regions')}, {spelled('protect')}) need the engines torch or onnx, "
            'which do not run here: install torch with pip install "nstrt[full]", or use '
            f"{spelled('provider', 'cpu')}."
        )
    return [name for name in names if name != "graph"], reason


def engines_within_limits(
    names: Sequence[str], reason: str, target: ExecutionTarget, *, masks: bool
) -> tuple[Sequence[str], str]:
    """The engines ``names`` that a process's own limits of memory allow, and why if there is one.

    Raises :class:`TooLargeError` if none is allowed.
    """
    if list(names) == ["graph"] or not any(process_limits()):
        return names, reason
    reserve = torch_reserve()
    leanest = "graph" if "graph" in names else "torch" if "torch" in names else names[0]
    why = f"engine {leanest}, because torch would take more memory than it may"
    if reserve is None:
        if leanest != "graph":
            raise torch_too_large(graph=not masks)
        return [leanest], why
    if len(names) > 1 and target.free_memory() - reserve < _ROOM:
        # Measured engines take memory together, and wait for threads that cannot start.
        return [leanest], why if leanest == "graph" else "engine torch, which takes least memory"
    return names, reason


def _engines_on(options: StylizeOptions, target: ExecutionTarget) -> tuple[Sequence[str], str]:
    """Engines that run on ``target`` in some precision, and why if there is just one."""
    if options.engine != "auto":
        return [options.engine], ""
    if not has_torch():
        return ["graph"], "engine graph, because torch is not installed"
    if target.provider == "coreml":
        return ["onnx"], "engine onnx, because torch does not run on Core ML"
    if target.on_card and not torch_sees_card():
        return ["graph"], "engine graph, because torch does not see the card"
    return ["onnx", "torch", "graph"], ""


def choose_engine(
    options: StylizeOptions,
    target: ExecutionTarget,
    names: Sequence[str],
    reason: str,
    factory: EngineFactory,
    notify: Callable[[str], None],
) -> EngineChoice:
    """The fastest of the engines ``names``; measures those that were not measured before.

    ``reason`` explains a list of one. ``notify`` gets a sentence before a measurement.
    """
    choices = {name: EngineChoice(name=name, precision=target.precision) for name in names}
    any_precision = options.precision == "auto" and "torch" in names and target.provider == "cpu"
    if any_precision and has_native_bf16():
        choices[_BF16_ENGINE] = EngineChoice(name="torch", precision="bf16")
    if len(choices) == 1:
        return replace(next(iter(choices.values())), reason=reason)
    from nstrt.runtime.engines.benchmark import SIDES, fastest_engine

    key = machine_id(
        provider=target.provider,
        precision=target.precision,
        threads=target.threads,
        pooling=options.pooling,
        style_loss=options.style_loss,
        deepest=options.spec.taps[-1],
        versions=versions() | compiler_versions(),
        loops=kernels_fingerprint(),
        sides=SIDES,
    )
    engines = {
        label: partial(
            factory.engine,
            choice.name,
            spec_for(options, choice.name),
            [SIDES],
            choice.precision,
        )
        for label, choice in choices.items()
    }
    label, seconds = fastest_engine(key, engines, loss_weights(options), notify)
    if label == _BF16_ENGINE and seconds["torch"] < _BF16_GAIN * seconds[label]:
        seconds = {name: took for name, took in seconds.items() if name != label}
        label = min(seconds, key=seconds.__getitem__)
    others = [name for name in seconds if name != label]
    if not others:
        # Only engine torch was to be had, and bf16 products were not much faster.
        return replace(choices[label], reason=reason, step_seconds=seconds[label])
    second = min(others, key=seconds.__getitem__)
    ratio = seconds[second] / seconds[label]
    reason = f"engine {label} measured {ratio:.2f} times as fast as {second} here"
    return replace(choices[label], reason=reason, step_seconds=seconds[label])
