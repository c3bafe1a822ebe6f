"""Spatial guidance: masks of regions and of protection at the network's layers.

They follow Gatys, Ecker, Bethge, Hertzmann and Shechtman, *Controlling Perceptual Factors in
Neural Style Transfer* (CVPR 2017), section 4. A guidance channel T multiplies a layer's features
before their Gram matrix is taken, see ``loss.objective``.

:func:`at_layers` averages a mask over each feature's receptive field, so that a feature across an
edge counts for both sides by their shares. T is the square root of that mean, because features
enter a Gram matrix twice. Each position then counts as its mask says, and masks that sum to 1
divide it without loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nstrt.runtime.arrays import Array, Arrays, Mask
from nstrt.runtime.model import layers_through

__all__ = [
    "PROTECTION",
    "RELIEF",
    "Guidance",
    "PhotoOverlay",
    "RegionGuidance",
    "at_layers",
    "partition",
]

PROTECTION = 4.0
"""Extra content weight of the protected part: W = 1 + PROTECTION * mask."""

RELIEF = 0.96
"""Reduction of the style there: a region's mask is multiplied by 1 - RELIEF * mask. A content
weight with the same effect would shorten the optimiser's steps in the whole image."""

_EMPTY = 1e-4
"""Masks with a mean below this, or at a layer with a maximum below it, count as empty."""


@dataclass(frozen=True, kw_only=True)
class RegionGuidance:
    """The guidance channels of one region."""

    values: Mapping[str, Array]
    """T by layer, height x width, in 0..1: the square root of the mask at the layer.

    Layers where the region is empty are left out."""

    energies: Mapping[str, float]
    """Sum of T^2 by layer: the number of positions for a hard mask."""

    share: float
    """Mean of the mask: the region's share of the image."""

    @classmethod
    def of(
        cls, mask: Mask, layers: Iterable[str], arrays: Arrays, *, whole: bool = False
    ) -> RegionGuidance:
        """Guidance channels of ``mask`` at ``layers``.

        With ``whole``, layers where the mask is empty count as a whole.
        """
        masks = at_layers(mask, layers)
        empty = [name for name, m in masks.items() if m.max() <= _EMPTY]
        for name in empty:
            if whole:
                masks[name] = np.ones_like(masks[name])
            else:
                del masks[name]
        return cls(
            values={name: arrays.from_numpy(np.sqrt(m)) for name, m in masks.items()},
            energies={name: float(m.sum(dtype=np.float64)) for name, m in masks.items()},
            share=float(mask.mean(dtype=np.float64)),
        )


@dataclass(frozen=True, kw_only=True)
class PhotoOverlay:
    """Compositing over a photo that stays: photo + opacity * (image - photo)."""

    photo: Array
    """1 x 3 x height x width, RGB in 0..1."""

    opacity: Array
    """Height x width, in 0..1; 0 leaves the photo untouched."""

    def over(self, image: Array) -> Array:
        """``image`` composited over the photo."""
        composite = image - self.photo
        composite *= self.opacity
        composite += self.photo
        return composite


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Masks of one scale; empty without masks."""

    guides: Sequence[RegionGuidance] = ()
    """One for each region; empty if one style covers the whole image."""

    protection: Mapping[str, Array] | None = None
    """W of the content loss by layer, height x width."""

    overlay: PhotoOverlay | None = None
    """The photo that stays outside the regions."""


def at_layers(mask: Mask, layers: Iterable[str]) -> dict[str, Mask]:
    """A mask at the positions of each layer: the share of a feature's receptive field inside it.

    The mask passes through the network with means in place of weights. Each convolution takes the
    mean of 3x3 positions, with the border repeated. Each pooling takes the mean of 2x2 and drops an
    odd last row or column. Masks that sum to 1 do so at every layer.
    """
    values = np.ascontiguousarray(mask, np.float32)
    layers = tuple(layers)
    masks = {}
    for layer in layers_through(layers) if layers else ():
        if layer.startswith("conv"):
            values = _mean_of_three(_mean_of_three(values).T).T
        elif layer.startswith("pool"):
            values = _halved(values)
        if layer in layers:
            masks[layer] = np.ascontiguousarray(values)
    return masks


def partition(masks: Sequence[Mask]) -> tuple[list[Mask], Mask]:
    """Masks scaled so that they sum to at most 1, and the rest of each pixel.

    Overlapping regions share a pixel in proportion to their masks.
    """
    total = np.sum(masks, axis=0, dtype=np.float32)
    crowd = np.maximum(total, np.float32(1))
    shares: list[Mask] = [np.divide(mask, crowd, dtype=np.float32) for mask in masks]
    return shares, np.maximum(1 - total, np.float32(0))


def is_empty(mask: Mask) -> bool:
    """True if a mask covers practically nothing."""
    return float(mask.mean(dtype=np.float64)) <= _EMPTY


def _mean_of_three(mask: Mask) -> Mask:
    """Mean of each row and its two neighbours."""
    padded = np.pad(mask, ((1, 1), (0, 0)), mode="edge")
    mean: Mask = (padded[:-2] + padded[1:-1] + padded[2:]) / np.float32(3)
    return mean


def _halved(mask: Mask) -> Mask:
    """Mean of each 2x2 window."""
    height, width = mask.shape[0] // 2, mask.shape[1] // 2
    windows = mask[: 2 * height, : 2 * width].reshape(height, 2, width, 2)
    mean: Mask = windows.mean(axis=(1, 3), dtype=np.float32)
    return mean
