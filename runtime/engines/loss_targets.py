"""Targets of the loss: Gram matrices of paintings, features of the photo."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nstrt.runtime.arrays import Array
from nstrt.runtime.engines.evaluation import Evaluation
from nstrt.runtime.engines.gram_cache import GramKey
from nstrt.runtime.kernels.compiled import is_large
from nstrt.runtime.loss.content_and_style import ContentObserver, GramObserver
from nstrt.runtime.loss.guidance import Guidance, RegionGuidance
from nstrt.runtime.loss.objective import LossWeights, Objective, StyleTarget
from nstrt.runtime.loss.temporal import TemporalLoss
from nstrt.runtime.network.feature_observer import ObserverGroup

__all__ = ["build_objective", "gram_matrices", "objective_for"]


def gram_matrices(
    evaluation: Evaluation, weights: LossWeights, painting: Array
) -> Mapping[str, Array]:
    """A of a painting by layer, from the engine's cache if it is there; read-only."""
    layers = tuple(weights.style_layers)
    if not layers:
        return {}

    def compute() -> dict[str, Array]:
        observer = GramObserver(layers)
        evaluation.extract_features(painting, observer)
        return observer.matrices(mean=weights.gram_mean)

    key = GramKey(
        painting=GramKey.digest(evaluation.engine.arrays.to_numpy(painting)),
        layers=layers,
        mean=weights.gram_mean,
        tile=evaluation.tile,
    )
    return evaluation.engine.targets.obtain(key, compute)


def build_objective(
    evaluation: Evaluation,
    weights: LossWeights,
    photo: Array,
    grams: Sequence[Mapping[str, Array]],
    guidance: Guidance | None = None,
    temporal: TemporalLoss | None = None,
) -> tuple[Objective, float]:
    """Measure the content targets of ``photo`` and assemble the objective of one scale.

    ``grams`` has one entry for each of the guidance's regions, in their order; without regions, one
    for the whole image. Returns the objective and the style loss of the photo itself.
    """
    guidance = guidance or Guidance()
    guides: Sequence[RegionGuidance | None] = guidance.guides or [None]
    photo_grams = [GramObserver(weights.style_layers, guide) for guide in guides]
    contents = ContentObserver(weights.content_layers, photo.shape[2], photo.shape[3])
    evaluation.extract_features(photo, ObserverGroup(contents, *photo_grams))
    objective = Objective(
        weights=weights,
        contents=contents.values,
        styles=tuple(
            StyleTarget(grams=target) if guide is None else _region(weights, target, guide)
            for target, guide in zip(grams, guides, strict=True)
        ),
        protection=guidance.protection,
        overlay=guidance.overlay,
        temporal=temporal,
        large=is_large(*photo.shape[2:]),
    )
    baseline = [observer.matrices(mean=weights.gram_mean) for observer in photo_grams]
    return objective, objective.style_loss(*baseline)


def objective_for(
    evaluation: Evaluation, weights: LossWeights, photo: Array, painting: Array
) -> tuple[Objective, float]:
    """As :func:`build_objective`, for one painting without regions."""
    return build_objective(
        evaluation, weights, photo, [gram_matrices(evaluation, weights, painting)]
    )


def _region(weights: LossWeights, grams: Mapping[str, Array], guide: RegionGuidance) -> StyleTarget:
    """The target of a region, at the layers where it has positions."""
    # Without division by positions, a region's sums are its share of the whole image's.
    parts = {
        layer: 1.0 if weights.gram_mean else guide.energies[layer] / math.prod(channel.shape)
        for layer, channel in guide.values.items()
    }
    return StyleTarget(
        grams={layer: grams[layer] * part for layer, part in parts.items()}, guide=guide
    )
