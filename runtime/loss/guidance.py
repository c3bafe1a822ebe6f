"""Where a style counts, and where the photo is held: masks at the network's layers.

Spatial control of Gatys, Ecker, Bethge, Hertzmann and Shechtman, *Controlling Perceptual Factors
in Neural Style Transfer* (CVPR 2017), section 4: features are multiplied by a guidance channel T
of their layer before their Gram matrix is taken, see ``loss.objective``. A mask goes to
the layers as the picture does (:func:`at_layers`): a feature that sees across an edge counts for
both sides, by the share of each in what it sees, which takes from deep layers' statistics what is
the neighbour's. T is the root of that, for features enter a Gram matrix twice: a position counts as
much as its mask says, and masks that sum to 1 share it out with no loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.arrays import Array, Arrays
from nstrt.runtime.model import layers_through

__all__ = [
    "PROTECTION",
    "RELIEF",
    "Guidance",
    "Mask",
    "PhotoOverlay",
    "RegionGuidance",
    "at_layers",
    "shared_out",
]

Mask = NDArray[np.float32]
"""Height x width, from 0 (not here) to 1 (here)."""

PROTECTION = 4.0
"""How much more the photo counts where it is protected: W = 1 + PROTECTION * mask."""

RELIEF = 0.96
"""How much less the style counts there: a region's mask is multiplied by 1 - RELIEF * mask. To
weigh the photo alone as many times more would hold the whole picture back: the optimiser's steps
are as long as the stiffest part of the loss allows."""

_LEAST = 1e-4
"""The share of a picture or of a layer's position below which a mask has nothing there."""


@dataclass(frozen=True, kw_only=True)
class RegionGuidance:
    """The guidance channels of one region."""

    values: Mapping[str, Array]
    """T by layer, height x width, in 0..1: the root of the mask there. Layers where it has nothing
    are left out."""

    energies: Mapping[str, float]
    """The sum of T^2 by layer: positions, where T is 0 or 1."""

    share: float
    """The mean of the mask: how much the region counts."""

    @classmethod
    def of(cls, mask: Mask, layers: Iterable[str], arrays: Arrays) -> RegionGuidance:
        """The guide of a mask, for layers of the network."""
        found = {name: m for name, m in at_layers(mask, layers).items() if m.max() > _LEAST}
        return cls(
            values={name: arrays.place(np.sqrt(m)) for name, m in found.items()},
            energies={name: float(m.sum(dtype=np.float64)) for name, m in found.items()},
            share=float(mask.mean(dtype=np.float64)),
        )


@dataclass(frozen=True, kw_only=True)
class PhotoOverlay:
    """A picture painted over a photo that stays: photo + opacity * (image - photo)."""

    photo: Array
    """1 x 3 x height x width, RGB in 0..1."""

    opacity: Array
    """Height x width, in 0..1; where it is 0, the photo is untouched."""

    def over(self, image: Array) -> Array:
        """What is seen of ``image``."""
        seen = image - self.photo
        seen *= self.opacity
        seen += self.photo
        return seen


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """What masks ask for at one scale; with none of them, nothing."""

    guides: Sequence[RegionGuidance] = ()
    """One for each region with a style of its own; none if one style is for the whole picture."""

    protection: Mapping[str, Array] | None = None
    """W of the content loss by layer, height x width."""

    overlay: PhotoOverlay | None = None
    """The photo that stays where no region is."""


def at_layers(mask: Mask, layers: Iterable[str]) -> dict[str, Mask]:
    """A mask at the positions of each layer: how much of what a feature sees lies in it.

    The mask goes through the network as the picture does, with means in place of its weights: the
    mean of 3x3 positions at each convolution, beyond the border the border's own; that of 2x2 at
    each pooling, which leaves out an odd last row or column. Masks that sum to 1 do so there too.
    """
    values = np.ascontiguousarray(mask, np.float32)
    layers = tuple(layers)
    found = {}
    for layer in layers_through(layers) if layers else ():
        if layer.startswith("conv"):
            values = _mean_of_three(_mean_of_three(values).T).T
        elif layer.startswith("pool"):
            values = _halved(values)
        if layer in layers:
            found[layer] = np.ascontiguousarray(values)
    return found


def shared_out(masks: Sequence[Mask]) -> tuple[list[Mask], Mask]:
    """Masks that nowhere sum to more than 1, and the rest that is left of each pixel.

    Where regions overlap they share the pixel, each in proportion to its mask.
    """
    total = np.sum(masks, axis=0, dtype=np.float32)
    crowd = np.maximum(total, np.float32(1))
    shares: list[Mask] = [np.divide(mask, crowd, dtype=np.float32) for mask in masks]
    return shares, np.maximum(1 - total, np.float32(0))


def covers(mask: Mask) -> bool:
    """Whether a mask has anything at all."""
    return float(mask.mean(dtype=np.float64)) > _LEAST


def _mean_of_three(mask: Mask) -> Mask:
    """The mean of each row with those above and below it."""
    padded = np.pad(mask, ((1, 1), (0, 0)), mode="edge")
    found: Mask = (padded[:-2] + padded[1:-1] + padded[2:]) / np.float32(3)
    return found


def _halved(mask: Mask) -> Mask:
    height, width = mask.shape[0] // 2, mask.shape[1] // 2
    windows = mask[: 2 * height, : 2 * width].reshape(height, 2, width, 2)
    found: Mask = windows.mean(axis=(1, 3), dtype=np.float32)
    return found
