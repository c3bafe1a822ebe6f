"""The objective of one scale from a run's pictures."""

from __future__ import annotations

import numpy as np

from nstrt.runtime.arrays import Array, Arrays
from nstrt.runtime.engines.evaluation import Evaluation
from nstrt.runtime.engines.loss_targets import build_objective, style_statistics
from nstrt.runtime.loss.guidance import (
    PROTECTION,
    RELIEF,
    Guidance,
    PhotoOverlay,
    RegionGuidance,
    at_layers,
    is_empty,
)
from nstrt.runtime.loss.objective import LossWeights, Objective
from nstrt.runtime.loss.style_statistics import StyleStatistics
from nstrt.runtime.loss.temporal import TemporalLoss
from nstrt.runtime.pictures import resize
from nstrt.runtime.planning.plan import Scale
from nstrt.runtime.run.inputs import RunInputs, resized
from nstrt.runtime.run.painting import visible_part

__all__ = ["scale_objective"]


def scale_objective(
    evaluation: Evaluation, weights: LossWeights, inputs: RunInputs, scale: Scale, photo: Array
) -> tuple[Objective, float]:
    """The objective of a run at one scale, and the style loss of the photo itself.

    ``photo`` is 1 x 3 x height x width, of the scale's size.
    """
    arrays = evaluation.engine.arrays
    paintings = [
        style_statistics(
            evaluation, weights, resized(painting, *size, arrays), visible_part(painting, *size)
        )
        for painting, size in zip(inputs.paintings, scale.styles, strict=True)
    ]
    blended = StyleStatistics.blend(paintings[: len(inputs.blend)], inputs.blend)
    guidance, owners = _guidance(inputs, weights, scale, photo, evaluation)
    styles = [blended if owner is None else paintings[owner] for owner in owners]
    return build_objective(
        evaluation, weights, photo, styles, guidance, _temporal_loss(inputs, scale, arrays)
    )


def _guidance(
    inputs: RunInputs, weights: LossWeights, scale: Scale, photo: Array, evaluation: Evaluation
) -> tuple[Guidance, list[int | None]]:
    """Masks at the layers, and for each region the index of its painting (None: the main ones)."""
    if not inputs.masks:
        return Guidance(), [None]
    arrays, border = evaluation.engine.arrays, evaluation.border
    masks, rest = inputs.region_masks(scale.width, scale.height)
    owners = [index for _, index in inputs.regions]
    protection = overlay = None
    if inputs.photo_stays:
        if inputs.around is not None:
            photo = resized(inputs.around, scale.width, scale.height, arrays)
        overlay = PhotoOverlay(photo=photo, opacity=arrays.from_numpy(1 - rest))
    elif not is_empty(rest):
        masks.append(rest)
        owners.append(None)
    if inputs.protect is not None:
        protect = inputs.protect.at(scale.width, scale.height)
        masks = [mask * (1 - RELIEF * protect) for mask in masks]
        layers = at_layers(border.around_mask(protect), weights.content_layers)
        protection = {name: arrays.from_numpy(1 + PROTECTION * W) for name, W in layers.items()}
    guides = [
        RegionGuidance.of(border.around_mask(mask), weights.style_layers, arrays) for mask in masks
    ]
    return Guidance(guides=guides, protection=protection, overlay=overlay), owners


def _temporal_loss(inputs: RunInputs, scale: Scale, arrays: Arrays) -> TemporalLoss | None:
    """The loss against a film's previous frame, if there is one."""
    if inputs.previous is None or not inputs.temporal_weight:
        return None
    size = scale.width, scale.height
    target = resize(inputs.previous.warped, *size).transpose(2, 0, 1)[None]
    return TemporalLoss(
        weight=inputs.temporal_weight,
        target=arrays.from_numpy(np.ascontiguousarray(target)),
        root=arrays.from_numpy(np.sqrt(np.clip(resize(inputs.previous.weight, *size), 0, 1))),
    )
