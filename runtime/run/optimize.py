"""Coarse to fine: the optimisation itself, as a generator of where it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.arrays import Array, arrays_of
from nstrt.runtime.engines import Engine
from nstrt.runtime.engines.evaluation import Evaluation
from nstrt.runtime.loss.objective import LossWeights, Objective
from nstrt.runtime.loss.terms import LossTerms
from nstrt.runtime.optim.optimizers import Adam, IterateAverage, Lbfgs, Optimizer
from nstrt.runtime.optim.state import State
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.pictures import Picture
from nstrt.runtime.planning.plan import Plan, Scale
from nstrt.runtime.run.inputs import RunInputs, placed

__all__ = ["Progress", "optimize"]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One step of the loop, or the end of a scale."""

    scale: int
    """Index of the scale, from 0."""

    iteration: int
    """Steps done at this scale."""

    step: int
    """Steps done over the whole run."""

    terms: LossTerms
    """The loss before this step; at the end of a scale, that of the picture it leaves."""

    painted: float
    """One less the style loss over the photo's own, 0 to 1."""

    scale_done: bool
    """Whether this is the end of a scale."""

    complete: bool
    """Whether the scale has all the steps that it was to take, or that still gained something."""

    picture: Callable[[], NDArray[np.float32]]
    """The best picture so far: height x width x 3 in 0..1."""

    state: Callable[[], State]
    """What to go on from here takes, until the loop goes on itself."""


def optimize(
    engine: Engine,
    options: StylizeOptions,
    plan: Plan,
    *,
    scene: RunInputs,
    start: Picture | None = None,
    resumed: State | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Progress]:
    """Paint the photo of a scene in the manner of its paintings, one :class:`Progress` a step.

    Starts from ``start``, or from what ``options.init`` names, or goes on from ``resumed``, the
    state of a run with equal arguments, to what that run would have come to, to the bit. Ends
    early, after a whole step, when ``stopped`` says so; a picture is given out in any case.
    """
    weights = LossWeights.of(options)
    optimizer = _optimizer(options, plan)
    arrays = engine.arrays
    image: Array | None = None
    step = begun = 0
    if resumed is not None:
        image, step, begun = resumed["image"], resumed["step"], resumed["scale"]
        optimizer.restore(resumed["optimizer"])
        if resumed["ended"]:
            begun, resumed = begun + 1, None

    def state() -> State:
        return {
            "scale": index,
            "iteration": iteration,
            "step": step,
            "complete": complete,
            "ended": ended,
            "image": image,
            "optimizer": optimizer.state(),
            "best": None if ended else best.state(),
            "gain": None if ended else gain.state(),
        }

    for index, scale in list(enumerate(plan.scales))[begun:]:
        photo = placed(scene.content, scale.width, scale.height, arrays)
        evaluation = Evaluation(engine, tile=scale.tile)
        objective, baseline = scene.objective(evaluation, weights, scale, photo)
        if image is None:
            image = _first(options, scale, photo, start)
        elif resumed is None:
            image = _resized(image, scale)
            if options.clamp:
                arrays.clamp(image)
            optimizer.rescaled(partial(_resized, scale=scale))
        del photo

        average = options.optimizer == "adam" and options.average
        best = _Best(average=average, last=options.keep == "last")
        gain = _Gain(options.tolerance)
        iteration, complete, ended = 0, False, False
        if resumed is not None:
            best.restore(resumed["best"])
            gain.restore(resumed["gain"])
            iteration, complete = resumed["iteration"], resumed["complete"]
            resumed = None
        at = _At(index, iteration, step, complete)
        while not complete:
            terms, gradient = evaluation.evaluate(image, objective)
            best.see(image, terms)
            optimizer.update(image, terms.loss, gradient)
            del gradient
            best.moved(image)
            step += 1
            iteration += 1
            complete = iteration == scale.iterations or not gain.goes_on(terms.loss)
            at = _At(index, iteration, step, complete)
            yield _progress(at, terms, baseline, best, state, done=False)
            if stopped():
                break
        picture, terms = best.settle(image, evaluation, objective)
        if complete and index + 1 < len(plan.scales):
            image, ended = picture, True
        yield _progress(at, terms, baseline, best, state, done=True)
        if stopped():
            return


@dataclass(frozen=True)
class _At:
    """A place in the run, as in :class:`Progress`."""

    scale: int
    iteration: int
    step: int
    complete: bool


def _progress(
    at: _At,
    terms: LossTerms,
    baseline: float,
    best: _Best,
    state: Callable[[], State],
    *,
    done: bool,
) -> Progress:
    return Progress(
        scale=at.scale,
        iteration=at.iteration,
        step=at.step,
        complete=at.complete,
        terms=terms,
        painted=_painted(terms, baseline),
        scale_done=done,
        picture=best.picture,
        state=state,
    )


