"""The backward pass in bands of rows: the vector-Jacobian product of the forward pass.

It is what autograd computes, without gradients for the weights. The gradient at a layer is written
over the layer's saved features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nstrt.runtime.arrays import row_bands
from nstrt.runtime.network.activations import SavedActivations
from nstrt.runtime.network.banded_forward import FirstBlock, crop_input
from nstrt.runtime.network.bands import BandedConvolution, Check, band_interior
from nstrt.runtime.network.feature_observer import FeatureObserver
from nstrt.runtime.network.receptive_field import OutputArea
from nstrt.runtime.network.vgg import ConvBlock

__all__ = ["backward_pass"]

GradientConsumer = Callable[[Tensor, int], None]
"""Called with rows of a gradient, which it may overwrite, and the index of the first row."""


def backward_pass(
    convolution: BandedConvolution,
    blocks: Sequence[ConvBlock],
    areas: Sequence[OutputArea],
    observer: FeatureObserver,
    saved: SavedActivations,
    check: Check,
) -> Tensor:
    """The gradient at the padded input, in a buffer that the next call overwrites."""
    shape = blocks[0].filter.channels[0], saved.height + 2, saved.width + 2
    padded = convolution.buffers.get("input gradient", shape, convolution.dtype).zero_()
    gradient = crop_input(padded, areas[0])

    def add_to_input(rows: Tensor, top: int) -> None:
        gradient[:, top : top + rows.shape[1]] += rows

    steps = [
        _BlockBackward(convolution, block, number, area, observer, saved)
        for number, (block, area) in enumerate(zip(blocks, areas, strict=True))
    ]
    consumers: list[GradientConsumer] = [step.receive for step in steps]
    recompute_first = saved.padded_input is not None
    if recompute_first:
        first = FirstBlock(convolution, blocks[0], areas[0], observer, saved)
        consumers[0] = _FirstBlockBackward(convolution, first, observer, add_to_input).receive
    steps[-1].receive_zeros()
    for number in reversed(range(1, len(blocks))):
        steps[number].run(consumers[number - 1], check)
    if not recompute_first:
        steps[0].run(add_to_input, check)
    return padded


class _BlockBackward:
    """The backward pass of one block.

    It receives the gradient at the block's output from the next block, then gives the gradient at
    its input to the previous one.
    """

    def __init__(
        self,
        convolution: BandedConvolution,
        block: ConvBlock,
        number: int,
        area: OutputArea,
        observer: FeatureObserver,
        saved: SavedActivations,
    ) -> None:
        self._convolution = convolution
        self._block = block
        self._number = number
        self._area = area
        self._observer = observer
        self._saved = saved
        self._gradient: Tensor | None = None

    def receive_zeros(self) -> None:
        """Start at the deepest block, where only the loss contributes to the gradient."""
        _, rows, columns = self._output_shape
        channels = self._block.filter.channels[1]
        for band in row_bands(rows, 64):
            zeros = self._buffer("out", channels, band.stop - band.start, columns).zero_()
            self.receive(zeros, band.start)

    def receive(self, gradient: Tensor, top: int) -> None:
        """Take rows of the gradient at the block's output, from row ``top`` on.

        Adds the loss's gradient and, unless the block ends with a pooling, goes back through the
        ReLU.
        """
        rows = slice(top, top + gradient.shape[1])
        block, target = self._block, self._output_gradient()[:, rows]
        if block.pool:
            # Windows leave out an odd last row and column.
            self._add_loss(block.pool, gradient, top, stride=2)
            target.copy_(gradient)
        elif block.relu:
            self._add_loss(block.relu, gradient, top)
            features = self._saved.features.get(block.relu)
            if features is not None:
                _relu_backward(gradient, features[:, rows], target)
            else:
                torch.mul(gradient, self._saved.relu_masks[block.relu][:, rows], out=target)
            self._add_loss(block.conv, target, top)
        else:
            self._add_loss(block.conv, gradient, top)
            target.copy_(gradient)

    def run(self, consume: GradientConsumer, check: Check) -> None:
        """Give ``consume`` the gradient at the convolution's input, band by band."""
        rows, columns = self._area.rows, self._area.columns
        weights = self._block.filter
        inputs, outputs = weights.channels
        height, width = rows.input_size, columns.input_size
        kernel = self._convolution.kernel(
            weights, height, width, transposed=True, large=self._saved.large
        )
        for band in self._convolution.bands(weights, height, width):
            check()
            count = band.stop - band.start
            out = self._buffer("out", inputs, count, width)
            top = band.start - rows.transposed_padding
            if self._block.pool:
                padded = self._convolution.input_band(kernel, outputs, count, width)
                self._unpool(padded, top, count + 2)
                kernel.apply(padded, out, None)
            else:
                gradient, padding = self._output_gradient(), columns.transposed_padding
                self._convolution.convolve(kernel, gradient, top, padding, out)
            consume(out, band.start)

    def _unpool(self, padded: Tensor, top: int, count: int) -> None:
        """Fill a band with ``count`` rows of the gradient at the convolution's output, from row
        ``top`` on, taken back through the pooling and the ReLU."""
        block, rows, columns = self._block, self._area.rows, self._area.columns
        assert block.pool
        assert block.relu
        low, high = max(0, top), min(rows.size, top + count)
        gradient = band_interior(
            padded, low - top, high - low, columns.transposed_padding, columns.size
        )
        self._saved.pooling.unpool(
            self._output_gradient(),
            self._saved.pooling_codes[block.pool],
            gradient,
            low,
            average=block.average,
        )
        if block.relu in self._observer.layers:
            self._add_loss(block.relu, gradient, low)
            # The loss's gradient is not zero where the ReLU's input is below zero.
            gradient *= self._saved.features[block.relu][:, low:high] > 0
        self._add_loss(block.conv, gradient, low)

    def _add_loss(self, layer: str, gradient: Tensor, top: int, stride: int = 1) -> None:
        """Add the loss's gradient at rows of the area from its row ``top`` on.

        With a ``stride``, they are rows of the pooled area. Unobserved layers add nothing.
        """
        if layer in self._observer.layers:
            features = self._saved.features[layer][:, top : top + gradient.shape[1]]
            left = self._area.columns.start // stride
            self._observer.add_gradient(
                layer, features, gradient, top + self._area.rows.start // stride, left
            )

    @property
    def _output_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of the block's output in its area."""
        shrink = 2 if self._block.pool else 1
        rows, columns = self._area.rows.size // shrink, self._area.columns.size // shrink
        return self._block.filter.channels[1], rows, columns

    def _output_gradient(self) -> Tensor:
        """Memory of the gradient at the block's output: that of its features, if they are saved.

        For a block without pooling it is the gradient before the ReLU.
        """
        if self._gradient is None:
            block = self._block
            features = None
            if block.relu and not block.pool:
                features = self._saved.features.get(block.relu)
            if features is None:
                features = self._buffer(f"map {self._number % 2}", *self._output_shape)
            self._gradient = features
        return self._gradient

    def _buffer(self, name: str, *shape: int) -> Tensor:
        return self._convolution.buffers.get(name, shape, self._convolution.dtype)


