"""The forward pass in bands of rows: convolution, ReLU and pooling of one block after another.

A band is convolved, rectified, pooled and observed while it lies in the processor's cache. For the
backward pass it saves the observed features, a mask for each other ReLU and a code for each
pooling window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from nstrt.runtime.kernels.convolution import is_windowed
from nstrt.runtime.network.activations import SavedActivations
from nstrt.runtime.network.bands import BandedConvolution, Check
from nstrt.runtime.network.feature_observer import FeatureObserver
from nstrt.runtime.network.receptive_field import OutputArea
from nstrt.runtime.network.vgg import ConvBlock

__all__ = ["FirstBlock", "crop_input", "forward_pass"]


def forward_pass(
    convolution: BandedConvolution,
    blocks: Sequence[ConvBlock],
    areas: Sequence[OutputArea],
    padded: Tensor,
    observer: FeatureObserver,
    saved: SavedActivations,
    *,
    keep: bool,
    check: Check,
) -> None:
    """Show ``observer`` the features of a ``padded`` input; with ``keep``, fill ``saved`` for the
    backward pass."""
    source: RowSource = StoredRows(crop_input(padded, areas[0]))
    for number, (block, area) in enumerate(zip(blocks, areas, strict=True)):
        if not number and saved.after is None and _can_recompute_first(blocks, observer):
            saved.padded_input = padded
            source = FirstBlock(convolution, block, area, observer, saved)
            continue
        step = _BlockForward(convolution, block, number, area, observer, saved, keep=keep)
        source = StoredRows(step.run(source, check))


def crop_input(padded: Tensor, area: OutputArea) -> Tensor:
    """The part of an input, padded by one pixel, that the first convolution reads."""
    rows, columns = area.rows, area.columns
    return padded[:, rows.start : rows.stop + 2, columns.start : columns.stop + 2]


class RowSource(Protocol):
    """The input of a convolution."""

    def rows(self, first: int, count: int) -> tuple[Tensor, int]:
        """A tensor with ``count`` rows of the input, and the index of row ``first`` in it.

        Rows outside the tensor are zeros.

        Called once for each band, from the first to the last.
        """


class StoredRows:
    """An input that is stored as a whole."""

    def __init__(self, features: Tensor) -> None:
        self._features = features

    def rows(self, first: int, count: int) -> tuple[Tensor, int]:
        return self._features, first


class FirstBlock:
    """The output of the first block, computed a few rows at a time when the second block reads
    them.

    It is the largest feature map and cheap to compute from three channels. The backward pass
    therefore computes it again instead of storing it.
    """

    def __init__(
        self,
        convolution: BandedConvolution,
        block: ConvBlock,
        area: OutputArea,
        observer: FeatureObserver,
        saved: SavedActivations,
    ) -> None:
        assert block.relu
        assert saved.padded_input is not None
        self.filter = block.filter
        self.relu = block.relu
        self.area = area
        self.large = saved.large
        self.is_observed = block.relu in observer.layers
        self._observer = observer
        self._convolution = convolution
        self._input = crop_input(saved.padded_input, area)
        self._next = 0
        """First row that the observer has not been shown."""

    def rows(self, first: int, count: int) -> tuple[Tensor, int]:
        """Rows of the output, see :class:`RowSource`; shows each to the observer once."""
        low, high = max(0, first), min(self.area.rows.size, first + count)
        features = self.features(low, high)
        if self.is_observed and high > self._next:
            # The previous band ended with the first of these rows.
            unseen = features[:, self._next - low :]
            self._observer.observe(self.relu, unseen, *self.position(self._next))
            self._next = high
        return features, first - low

    def features(self, low: int, high: int) -> Tensor:
        """The output's rows from ``low`` to ``high``, in a buffer that the next call overwrites."""
        columns = self.area.columns.size
        kernel = self._convolution.kernel(
            self.filter, self.area.rows.size, columns, transposed=False, large=self.large
        )
        shape = self.filter.channels[1], high - low, columns
        out = self._convolution.buffers.get("first block", shape, self._convolution.dtype)
        if is_windowed(kernel):
            kernel.window(self._input, low, 0, out, self.filter.bias, rectified=True)
            return out
        kernel.apply(self._input[:, low : high + 2], out, self.filter.bias)
        return out.relu_()

    def position(self, row: int) -> tuple[int, int]:
        """Row and column of the whole layer where ``row`` of the area begins."""
        return row + self.area.rows.start, self.area.columns.start


def _can_recompute_first(blocks: Sequence[ConvBlock], observer: FeatureObserver) -> bool:
    """True if the first block's output can be computed again: it ends with an unpooled ReLU."""
    first = blocks[0]
    return len(blocks) > 1 and first.pool is None and first.conv not in observer.layers


