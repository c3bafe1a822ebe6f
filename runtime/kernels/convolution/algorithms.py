"""Algorithms for a 3x3 convolution of a band of rows, forwards or transposed.

A band is channels x (rows + 2) x (columns + 2): what the convolution sees, with the pixel around.
Kernels that work in tiles of :attr:`Kernel.multiple` pixels get bands that are filled up to whole
tiles. The transposed convolution takes a gradient at the output to the one at the input.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nstrt.runtime.kernels.buffers import BufferPool
from nstrt.runtime.kernels.compiled import working_loops
from nstrt.runtime.kernels.convolution.filter import Filter, Kernel
from nstrt.runtime.kernels.convolution.winograd_4x4 import Winograd4x4, place

__all__ = [
    "COMPILED",
    "Direct",
    "Half",
    "Im2col",
    "Nnpack",
    "Rounded",
    "candidates",
    "nnpack_works",
]


COMPILED = "fused"
"""The algorithm whose loops take time to load."""


class Direct:
    """torch's own convolution: oneDNN on processors, cuDNN on NVIDIA's cards."""

    multiple = 1
    rounded = None
    windowed = False

    def __init__(self, weight: Tensor) -> None:
        # cuDNN's fastest kernels want the channels last; oneDNN sorts them itself.
        layout = torch.channels_last if weight.is_cuda else torch.contiguous_format
        self._weight = weight.contiguous(memory_format=layout)

    def apply(self, band: Tensor, out: Tensor, bias: Tensor | None) -> None:
        place(functional.conv2d(band[None], self._weight)[0], out, bias)


class Rounded:
    """torch's own convolution with products of numbers rounded to bfloat16.

    That has single precision's range, so that gradients of means over a million positions, far
    below half precision's smallest numbers, need no scaling.
    """

    multiple = 1
    rounded = torch.bfloat16
    windowed = False

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight.bfloat16().contiguous(memory_format=torch.channels_last)

    def apply(self, band: Tensor, out: Tensor, bias: Tensor | None) -> None:
        out.copy_(functional.conv2d(band[None], self._weight)[0])
        if bias is not None:
            out += bias


class Half:
    """torch's own convolution in half precision, each band scaled to its largest number."""

    multiple = 1
    rounded = None
    windowed = False

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight.half().contiguous(memory_format=torch.channels_last)

    def apply(self, band: Tensor, out: Tensor, bias: Tensor | None) -> None:
        scale = band.abs().amax().clamp_min(1e-30)
        scaled = (band / scale).half()[None].contiguous(memory_format=torch.channels_last)
        # First to the wider format: what was scaled back may be out of half precision's range.
        out.copy_(functional.conv2d(scaled, self._weight)[0]).mul_(scale)
        if bias is not None:
            out += bias


class Nnpack:
    """NNPACK's Winograd kernels, which some builds of torch carry, by a private call."""

    multiple = 1
    rounded = None
    windowed = False

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight

    def apply(self, band: Tensor, out: Tensor, bias: Tensor | None) -> None:
        place(_nnpack(band[None], self._weight)[0], out, bias)


