"""Algorithms for a 3x3 convolution of a band of rows, or for its transpose.

A band is channels x (rows + 2) x (columns + 2): the input with a border of one pixel. Kernels that
work in tiles of :attr:`Kernel.tile_size` pixels get bands that are padded to whole tiles. The
transposed convolution maps the gradient of the output to the gradient of the input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from nstrt.runtime.kernels.buffers import BufferPool
from nstrt.runtime.kernels.compiled import load_compiled
from nstrt.runtime.kernels.convolution.filter import Filter, Kernel
from nstrt.runtime.kernels.convolution.winograd_4x4 import Winograd4x4, write_output

__all__ = [
    "COMPILED",
    "COMPILED_MODULE",
    "Bfloat16",
    "Direct",
    "Float16",
    "Im2col",
    "candidates",
    "winograd_6x6_works",
]


COMPILED = "winograd6x6"
"""Name of the compiled algorithm, whose module takes time to load."""

COMPILED_MODULE = "convolution.winograd_6x6"
"""Module of the compiled algorithm."""


class Direct:
    """torch's own convolution: oneDNN on CPUs, cuDNN on NVIDIA GPUs."""

    tile_size = 1
    band_dtype = None
    windowed = False

    def __init__(self, weight: Tensor) -> None:
        # cuDNN's fastest kernels need channels-last weights; oneDNN reorders them itself.
        layout = torch.channels_last if weight.is_cuda else torch.contiguous_format
        self._weight = weight.contiguous(memory_format=layout)

    def apply(self, band: Tensor, out: Tensor, bias: Tensor | None) -> None:
        write_output(functional.conv2d(band[None], self._weight)[0], out, bias)


class Bfloat16:
    """torch's own convolution of bfloat16 numbers.

    bfloat16 has the range of single precision. So gradients of means over a million positions, far
    below the smallest float16, need no scaling.
    """

    tile_size = 1
    band_dtype = torch.bfloat16
    windowed = False

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight.bfloat16().contiguous(memory_format=torch.channels_last)

    def apply(self, band: Tensor, out: Tensor, bias: Tensor | None) -> None:
        out.copy_(functional.conv2d(band[None], self._weight)[0])
        if bias is not None:
            out += bias


class Float16:
    """torch's own convolution of float16 numbers, each band divided by its maximum."""

    tile_size = 1
    band_dtype = None
    windowed = False

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight.half().contiguous(memory_format=torch.channels_last)

    def apply(self, band: Tensor, out: Tensor, bias: Tensor | None) -> None:
        scale = band.abs().amax().clamp_min(1e-30)
        scaled = (band / scale).half()[None].contiguous(memory_format=torch.channels_last)
        # The type is widened before scaling back, which may leave the range of float16.
        out.copy_(functional.conv2d(scaled, self._weight)[0]).mul_(scale)
        if bias is not None:
            out += bias


class Im2col:
    """Nine shifted copies and one matrix product, for few input or output channels."""

    tile_size = 1
    band_dtype = None
    windowed = False

    def __init__(self, weight: Tensor, buffers: BufferPool) -> None:
        outputs, inputs = weight.shape[:2]
        self._few_inputs = inputs < outputs
        rows = weight if self._few_inputs else weight.permute(2, 3, 0, 1)
        self._matrix = rows.reshape(-1, 9 * inputs if self._few_inputs else inputs).contiguous()
        self._buffers = buffers

    def apply(self, band: Tensor, out: Tensor, bias: Tensor | None) -> None:
        if self._few_inputs:
            self._gather(band, out, bias)
        else:
            self._scatter(band, out, bias)

    def _gather(self, band: Tensor, out: Tensor, bias: Tensor | None) -> None:
        """Copy the nine neighbours of each pixel, then multiply."""
        channels, (rows, columns) = band.shape[0], out.shape[1:]
        plane, line, _ = band.stride()
        shape = (channels, 3, 3, rows, columns)
        neighbours = self._buffers.get("gathered", shape)
        neighbours.copy_(band.as_strided(shape, (plane, line, 1, line, 1)))
        result = self._buffers.get("transformed", out.shape)
        columns_matrix = neighbours.view(9 * channels, -1)
        torch.mm(self._matrix, columns_matrix, out=result.view(len(result), -1))
        write_output(result, out, bias)

    def _scatter(self, band: Tensor, out: Tensor, bias: Tensor | None) -> None:
        """Multiply, then add the nine products at their offsets."""
        rows, columns = out.shape[1:]
        products = self._buffers.get("gathered", (len(self._matrix), band[0].numel()))
        torch.mm(self._matrix, band.reshape(band.shape[0], -1), out=products)
        planes = products.view(3, 3, out.shape[0], *band.shape[1:])
        out.zero_() if bias is None else out.copy_(bias.expand_as(out))
        for down in range(3):
            for across in range(3):
                out += planes[down, across, :, down : down + rows, across : across + columns]


def candidates(
    weights: Filter,
    buffers: BufferPool,
    *,
    transposed: bool,
    precision: str = "fp32",
    large: bool = False,
) -> Mapping[str, Callable[[], Kernel]]:
    """Constructors of the algorithms that apply to a convolution on this machine, by name.

    Compiled algorithms are included for ``large`` images only, see :func:`is_large`.
    """
    inputs, outputs = weights.channels

    def weight() -> Tensor:
        return weights.directed_weight(transposed=transposed)

    if precision == "fp16":
        return {"fp16": lambda: Float16(weight())}
    if precision == "bf16" and min(inputs, outputs) >= 16:
        return {"bf16": lambda: Bfloat16(weight())}
    makers: dict[str, Callable[[], Kernel]] = {"direct": lambda: Direct(weight())}
    if weights.weight.is_cuda or weights.weight.dtype != torch.float32:
        return makers
    if min(inputs, outputs) < 16:
        makers["im2col"] = lambda: Im2col(weight(), buffers)
    else:
        makers["winograd4x4"] = lambda: Winograd4x4(
            weights.winograd_weight(), buffers, transposed=transposed
        )
    if large and winograd_6x6_works():
        makers[COMPILED] = lambda: _winograd_6x6(weight(), buffers)
    return makers


def _winograd_6x6(weight: Tensor, buffers: BufferPool) -> Kernel:
    from nstrt.runtime.kernels.convolution.winograd_6x6 import Winograd6x6

    return Winograd6x6(weight, buffers)


def winograd_6x6_works() -> bool:
    """Return True if Numba is installed and its compiled convolution agrees with torch's."""
    return load_compiled(COMPILED_MODULE) is not None
