"""Loss and gradient of a picture, by an engine, whole or in tiles.

Statistics are of the whole picture: when it is in tiles, a first pass over all of them adds the
statistics up, and a second one takes each tile's gradient from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nstrt.runtime.arrays import Array
from nstrt.runtime.engines import Engine, StepFunction
from nstrt.runtime.engines.gram_cache import GramKey
from nstrt.runtime.kernels.compiled import is_large
from nstrt.runtime.loss.guidance import Guidance, RegionGuidance
from nstrt.runtime.loss.objective import (
    ContentObserver,
    GramObserver,
    LossAccumulator,
    LossWeights,
    Objective,
    ObserverGroup,
    Region,
    Temporal,
    terms_of,
)
from nstrt.runtime.loss.terms import LossTerms
from nstrt.runtime.network.observer import FeatureObserver
from nstrt.runtime.network.sections import Section, SectionBoundary, sections_of
from nstrt.runtime.network.tiles import TileObserver

__all__ = ["Evaluation"]


class Evaluation:
    """Evaluates losses with an engine, in tiles of at most ``tile`` pixels a side.

    Images are 1 x 3 x height x width, RGB in 0..1; None for a tile is the whole picture.
    """

    def __init__(self, engine: Engine, *, tile: int | None = None) -> None:
        self.engine = engine
        self._tile = tile
        self._objective: Objective | None = None
        self._step: StepFunction | None = None

    def extract_features(self, image: Array, observer: FeatureObserver) -> None:
        """Show ``observer`` the features of a picture."""
        self._look(image, observer)

    def _look(self, image: Array, observer: FeatureObserver) -> SectionBoundary | None:
        """The same; what lies where the network is cut, if it is."""
        first, *second = self._sections(image, observer.layers)
        cut = SectionBoundary(first.until, *image.shape[2:]) if first.until else None
        everybody = ObserverGroup(observer, cut) if cut else observer
        for tile in first.tiles:
            self.engine.extract_features(tile.crop(image), TileObserver(everybody, tile), tile)
        if cut:
            for tile in second[0].tiles:
                self.engine.extract_features(
                    tile.crop(cut.values), TileObserver(observer, tile), tile
                )
        return cut

    def grams(self, weights: LossWeights, painting: Array) -> Mapping[str, Array]:
        """A of a painting by layer; what the engine has computed before is taken again, and not to
        be written into."""
        layers = tuple(weights.style_layers)
        if not layers:
            return {}

        def compute() -> dict[str, Array]:
            found = GramObserver(layers)
            self.extract_features(painting, found)
            return found.matrices(mean=weights.gram_mean)

        key = GramKey(
            painting=GramKey.digest(self.engine.arrays.fetch(painting)),
            layers=layers,
            mean=weights.gram_mean,
            tile=self._tile,
        )
        return self.engine.targets.obtain(key, compute)

    def objective(
        self,
        weights: LossWeights,
        photo: Array,
        painting: Array | Sequence[Mapping[str, Array]],
        guidance: Guidance | None = None,
        temporal: Temporal | None = None,
    ) -> tuple[Objective, float]:
        """What to paint for, and the style loss of the untouched photo.

        Instead of a painting, the Gram matrices of each region's may be given (see :meth:`grams`),
        in the order of the guidance's guides; without guides there is one region, the whole.
        """
        guidance = guidance or Guidance()
        styles = painting if isinstance(painting, Sequence) else [self.grams(weights, painting)]
        guides: Sequence[RegionGuidance | None] = guidance.guides or [None]
        own = [GramObserver(weights.style_layers, guide) for guide in guides]
        contents = ContentObserver(weights.content_layers, photo.shape[2], photo.shape[3])
        self.extract_features(photo, ObserverGroup(contents, *own))
        regions = tuple(
            _region(weights, grams, guide)
            for grams, guide in zip(styles, guides, strict=True)
            if guide is not None
        )
        objective = Objective(
            weights=weights,
            contents=contents.values,
            grams={} if regions else styles[0],
            regions=regions,
            protection=guidance.protection,
            overlay=guidance.overlay,
            temporal=temporal,
            large=is_large(*photo.shape[2:]),
        )
        baseline = [grams.matrices(mean=weights.gram_mean) for grams in own]
        return objective, objective.style_of(*baseline)

    def measure(self, image: Array, objective: Objective) -> LossTerms:
        """The loss at ``image``."""
        seen = image if objective.overlay is None else objective.overlay.over(image)
        terms = self._measure(seen, objective)
        return objective.temporal.added(terms, image) if objective.temporal else terms

    def _measure(self, image: Array, objective: Objective) -> LossTerms:
        if self.engine.one_graph and _is_whole(self._sections(image, objective.layers)):
            return terms_of(self._whole(objective, image)(image)[0])
        accumulator = objective.accumulator()
        self.extract_features(image, accumulator)
        return accumulator.terms(image)

    def evaluate(self, image: Array, objective: Objective) -> tuple[LossTerms, Array]:
        """The loss at ``image``, and its gradient with respect to it, of the same shape. The
        gradient is the caller's own."""
        overlay, temporal = objective.overlay, objective.temporal
        seen = image if overlay is None else overlay.over(image)
        terms, gradient = self._evaluate(seen, objective)
        if overlay is not None:
            gradient *= overlay.opacity
        if temporal is not None:
            terms = temporal.added(terms, image, gradient)
        return terms, gradient

    def _evaluate(self, image: Array, objective: Objective) -> tuple[LossTerms, Array]:
        sections = self._sections(image, objective.layers)
        if _is_whole(sections):
            self.engine.interrupt.check()
            values, gradient = self._whole(objective, image)(image)
            return terms_of(values), self.engine.arrays.copy(gradient)
        accumulator = objective.accumulator()
        cut = self._look(image, accumulator)
        terms = accumulator.terms(image)
        if cut:
            cut.begin_gradient()
            self._back(cut.values, cut.gradient, sections[1], accumulator)
            cut.forget_values()
        gradient = self.engine.arrays.zeros(image.shape, image)
        self._back(image, gradient, sections[0], accumulator, cut)
        accumulator.add_variation(image, gradient)
        return terms, gradient

    def _back(
        self,
        start: Array,
        gradient: Array,
        section: Section,
        accumulator: LossAccumulator,
        cut: SectionBoundary | None = None,
    ) -> None:
        """Add a section's gradient, and what comes from where it ends, to that at its start."""
        for tile in section.tiles:
            part = tile.crop(gradient)
            part += self.engine.gradient(tile.crop(start), accumulator, tile, cut)

    def _whole(self, objective: Objective, image: Array) -> StepFunction:
        """What computes the loss and gradient of images of this size at once."""
        if self._step is None or self._objective is not objective:
            self._step, self._objective = self.engine.step(objective, image), objective
        return self._step

    def _sections(self, image: Array, layers: Sequence[str]) -> list[Section]:
        height, width = image.shape[2:]
        return sections_of(height, width, self._tile, layers, in_two=self.engine.supports_sections)


def _is_whole(sections: Sequence[Section]) -> bool:
    """Whether a picture goes through the network at once."""
    return len(sections) == 1 and len(sections[0].tiles) == 1


def _region(weights: LossWeights, grams: Mapping[str, Array], guide: RegionGuidance) -> Region:
    """A style for a part of the picture, at the layers where it has one."""
    # Without division by positions, a part of the picture has a part of the whole's sums.
    parts = {
        layer: 1.0 if weights.gram_mean else guide.energies[layer] / math.prod(channel.shape)
        for layer, channel in guide.values.items()
    }
    return Region(grams={layer: grams[layer] * part for layer, part in parts.items()}, guide=guide)
