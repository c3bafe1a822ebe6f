"""Loss and gradient of a picture, by an engine, whole or in tiles.

Statistics are of the whole picture: when it is in tiles, a first pass over all of them adds the
statistics up, and a second one takes each tile's gradient from them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nstrt.runtime.losses import Contents, Grams, LossWeights, Objective, Together, terms_of
from nstrt.runtime.recorded import recorded
from nstrt.runtime.terms import LossTerms
from nstrt.runtime.tiles import Tile, Window, tiles_of

if TYPE_CHECKING:
    from nstrt.runtime.engines import Engine
    from nstrt.runtime.passes import Watcher

__all__ = ["Evaluation"]

Step = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From an image to the loss's four numbers (see :meth:`Tally.sum_up`) and the gradient."""


class Evaluation:
    """Evaluates losses with an engine, in tiles of at most ``tile`` pixels a side.

    Images are 1 x 3 x height x width, RGB in 0..1; None for a tile is the whole picture.
    """

    def __init__(self, engine: Engine, *, tile: int | None = None) -> None:
        self.engine = engine
        self._tile = tile
        self._objective: Objective | None = None
        self._step: Step | None = None

    def look(self, image: Tensor, watcher: Watcher) -> None:
        """Show ``watcher`` the features of a picture."""
        for tile in self._tiles(image, watcher.layers):
            self.engine.forward(tile.of(image), Window(watcher, tile), keep=False)

    def objective(
        self, weights: LossWeights, photo: Tensor, painting: Tensor
    ) -> tuple[Objective, float]:
        """What to paint for, and the style loss of the untouched photo."""
        style = Grams(weights.style_layers)
        if style.layers:
            self.look(painting, style)
        own = Grams(weights.style_layers)
        contents = Contents(weights.content_layers, photo.shape[2], photo.shape[3])
        self.look(photo, Together(contents, own))
        objective = Objective(
            weights=weights,
            contents=contents.values,
            grams=style.matrices(mean=weights.gram_mean),
        )
        return objective, objective.style_of(own.matrices(mean=weights.gram_mean))

    def measure(self, image: Tensor, objective: Objective) -> LossTerms:
        """The loss at ``image``."""
        tally = objective.tally()
        self.look(image, tally)
        return tally.settle(image)

    def evaluate(self, image: Tensor, objective: Objective) -> tuple[LossTerms, Tensor]:
        """The loss at ``image``, and its gradient with respect to it, of the same shape. The
        gradient is the caller's own."""
        tiles = self._tiles(image, objective.layers)
        if len(tiles) == 1:
            self.engine.interrupt.check()
            values, gradient = self._whole(objective, image)(image)
            return terms_of(values), gradient.clone()
        tally = objective.tally()
        self.look(image, tally)
        terms = tally.settle(image)
        gradient = torch.zeros_like(image)
        for tile in tiles:
            window = Window(tally, tile, seen=True)
            trace = self.engine.forward(tile.of(image), window, keep=True)
            tile.of(gradient).add_(self.engine.backward(trace, window))
        tally.add_variation(image, gradient)
        return terms, gradient

    def _whole(self, objective: Objective, image: Tensor) -> Step:
        """Loss and gradient of an image of this size at once, as :class:`Step`; where it can be,
        recorded."""
        if self._step is None or self._objective is not objective:
            step = partial(self._computed, objective)
            self._objective = objective
            self._step = recorded(step, image) if self.engine.recordable else step
        return self._step

    def _computed(self, objective: Objective, image: Tensor) -> tuple[Tensor, Tensor]:
        tally = objective.tally()
        trace = self.engine.forward(image, tally, keep=True)
        values = tally.sum_up(image)
        gradient = self.engine.backward(trace, tally)
        tally.add_variation(image, gradient)
        return values, gradient

    def _tiles(self, image: Tensor, layers: Sequence[str]) -> list[Tile]:
        return tiles_of(image.shape[2], image.shape[3], self._tile, layers)
