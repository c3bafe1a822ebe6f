"""The network's features and gradients, computed in bands of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nstrt.runtime.kernels.buffers import BufferPool
from nstrt.runtime.kernels.compiled import is_large
from nstrt.runtime.kernels.pooling import pooling_for
from nstrt.runtime.network.activations import SavedActivations
from nstrt.runtime.network.banded_backward import backward_pass
from nstrt.runtime.network.banded_forward import forward_pass
from nstrt.runtime.network.bands import BandedConvolution, Check, pooling_bands
from nstrt.runtime.network.feature_observer import FeatureObserver
from nstrt.runtime.network.receptive_field import FULL_CORE, Core, OutputArea, output_areas
from nstrt.runtime.network.vgg import ConvBlock, TorchVGG

__all__ = ["BandedNetwork"]


class BandedNetwork:
    """Computes features and gradients of a :class:`TorchVGG` in a pool of reused buffers.

    ``precision`` is that of the convolutions' products; all else is computed in the network's own.
    ``key`` stands for all else that the convolutions' speed depends on, see :class:`Autotuner`.
    """

    def __init__(self, vgg: TorchVGG, *, precision: str = "fp32", key: str = "") -> None:
        self.vgg = vgg
        self._convolution = BandedConvolution(vgg.device, vgg.dtype, precision=precision, key=key)

    @property
    def buffers(self) -> BufferPool:
        """The memory that activations and gradients are computed in."""
        return self._convolution.buffers

    @property
    def algorithms(self) -> dict[str, str]:
        """The algorithms chosen so far, by shape and direction."""
        return self._convolution.autotuner.names

    def pin(self, algorithms: Mapping[str, str]) -> None:
        """Compute with these algorithms, see :meth:`Autotuner.pin`."""
        self._convolution.autotuner.pin(algorithms)

    def kernels(
        self,
        height: int,
        width: int,
        layers: tuple[str, ...],
        core: Core = FULL_CORE,
        *,
        after: str | None = None,
        forward: bool = True,
    ) -> dict[str, str]:
        """The algorithm of each convolution, by its name and ``on`` or ``back``; measures those
        that are not chosen yet. Arguments as in :meth:`forward`; without ``forward``, only
        those of the backward pass."""
        names = {}
        blocks, large = (
            self.vgg.blocks_through(layers, after),
            _is_large(height, width, core, after),
        )
        for block, area in zip(blocks, _areas(blocks, height, width, core), strict=True):
            rows, columns = area.rows, area.columns
            if forward:
                names[f"{block.conv} on"] = self._convolution.algorithm(
                    block.filter, rows.size, columns.size, transposed=False, large=large
                )
            names[f"{block.conv} back"] = self._convolution.algorithm(
                block.filter, rows.input_size, columns.input_size, transposed=True, large=large
            )
        return names

    def forward(
        self,
        padded: Tensor,
        observer: FeatureObserver,
        *,
        keep: bool,
        core: Core = FULL_CORE,
        after: str | None = None,
        check: Check = lambda: None,
    ) -> SavedActivations:
        """Show ``observer`` the features of its layers; ``keep`` saves them for a backward pass.

        ``padded`` is a normalised picture or tile, 3 x (height + 2) x (width + 2). With ``after``
        it holds features of that layer, with one pixel more on each side. Features are exact in
        the ``core``; the observer also gets some around it.
        """
        height, width = padded.shape[1] - 2, padded.shape[2] - 2
        saved = self.empty_activations(height, width, core, after)
        blocks = self.vgg.blocks_through(observer.layers, after)
        areas = _areas(blocks, height, width, core)
        forward_pass(
            self._convolution, blocks, areas, padded, observer, saved, keep=keep, check=check
        )
        return saved

    def backward(
        self, saved: SavedActivations, observer: FeatureObserver, check: Check = lambda: None
    ) -> Tensor:
        """The gradient at the padded input of :meth:`forward`, of its shape; valid until the next
        call."""
        blocks = self.vgg.blocks_through(observer.layers, saved.after)
        areas = _areas(blocks, saved.height, saved.width, saved.core)
        return backward_pass(self._convolution, blocks, areas, observer, saved, check)

    def empty_activations(
        self, height: int, width: int, core: Core = FULL_CORE, after: str | None = None
    ) -> SavedActivations:
        """Activations to be filled, for an input of ``height`` x ``width`` pixels."""
        large = _is_large(height, width, core, after)
        pooling = pooling_for(self.vgg.normalization.mean, large=large)
        return SavedActivations(height, width, pooling, large, core, after)

    def pooling_codes(self, saved: SavedActivations, block: ConvBlock, features: Tensor) -> Tensor:
        """The codes of a block's pooling for ``features``, its input, computed elsewhere."""
        shape = features.shape[0], features.shape[1] // 2, features.shape[2] // 2
        codes = self.buffers.get(f"codes {block.pool}", shape, torch.uint8)
        for band in pooling_bands(features):
            half = slice(band.start // 2, band.stop // 2)
            saved.pooling.pool(features[:, band], None, codes[:, half], average=block.average)
        return codes


def _is_large(height: int, width: int, core: Core, after: str | None) -> bool:
    """True if the input is worth loading compiled kernels for.

    A tile is part of a large picture. ONNX Runtime's tiles have no core here: their size counts.
    """
    return is_large(height, width) or core != FULL_CORE or after is not None


def _areas(blocks: Sequence[ConvBlock], height: int, width: int, core: Core) -> list[OutputArea]:
    return output_areas([bool(block.pool) for block in blocks], height, width, core)