class Im2col:
    """For few channels on one side: nine shifted copies, and one matrix product."""

    multiple = 1
    rounded = None
    windowed = False

    def __init__(self, weight: Tensor, scratch: BufferPool) -> None:
        outputs, inputs = weight.shape[:2]
        self._few_inputs = inputs < outputs
        by_row = weight if self._few_inputs else weight.permute(2, 3, 0, 1)
        self._matrix = by_row.reshape(-1, 9 * inputs if self._few_inputs else inputs).contiguous()
        self._scratch = scratch

    def apply(self, band: Tensor, out: Tensor, bias: Tensor | None) -> None:
        if self._few_inputs:
            self._gathered(band, out, bias)
        else:
            self._spread(band, out, bias)

    def _gathered(self, band: Tensor, out: Tensor, bias: Tensor | None) -> None:
        """The neighbours of each pixel as rows, then the product."""
        channels, (rows, columns) = band.shape[0], out.shape[1:]
        plane, line, _ = band.stride()
        shape = (channels, 3, 3, rows, columns)
        around = self._scratch.get("gathered", shape)
        around.copy_(band.as_strided(shape, (plane, line, 1, line, 1)))
        found = self._scratch.get("transformed", out.shape)
        torch.mm(self._matrix, around.view(9 * channels, -1), out=found.view(len(found), -1))
        place(found, out, bias)

    def _spread(self, band: Tensor, out: Tensor, bias: Tensor | None) -> None:
        """The product, then each of its nine parts where it belongs."""
        rows, columns = out.shape[1:]
        parts = self._scratch.get("gathered", (len(self._matrix), band[0].numel()))
        torch.mm(self._matrix, band.reshape(band.shape[0], -1), out=parts)
        placed = parts.view(3, 3, out.shape[0], *band.shape[1:])
        out.zero_() if bias is None else out.copy_(bias.expand_as(out))
        for down in range(3):
            for across in range(3):
                out += placed[down, across, :, down : down + rows, across : across + columns]


def candidates(
    weights: Filter,
    scratch: BufferPool,
    *,
    transposed: bool,
    precision: str = "fp32",
    large: bool = False,
) -> Mapping[str, Callable[[], Kernel]]:
    """The algorithms that serve for a convolution here, by name; each is made when called.

    ``large`` are pictures that are worth the time that compiled loops take to load.
    """
    inputs, outputs = weights.channels

    def one_way() -> Tensor:
        return weights.one_way(transposed=transposed)

    if precision == "fp16":
        return {"half": lambda: Half(one_way())}
    if precision == "bf16" and min(inputs, outputs) >= 16:
        return {"rounded": lambda: Rounded(one_way())}
    found: dict[str, Callable[[], Kernel]] = {"direct": lambda: Direct(one_way())}
    if weights.weight.is_cuda or weights.weight.dtype != torch.float32:
        return found
    if min(inputs, outputs) < 16:
        found["products"] = lambda: Im2col(one_way(), scratch)
    else:
        found["winograd"] = lambda: Winograd4x4(
            weights.transformed(), scratch, transposed=transposed
        )
        if nnpack_works():
            found["nnpack"] = lambda: Nnpack(one_way())
    if large and fused_works():
        found[COMPILED] = lambda: _fused(one_way(), scratch)
    return found


def _fused(weight: Tensor, scratch: BufferPool) -> Kernel:
    from nstrt.runtime.kernels.convolution.winograd_6x6 import Winograd6x6

    return Winograd6x6(weight, scratch)


def fused_works() -> bool:
    """Whether Numba is here, and what it compiles agrees with torch's convolution."""
    return working_loops("convolution.winograd_6x6") is not None


def _nnpack(x: Tensor, weight: Tensor) -> Tensor:
    found: Tensor = torch._nnpack_spatial_convolution(x, weight, None, padding=0)
    return found


_works: list[bool] = []


def nnpack_works() -> bool:
    """Whether this torch has NNPACK's convolution, and it agrees with the public one."""
    if not _works:
        _works.append(_probe())
    return _works[0]


def _probe() -> bool:
    source = torch.Generator().manual_seed(0)
    x = torch.rand((1, 16, 19, 22), generator=source)
    weight = torch.rand((16, 16, 3, 3), generator=source) - 0.5
    wanted = functional.conv2d(x, weight)
    # Private and optional: whatever is wrong with it, it is left out.
    with contextlib.suppress(Exception):
        backend: Any = torch.backends.nnpack
        # The call initialises the library; without it the operator fails.
        if backend.is_available():
            return bool(torch.allclose(_nnpack(x, weight), wanted, rtol=1e-3, atol=1e-4))
    return False