class _BlockForward:
    """The forward pass of one block."""

    def __init__(
        self,
        convolution: BandedConvolution,
        block: ConvBlock,
        number: int,
        area: OutputArea,
        observer: FeatureObserver,
        saved: SavedActivations,
        *,
        keep: bool,
    ) -> None:
        self._convolution = convolution
        self._block = block
        self._number = number
        self._area = area
        self._observer = observer
        self._saved = saved
        self._keep = keep

    def run(self, source: RowSource, check: Check) -> Tensor:
        """Compute the block's output in its area; pooled, if the block ends with a pooling."""
        block, observed, weights = self._block, self._observer.layers, self._block.filter
        rows, columns = self._area.rows, self._area.columns
        channels = weights.channels[1]
        kernel = self._convolution.kernel(
            weights, rows.size, columns.size, transposed=False, large=self._saved.large
        )
        # Observers of the convolution read its values before the ReLU.
        rectify = block.relu is not None and block.conv not in observed
        rectified_map = self._rectified_map(channels, rows.size, columns.size)
        conv_map = None
        if self._keep and block.conv in observed:
            conv_map = self._saved_map(block.conv, channels, rows.size, columns.size)
        pooled_map = None
        if block.pool:
            pooled_map = self._pooled_map(channels, rows.size // 2, columns.size // 2)
        for band in self._convolution.bands(weights, rows.size, columns.size):
            check()
            count = band.stop - band.start
            if rectified_map is None:
                out = self._buffer("out", channels, count, columns.size)
            else:
                out = rectified_map[:, band]
            values, top = source.rows(band.start - rows.padding, count + 2)
            is_rectified = self._convolution.convolve(
                kernel, values, top, columns.padding, out, weights.bias, rectify=rectify
            )
            if block.conv in observed:
                self._observe(block.conv, out, band.start)
                if conv_map is not None:
                    conv_map[:, band].copy_(out)
            if block.relu:
                self._rectify(out, band, is_rectified=is_rectified)
            if pooled_map is not None:
                self._pool(out, pooled_map, band)
        result = rectified_map if pooled_map is None else pooled_map
        assert result is not None
        return result

    def _rectify(self, out: Tensor, band: slice, *, is_rectified: bool) -> None:
        """Apply the ReLU to a band, unless it is done; show it or save its mask."""
        block = self._block
        assert block.relu
        if block.pool and block.relu not in self._observer.layers:
            # The pooling rectifies.
            return
        if not is_rectified:
            out.relu_()
        if block.relu in self._observer.layers:
            self._observe(block.relu, out, band.start)
        elif self._keep:
            torch.gt(out, 0, out=self._saved.relu_masks[block.relu][:, band])

    def _pool(self, out: Tensor, pooled_map: Tensor, band: slice) -> None:
        """Pool a band and show the result; save the pooling's codes."""
        block = self._block
        assert block.pool
        count = out.shape[1] // 2
        if not count:
            return
        half = slice(band.start // 2, band.start // 2 + count)
        codes = self._saved.pooling_codes[block.pool][:, half] if self._keep else None
        self._saved.pooling.pool(out, pooled_map[:, half], codes, average=block.average)
        if block.pool in self._observer.layers:
            self._observe(block.pool, pooled_map[:, half], half.start, stride=2)

    def _observe(self, layer: str, values: Tensor, top: int, stride: int = 1) -> None:
        """Show rows of the area, or of the pooled area, from its row ``top`` on."""
        left = self._area.columns.start // stride
        self._observer.observe(layer, values, top + self._area.rows.start // stride, left)

    def _rectified_map(self, channels: int, rows: int, columns: int) -> Tensor | None:
        """Where the rectified convolution is stored as a whole; None if it need not be."""
        block, shape = self._block, (channels, rows, columns)
        layer = block.relu or block.conv
        is_observed = layer in self._observer.layers
        if self._keep and is_observed:
            return self._saved_map(layer, *shape)
        if self._keep and block.relu and not block.pool:
            mask = self._convolution.buffers.get(f"mask {layer}", shape, torch.bool)
            self._saved.relu_masks[layer] = mask
        if block.pool:
            return None
        if is_observed:
            # A later pass that saves features uses the same memory.
            return self._buffer(f"features {layer}", *shape)
        return self._buffer(f"map {self._number % 2}", *shape)

    def _pooled_map(self, channels: int, rows: int, columns: int) -> Tensor:
        """Where the pooling's output is stored."""
        block, shape = self._block, (channels, rows, columns)
        assert block.pool
        if self._keep:
            codes = self._convolution.buffers.get(f"codes {block.pool}", shape, torch.uint8)
            self._saved.pooling_codes[block.pool] = codes
            if block.pool in self._observer.layers:
                return self._saved_map(block.pool, *shape)
        return self._buffer(f"map {self._number % 2}", *shape)

    def _saved_map(self, layer: str, channels: int, rows: int, columns: int) -> Tensor:
        """Where features of a layer are saved for the backward pass."""
        if layer not in self._saved.features:
            self._saved.features[layer] = self._buffer(f"features {layer}", channels, rows, columns)
        return self._saved.features[layer]

    def _buffer(self, name: str, *shape: int) -> Tensor:
        return self._convolution.buffers.get(name, shape, self._convolution.dtype)
