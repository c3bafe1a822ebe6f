"""Choice of the provider, its precision and its threads."""

from __future__ import annotations

from functools import partial

from nstrt.runtime.engines.factory import ExecutionTarget, torch_sees_card
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.ort.providers import choose_precision, choose_provider, is_available
from nstrt.runtime.system.host import default_threads

__all__ = ["choose_target", "provider_serves"]


def choose_target(options: StylizeOptions) -> tuple[ExecutionTarget, str]:
    """The target that ``options`` ask for or that suits this machine, and why if it was chosen."""
    provider = options.provider
    auto = partial(provider_serves, engine=options.engine)
    choice = choose_provider(provider, auto if provider == "auto" else is_available)
    target = ExecutionTarget(
        provider=choice.provider,
        precision=choose_precision(options.precision, choice.provider),
        threads=options.threads or default_threads(),
    )
    return target, choice.reason


def provider_serves(provider: str, *, engine: str = "auto") -> bool:
    """True if a whole step runs on ``provider``: ONNX Runtime's part, and torch's if there is
    one."""
    if not is_available(provider):
        return False
    if engine in ("auto", "graph"):
        return True
    if provider == "coreml":
        return engine != "torch"
    return provider == "cpu" or torch_sees_card()
