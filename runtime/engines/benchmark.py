"""Which engine is faster here: measured once for each machine, then remembered."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from nstrt.runtime.engines import Engine
from nstrt.runtime.engines.evaluation import Evaluation
from nstrt.runtime.loss.objective import LossWeights
from nstrt.runtime.system.measurements import load_measurements, store_measurement

__all__ = ["SIDES", "fastest_engine", "measure_step"]

SIDES = (256, 384)
"""Height and width of the picture measured on: large enough for what large pictures load, and to
tell of them; the smaller a picture, the more its deep layers' weights cost it."""

REPEATS = 3
"""Steps of each engine that count, after one that warms up."""


def fastest_engine(
    key: str, engines: Mapping[str, Callable[[], Engine]], weights: LossWeights
) -> tuple[str, Mapping[str, float]]:
    """The name of the engine with the shorter step, and all their seconds.

    ``weights`` say which layers count; ``key`` stands for all that the measurement depends on.
    What was measured for it before is taken again, so that equal commands give equal pictures.
    """
    known = load_measurements("steps").get(key, {})
    if not known.keys() >= engines.keys():
        known = {**known, **_measured(engines, weights)}
        store_measurement("steps", key, known)
    seconds = {name: known[name] for name in engines}
    return min(seconds, key=seconds.__getitem__), seconds


def _measured(
    engines: Mapping[str, Callable[[], Engine]], weights: LossWeights
) -> dict[str, float]:
    """Each engine's best seconds of a step."""
    made = {name: make() for name, make in engines.items()}
    times: dict[str, list[float]] = {name: [] for name in made}
    # In turn, A B A B: what else the machine does then falls on all of them.
    for repeat in range(REPEATS + 1):
        for name, engine in made.items():
            took = measure_step(engine, weights)
            if repeat:
                times[name].append(took)
    for engine in made.values():
        engine.release()
    return {name: min(values) for name, values in times.items()}


def measure_step(engine: Engine, weights: LossWeights) -> float:
    """Seconds of one loss and gradient on a small noise picture."""
    noise = np.random.default_rng(0).random((1, 3, *SIDES), np.float32)
    image = engine.arrays.place(noise)
    evaluation = Evaluation(engine)
    objective, _ = evaluation.objective(weights, image, image)
    started = time.perf_counter()
    evaluation.evaluate(image, objective)
    return time.perf_counter() - started