class _Gain:
    """Whether the last steps at a scale still lowered its loss by the share of ``tolerance``."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._lowest: deque[float] = deque(maxlen=_STEPS_THAT_GAIN + 1)

    def goes_on(self, loss: float) -> bool:
        """Take in a step's loss."""
        self._lowest.append(min([loss, *self._lowest]))
        if not self._tolerance or len(self._lowest) <= _STEPS_THAT_GAIN:
            return True
        return self._lowest[-1] <= (1 - self._tolerance) * self._lowest[0]

    def state(self) -> State:
        """What a checkpoint holds."""
        return {"lowest": list(self._lowest)}

    def restore(self, state: State) -> None:
        """Go on from it."""
        self._lowest.extend(state["lowest"])


_STEPS_THAT_GAIN = 10
"""Steps after which something must have been gained: L-BFGS may shorten a few in a row."""


class _Best:
    """The picture that a scale leaves: of lowest loss, the last, or the average of the last."""

    def __init__(self, *, average: bool, last: bool) -> None:
        self._last = last
        self._average = IterateAverage() if average else None
        self._image: Array | None = None
        self._terms: LossTerms | None = None
        self._settled: Array | None = None

    def see(self, image: Array, terms: LossTerms) -> None:
        """An image whose loss is known."""
        if self._average is None and self._better(terms):
            # One buffer for the whole scale: no fresh memory at each step.
            if self._image is None:
                self._image = arrays_of(image).copy(image)
            else:
                self._image[...] = image
            self._terms = terms

    def _better(self, terms: LossTerms) -> bool:
        return self._last or self._terms is None or terms.loss <= self._terms.loss

    def moved(self, image: Array) -> None:
        """An image after its step, whose loss is not known yet."""
        if self._average is not None:
            self._average.add(image)

    def settle(
        self, image: Array, evaluation: Evaluation, objective: Objective
    ) -> tuple[Array, LossTerms]:
        """The picture to go on from, and its loss.

        The last step's image was not evaluated yet: it is, and counts if it is better.
        """
        if self._average is not None:
            image = self._average.value()
        terms = evaluation.measure(image, objective)
        if self._average is not None or self._better(terms):
            # Nobody moves it any more: the next scale makes its own.
            self._settled = image
            return image, terms
        assert self._image is not None
        assert self._terms is not None
        return self._image, self._terms

    def picture(self) -> NDArray[np.float32]:
        """As height x width x 3 in 0..1."""
        image, weight = self._settled, 1.0
        if image is None:
            average = self._average
            image, weight = (self._image, 1.0) if average is None else average.weighted()
        assert image is not None
        values = arrays_of(image).fetch(image[0].swapaxes(0, 1).swapaxes(1, 2))
        if weight != 1:
            values /= weight
        return np.clip(values, 0, 1, out=values)

    def state(self) -> State:
        """What a checkpoint holds; what was settled on is not in it."""
        return {
            "image": self._image,
            "terms": None if self._terms is None else asdict(self._terms),
            "average": None if self._average is None else self._average.state(),
        }

    def restore(self, state: State) -> None:
        """Go on from it."""
        self._image = state["image"]
        self._terms = None if state["terms"] is None else LossTerms(**state["terms"])
        if self._average is not None:
            self._average.restore(state["average"])


def _optimizer(options: StylizeOptions, plan: Plan) -> Optimizer:
    if options.optimizer == "adam":
        return Adam(
            learning_rate=options.learning_rate, beta2=options.adam_beta2, clamp=options.clamp
        )
    return Lbfgs(history=max(1, plan.history), clamp=options.clamp)


def _painted(terms: LossTerms, baseline: float) -> float:
    if not baseline > 0:
        return 1.0
    return min(1.0, max(0.0, 1 - terms.style / baseline))


def _first(options: StylizeOptions, scale: Scale, photo: Array, start: Picture | None) -> Array:
    """Where the painting starts from."""
    arrays = arrays_of(photo)
    if start is not None:
        return placed(start, scale.width, scale.height, arrays)
    if options.init == "noise":
        # Made by NumPy, so that a seed means the same for every engine and device.
        values = np.random.default_rng(options.seed).random(tuple(photo.shape), np.float32)
        return arrays.place(values)
    image = arrays.copy(photo)
    if options.init == "gray":
        image[...] = 0.5
    return image


def _resized(array: Array, scale: Scale) -> Array:
    return arrays_of(array).resized(array, scale.height, scale.width)
