"""The picture that a scale leaves, and the test that ends a scale."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.arrays import Array, arrays_of
from nstrt.runtime.engines.evaluation import Evaluation
from nstrt.runtime.loss.objective import Objective
from nstrt.runtime.loss.terms import LossTerms
from nstrt.runtime.optim.optimizers import IterateAverage
from nstrt.runtime.optim.state import State

__all__ = ["BestImage", "LossStall"]

_STALL_STEPS = 10
"""Steps after which the loss must have fallen: L-BFGS may take a few short ones in a row."""


class BestImage:
    """The image of lowest loss, the last image, or the average of the last images."""

    def __init__(self, *, average: bool, last: bool) -> None:
        self._last = last
        self._average = IterateAverage() if average else None
        self._image: Array | None = None
        self._terms: LossTerms | None = None
        self._final: Array | None = None

    def evaluated(self, image: Array, terms: LossTerms) -> None:
        """Take in an image whose loss is known."""
        if self._average is None and self._is_better(terms):
            # One buffer for the whole scale: no fresh memory at each step.
            if self._image is None:
                self._image = arrays_of(image).copy(image)
            else:
                self._image[...] = image
            self._terms = terms

    def stepped(self, image: Array) -> None:
        """Take in an image after its step, before its loss is known."""
        if self._average is not None:
            self._average.add(image)

    def finish(
        self, image: Array, evaluation: Evaluation, objective: Objective
    ) -> tuple[Array, LossTerms]:
        """Choose the scale's image, and return it with its loss.

        Evaluates the last step's image, which counts if it is better.
        """
        if self._average is not None:
            image = self._average.value()
        terms = evaluation.loss(image, objective)
        if self._average is not None or self._is_better(terms):
            # Nothing writes into it any more: the next scale makes its own image.
            self._final = image
            return image, terms
        assert self._image is not None
        assert self._terms is not None
        return self._image, self._terms

    def picture(self) -> NDArray[np.float32]:
        """The best image so far, height x width x 3 in 0..1."""
        image, weight = self._final, 1.0
        if image is None:
            average = self._average
            image, weight = (self._image, 1.0) if average is None else average.weighted_sum()
        assert image is not None
        values = arrays_of(image).to_numpy(image[0].swapaxes(0, 1).swapaxes(1, 2))
        if weight != 1:
            values /= weight
        return np.clip(values, 0, 1, out=values)

    def state(self) -> State:
        """State for a checkpoint, without the final choice."""
        return {
            "image": self._image,
            "terms": None if self._terms is None else asdict(self._terms),
            "average": None if self._average is None else self._average.state(),
        }

    def restore(self, state: State) -> None:
        """Restore the state of a checkpoint."""
        self._image = state["image"]
        self._terms = None if state["terms"] is None else LossTerms(**state["terms"])
        if self._average is not None:
            self._average.restore(state["average"])

    def _is_better(self, terms: LossTerms) -> bool:
        return self._last or self._terms is None or terms.loss <= self._terms.loss


class LossStall:
    """Detects that the last steps lowered the loss by less than the share ``tolerance``."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._lowest: deque[float] = deque(maxlen=_STALL_STEPS + 1)

    def reached(self, loss: float) -> bool:
        """Take in a step's loss; True if the scale should end."""
        self._lowest.append(min([loss, *self._lowest]))
        if not self._tolerance or len(self._lowest) <= _STALL_STEPS:
            return False
        # A loss that is not a number ends the scale too.
        return not self._lowest[-1] <= (1 - self._tolerance) * self._lowest[0]

    def state(self) -> State:
        """State for a checkpoint."""
        return {"lowest": list(self._lowest)}

    def restore(self, state: State) -> None:
        """Restore the state of a checkpoint."""
        self._lowest.extend(state["lowest"])
