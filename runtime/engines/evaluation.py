"""Loss and gradient of an image by an engine, at once or in tiles.

Statistics cover the whole image. In tiles, a first pass over all of them sums the statistics, and a
second pass takes each tile's gradient from the sums.
"""

from __future__ import annotations

from collections.abc import Sequence

from nstrt.runtime.arrays import Array
from nstrt.runtime.engines.engine import Engine, StepFunction
from nstrt.runtime.loss.content_and_style import LossAccumulator, terms_of
from nstrt.runtime.loss.objective import Objective
from nstrt.runtime.loss.terms import LossTerms
from nstrt.runtime.loss.total_variation import add_total_variation_gradient
from nstrt.runtime.network.border import Border
from nstrt.runtime.network.feature_observer import FeatureObserver, ObserverGroup
from nstrt.runtime.network.sections import Section, SectionBoundary, sections_of
from nstrt.runtime.network.tiles import TileObserver

__all__ = ["Evaluation"]


class Evaluation:
    """Evaluates losses with an engine, in tiles of at most ``tile`` pixels a side.

    Images are 1 x 3 x height x width, RGB in 0..1. ``tile`` None takes images whole. The network
    sees them extended by ``border`` mirrored pixels; all statistics are of that.
    """

    def __init__(self, engine: Engine, *, tile: int | None = None, border: int = 0) -> None:
        self.engine = engine
        self.tile = tile
        self.border = Border(border)
        self._objective: Objective | None = None
        self._step: StepFunction | None = None

    def extract_features(self, image: Array, observer: FeatureObserver) -> None:
        """Pass the features of ``image`` to ``observer``, tile by tile."""
        self._forward(self.border.around(image), observer)

    def loss(self, image: Array, objective: Objective) -> LossTerms:
        """The loss at ``image``."""
        terms = self._network_loss(self._seen(image, objective), objective)
        return objective.temporal.added(terms, image) if objective.temporal else terms

    def loss_and_gradient(self, image: Array, objective: Objective) -> tuple[LossTerms, Array]:
        """The loss at ``image`` and its gradient, of the image's shape; the caller owns it."""
        overlay, temporal = objective.overlay, objective.temporal
        terms, gradient = self._network_gradient(self._seen(image, objective), objective)
        if overlay is not None:
            gradient *= overlay.opacity
        if temporal is not None:
            terms = temporal.added(terms, image, gradient)
        return terms, gradient

    def _network_loss(self, image: Array, objective: Objective) -> LossTerms:
        if self.engine.has_loss_graph(objective) and _is_whole(
            self._sections(image, objective.layers)
        ):
            return terms_of(self._step_function(objective, image)(image)[0])
        accumulator = LossAccumulator(objective)
        self._forward(image, accumulator)
        return accumulator.terms(image)

    def _network_gradient(self, image: Array, objective: Objective) -> tuple[LossTerms, Array]:
        sections = self._sections(image, objective.layers)
        if _is_whole(sections):
            self.engine.interrupt.check()
            values, gradient = self._step_function(objective, image)(image)
            inside = self.border.within(gradient)
            return terms_of(values), self.engine.arrays.copy(
                inside
            ) if inside is gradient else inside
        accumulator = LossAccumulator(objective)
        boundary = self._forward(image, accumulator)
        terms = accumulator.terms(image)
        if boundary:
            boundary.begin_gradient()
            self._backward(boundary.values, boundary.gradient, sections[1], accumulator)
            boundary.forget_values()
        gradient = self.engine.arrays.zeros(image.shape, image)
        self._backward(image, gradient, sections[0], accumulator, boundary)
        add_total_variation_gradient(image, objective.weights.tv, gradient)
        return terms, self.border.within(gradient)

    def _forward(self, image: Array, observer: FeatureObserver) -> SectionBoundary | None:
        """Pass features to ``observer``; returns those at the boundary of two sections."""
        first, *second = self._sections(image, observer.layers)
        boundary = SectionBoundary(first.until, *image.shape[2:]) if first.until else None
        observers = ObserverGroup(observer, boundary) if boundary else observer
        for tile in first.tiles:
            self.engine.extract_features(tile.crop(image), TileObserver(observers, tile), tile)
        if boundary:
            for tile in second[0].tiles:
                part = tile.crop(boundary.values)
                self.engine.extract_features(part, TileObserver(observer, tile), tile)
        return boundary

    def _backward(
        self,
        start: Array,
        gradient: Array,
        section: Section,
        accumulator: LossAccumulator,
        boundary: SectionBoundary | None = None,
    ) -> None:
        """Add a section's gradient to that at its start, ``gradient``.

        ``boundary`` holds the gradient at the section's end, if another section follows.
        """
        for tile in section.tiles:
            part = tile.crop(gradient)
            part += self.engine.gradient(tile.crop(start), accumulator, tile, boundary)

    def _step_function(self, objective: Objective, image: Array) -> StepFunction:
        """The engine's step for images of this shape, built once for an objective."""
        if self._step is None or self._objective is not objective:
            self._step, self._objective = self.engine.step(objective, image), objective
        return self._step

    def _sections(self, image: Array, layers: Sequence[str]) -> list[Section]:
        height, width = image.shape[2:]
        return sections_of(height, width, self.tile, layers, in_two=self.engine.supports_sections)

    def _seen(self, image: Array, objective: Objective) -> Array:
        """The image that the network sees."""
        overlay = objective.overlay
        return self.border.around(image if overlay is None else overlay.over(image))


def _is_whole(sections: Sequence[Section]) -> bool:
    """True if the image goes through the network at once."""
    return len(sections) == 1 and len(sections[0].tiles) == 1
