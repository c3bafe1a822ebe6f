"""Optimisation of the image, coarse to fine, as a generator of steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.arrays import Array, arrays_of
from nstrt.runtime.engines.engine import Engine
from nstrt.runtime.engines.evaluation import Evaluation
from nstrt.runtime.loss.objective import Objective
from nstrt.runtime.loss.terms import LossTerms
from nstrt.runtime.optim.optimizers import Adam, Lbfgs, Optimizer
from nstrt.runtime.optim.state import State
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.pictures import Picture
from nstrt.runtime.planning.loss_weights import loss_weights
from nstrt.runtime.planning.plan import Plan, Scale
from nstrt.runtime.run.best_image import BestImage, LossStall
from nstrt.runtime.run.inputs import RunInputs, resized
from nstrt.runtime.run.scale_objective import scale_objective

__all__ = ["LoopStep", "optimize"]


@dataclass(frozen=True, kw_only=True)
class LoopStep:
    """One step of the loop, or the end of a scale."""

    scale: int
    """Index of the scale, from 0."""

    iteration: int
    """Steps done at this scale."""

    step: int
    """Steps done over the whole run."""

    complete: bool
    """True if the scale has taken all its steps, or its loss has stalled."""

    scale_done: bool
    """True at the end of a scale."""

    terms: LossTerms
    """The loss before this step; at the end of a scale, that of the image it leaves."""

    painted: float
    """One minus the style loss over that of the photo itself, 0 to 1."""

    picture: Callable[[], NDArray[np.float32]]
    """Returns the best image so far: height x width x 3 in 0..1."""

    state: Callable[[], State]
    """Returns the state to resume from; valid until the next step."""


def optimize(
    engine: Engine,
    options: StylizeOptions,
    plan: Plan,
    *,
    inputs: RunInputs,
    start: Picture | None = None,
    resumed: State | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[LoopStep]:
    """Optimise the image for the pictures of a run, one :class:`LoopStep` at a time.

    Begins with ``start``, or as ``options.init`` says, or with ``resumed``, the state of a run with
    equal arguments, which then ends with the same bits. Ends early, after a whole step, once
    ``stopped`` returns True; there is a picture in any case.
    """
    return _Loop(engine, options, plan, inputs, start, resumed, stopped).run()


class _Loop:
    """Position and state of the optimisation."""

    def __init__(
        self,
        engine: Engine,
        options: StylizeOptions,
        plan: Plan,
        inputs: RunInputs,
        start: Picture | None,
        resumed: State | None,
        stopped: Callable[[], bool],
    ) -> None:
        self._engine, self._options, self._plan, self._inputs = engine, options, plan, inputs
        self._start = start
        self._gray = inputs.are_gray and (start is None or start.is_gray)
        self._stopped = stopped
        self._weights = loss_weights(options)
        self._optimizer = _optimizer(options, plan)
        self._best = BestImage(average=False, last=False)
        self._stall = LossStall(options.tolerance)
        self._image: Array | None = None
        self._scale = self._iteration = self._step = 0
        self._complete = self._ended = False
        self._resumed = resumed
        if resumed is not None:
            self._image, self._step = resumed["image"], resumed["step"]
            self._scale = resumed["scale"]
            self._optimizer.restore(resumed["optimizer"])
            if resumed["ended"]:
                self._scale, self._resumed = self._scale + 1, None

    def run(self) -> Iterator[LoopStep]:
        """Take the scales that are left, coarse to fine."""
        for index in range(self._scale, len(self._plan.scales)):
            yield from self._optimize_scale(index)
            if self._stopped():
                return

    def _optimize_scale(self, index: int) -> Iterator[LoopStep]:
        scale = self._plan.scales[index]
        evaluation, objective, baseline = self._begin(scale)
        # Until here the state is that of the scale before, also for a stop in between.
        self._scale = index
        image = self._image
        while not self._complete:
            terms, gradient = evaluation.loss_and_gradient(image, objective)
            self._best.evaluated(image, terms)
            if self._gray:
                # The gradient's projection on grays: a coloured image would gain loss alone.
                gradient[...] = (gradient[:, 0:1] + gradient[:, 1:2] + gradient[:, 2:3]) / 3
            self._optimizer.update(image, terms.loss, gradient)
            del gradient
            self._keep_gray(image)
            self._best.stepped(image)
            self._step += 1
            self._iteration += 1
            self._complete = self._iteration == scale.iterations or self._stall.reached(terms.loss)
            yield self._loop_step(terms, baseline, scale_done=False)
            if self._stopped():
                break
        best, terms = self._best.finish(image, evaluation, objective)
        if self._complete and self._scale + 1 < len(self._plan.scales):
            self._image, self._ended = best, True
        yield self._loop_step(terms, baseline, scale_done=True)

    def _begin(self, scale: Scale) -> tuple[Evaluation, Objective, float]:
        """Measure a scale's targets, and bring the image and the optimiser to its size.

        Returns the evaluation, the objective, and the style loss of the photo itself.
        """
        options, resumed = self._options, self._resumed
        arrays = self._engine.arrays
        photo = resized(self._inputs.content, scale.width, scale.height, arrays)
        evaluation = Evaluation(self._engine, tile=scale.tile, border=options.spec.border)
        objective, baseline = scale_objective(evaluation, self._weights, self._inputs, scale, photo)
        if self._image is None:
            self._image = _first_image(options, scale, photo, self._start)
        elif resumed is None:
            self._image = _at_scale(self._image, scale)
            if options.clamp:
                arrays.clamp(self._image)
            self._optimizer.rescale(partial(_at_scale, scale=scale))
        self._keep_gray(self._image)
        average = options.optimizer == "adam" and options.average
        self._best = BestImage(average=average, last=options.keep == "last")
        self._stall = LossStall(options.tolerance)
        self._iteration, self._complete, self._ended = 0, False, False
        if resumed is not None:
            self._best.restore(resumed["best"])
            self._stall.restore(resumed["gain"])
            self._iteration, self._complete = resumed["iteration"], resumed["complete"]
            self._resumed = None
        return evaluation, objective, baseline

    def _keep_gray(self, image: Array) -> None:
        """Make a gray run's image gray to the bit: red counts for all channels."""
        if self._gray:
            image[:, 1:] = image[:, :1]

    def _loop_step(self, terms: LossTerms, baseline: float, *, scale_done: bool) -> LoopStep:
        return LoopStep(
            scale=self._scale,
            iteration=self._iteration,
            step=self._step,
            complete=self._complete,
            scale_done=scale_done,
            terms=terms,
            painted=_painted(terms, baseline),
            picture=self._best.picture,
            state=self._state,
        )

    def _state(self) -> State:
        """The state that a run resumes from."""
        return {
            "scale": self._scale,
            "iteration": self._iteration,
            "step": self._step,
            "complete": self._complete,
            "ended": self._ended,
            "image": self._image,
            "optimizer": self._optimizer.state(),
            "best": None if self._ended else self._best.state(),
            "gain": None if self._ended else self._stall.state(),
        }


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


def _first_image(
    options: StylizeOptions, scale: Scale, photo: Array, start: Picture | None
) -> Array:
    """The image that the optimisation begins with."""
    arrays = arrays_of(photo)
    if start is not None:
        return resized(start, scale.width, scale.height, arrays)
    if options.init == "noise":
        # NumPy's generator: a seed gives the same noise for every engine and device.
        values = np.random.default_rng(options.seed).random(tuple(photo.shape), np.float32)
        return arrays.from_numpy(values)
    image = arrays.copy(photo)
    if options.init == "gray":
        image[...] = 0.5
    return image


def _at_scale(array: Array, scale: Scale) -> Array:
    return arrays_of(array).resize_bicubic(array, scale.height, scale.width)