class _FirstBlockBackward:
    """The backward pass of a first block whose output is computed again."""

    def __init__(
        self,
        convolution: BandedConvolution,
        first: FirstBlock,
        observer: FeatureObserver,
        consume: GradientConsumer,
    ) -> None:
        self._convolution = convolution
        self._first = first
        self._observer = observer
        self._consume = consume

    def receive(self, gradient: Tensor, top: int) -> None:
        """Take rows of the gradient at the block's output, from row ``top`` on; give the gradient
        at the padded input on. Rows of successive calls overlap there, so they are added."""
        first, columns, count = self._first, self._first.area.columns, gradient.shape[1]
        features = first.features(top, top + count)
        if first.is_observed:
            self._observer.add_gradient(first.relu, features, gradient, *first.position(top))
        _relu_backward(gradient, features, gradient)
        kernel = self._convolution.kernel(
            first.filter,
            first.area.rows.input_size,
            columns.input_size,
            transposed=True,
            large=first.large,
        )
        # One row of the output depends on three rows of the padded input.
        shape = first.filter.channels[0], count + 2, columns.input_size
        out = self._convolution.buffers.get("first block gradient", shape, self._convolution.dtype)
        self._convolution.convolve(kernel, gradient, -2, 2, out)
        self._consume(out, top)


def _relu_backward(gradient: Tensor, features: Tensor, out: Tensor) -> None:
    """Write the gradient where features are above zero, else zero; ``out`` may be ``features``."""
    torch.ops.aten.threshold_backward.grad_input(gradient, features, 0, grad_input=out)
