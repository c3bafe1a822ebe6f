"""Benchmark of the engines, run once on each machine and then read from the cache."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import numpy as np

from nstrt.runtime.engines.engine import Engine
from nstrt.runtime.engines.evaluation import Evaluation
from nstrt.runtime.engines.loss_targets import objective_for
from nstrt.runtime.loss.objective import LossWeights
from nstrt.runtime.system.cancellation import check_interrupt
from nstrt.runtime.system.measurements import load_measurements, store_measurement

__all__ = ["SIDES", "fastest_engine", "measure_step", "step_pace"]

SIDES = (256, 384)
"""Height and width of the benchmark's image: large enough for the compiled kernels, and to
predict larger images. In small images the deep layers' weights dominate."""

REPEATS = 3
"""Measured steps of each engine, after one to warm up."""


def step_pace(seconds: float) -> float:
    """Seconds for a step of one pixel, from those of a step that was measured here."""
    return seconds / math.prod(SIDES)


def fastest_engine(
    key: str,
    engines: Mapping[str, Callable[[], Engine]],
    weights: LossWeights,
    notify: Callable[[str], None] = lambda line: None,
) -> tuple[str, Mapping[str, float]]:
    """The label of the engine with the shortest step, and the seconds of each.

    ``weights`` selects the layers; ``key`` identifies everything that the times depend on. Stored
    times are used again, so that equal commands give equal pictures. ``notify`` gets a sentence
    before a measurement.
    """
    known = load_measurements("steps").get(key, {})
    if not known.keys() >= engines.keys():
        known = {**known, **_measured(engines, weights, notify)}
        store_measurement("steps", key, known)
    seconds = {name: known[name] for name in engines}
    return min(seconds, key=seconds.__getitem__), seconds


def _measured(
    engines: Mapping[str, Callable[[], Engine]],
    weights: LossWeights,
    notify: Callable[[str], None],
) -> dict[str, float]:
    """Shortest seconds of a step by engine."""
    made = {}
    for name, make in engines.items():
        check_interrupt()
        made[name] = make()
    notify("Measuring the fastest way to paint on this machine (about a minute, once).")
    times: dict[str, list[float]] = {name: [] for name in made}
    # In turn, A B A B, so that other load on the machine falls on all engines.
    for repeat in range(REPEATS + 1):
        for name, engine in made.items():
            check_interrupt()
            took = measure_step(engine, weights)
            if repeat:
                times[name].append(took)
    for engine in made.values():
        engine.release()
    return {name: min(values) for name, values in times.items()}


def measure_step(engine: Engine, weights: LossWeights) -> float:
    """Seconds of one loss and gradient on a small noise image."""
    noise = np.random.default_rng(0).random((1, 3, *SIDES), np.float32)
    image = engine.arrays.from_numpy(noise)
    evaluation = Evaluation(engine)
    objective, _ = objective_for(evaluation, weights, image, image)
    started = time.perf_counter()
    evaluation.loss_and_gradient(image, objective)
    return time.perf_counter() - started
