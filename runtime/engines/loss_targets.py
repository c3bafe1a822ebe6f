"""Targets of the loss: statistics of paintings, features of the photo."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nstrt.runtime.arrays import Array, Mask
from nstrt.runtime.engines.evaluation import Evaluation
from nstrt.runtime.engines.style_cache import StyleKey
from nstrt.runtime.kernels.compiled import is_large
from nstrt.runtime.loss.content_and_style import ContentObserver
from nstrt.runtime.loss.guidance import Guidance, RegionGuidance
from nstrt.runtime.loss.moments import Moments
from nstrt.runtime.loss.objective import LossWeights, Objective, moment_observer, style_target
from nstrt.runtime.loss.style_statistics import StyleObserver, StyleStatistics
from nstrt.runtime.loss.temporal import TemporalLoss
from nstrt.runtime.network.feature_observer import ObserverGroup

__all__ = ["build_objective", "objective_for", "style_statistics"]


def style_statistics(
    evaluation: Evaluation, weights: LossWeights, painting: Array, mask: Mask | None = None
) -> StyleStatistics:
    """Statistics of a painting, from the engine's cache if they are there; read-only.

    ``mask``, height x width in 0..1, says how much each of its pixels counts.
    """
    arrays = evaluation.engine.arrays

    def compute() -> StyleStatistics:
        observer = StyleObserver.of_part(weights, mask, evaluation.border, arrays)
        evaluation.extract_features(painting, observer)
        return observer.statistics()

    key = StyleKey(
        painting=StyleKey.digest(arrays.to_numpy(evaluation.border.around(painting)), mask),
        content_layers=tuple(weights.content_layers),
        style_layers=tuple(weights.style_layers),
        loss=weights.style_loss,
        mean=weights.gram_mean,
        tile=evaluation.tile,
    )
    return evaluation.engine.targets.obtain(key, compute)


def build_objective(
    evaluation: Evaluation,
    weights: LossWeights,
    photo: Array,
    paintings: Sequence[StyleStatistics],
    guidance: Guidance | None = None,
    temporal: TemporalLoss | None = None,
) -> tuple[Objective, float]:
    """Measure the content targets of ``photo`` and assemble the objective of one scale.

    ``guidance`` is of the extended photo. ``paintings`` has statistics for each of its regions, in
    their order; without regions, for the whole image. Returns the objective and the style loss of
    the photo itself.
    """
    guidance = guidance or Guidance()
    guides: Sequence[RegionGuidance | None] = guidance.guides or [None]
    observers = [moment_observer(weights, guide) for guide in guides]
    height, width = (side + 2 * evaluation.border.width for side in photo.shape[2:])
    contents = ContentObserver(weights.content_layers, height, width)
    evaluation.extract_features(photo, ObserverGroup(contents, *observers))
    objective = Objective(
        weights=weights,
        contents=contents.values,
        styles=tuple(
            style_target(
                weights,
                style.moments if guide is None else _in_region(weights, style.moments, guide),
                guide,
            )
            for style, guide in zip(paintings, guides, strict=True)
        ),
        energies=StyleStatistics.blend_energies(
            paintings, [1.0 if guide is None else guide.share for guide in guides]
        ),
        protection=guidance.protection,
        overlay=guidance.overlay,
        temporal=temporal,
        large=is_large(height, width),
    )
    baseline = [observer.moments() for observer in observers]
    return objective, objective.style_loss(*baseline)


def objective_for(
    evaluation: Evaluation, weights: LossWeights, photo: Array, painting: Array
) -> tuple[Objective, float]:
    """As :func:`build_objective`, for one painting without regions."""
    return build_objective(
        evaluation, weights, photo, [style_statistics(evaluation, weights, painting)]
    )


def _in_region(
    weights: LossWeights, moments: Mapping[str, Moments], guide: RegionGuidance
) -> dict[str, Moments]:
    """A painting's moments as a region's target, at the layers where it has positions."""
    # Without division by positions, a region's sums are its share of the whole image's.
    return {
        layer: moments[layer]
        if weights.gram_mean
        else moments[layer].scaled(guide.energies[layer] / math.prod(channel.shape))
        for layer, channel in guide.values.items()
    }
