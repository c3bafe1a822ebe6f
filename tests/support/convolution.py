"""Reference convolution in double precision, and bands for kernels under test."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor
from torch.nn import functional

from nstrt.runtime.kernels.buffers import BufferPool
from nstrt.runtime.kernels.convolution import Filter, Kernel, band_for


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Normally distributed numbers in double precision."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def make_filter(inputs: int, outputs: int, dtype: torch.dtype = torch.float32) -> Filter:
    weight = noise(outputs, inputs, 3, 3, seed=1) / 3 / inputs**0.5
    return Filter(weight.to(dtype), noise(outputs, seed=2).to(dtype))


def reference_convolution(values: Tensor, weight: Tensor, *, transposed: bool) -> Tensor:
    """Convolution of channels x (rows + 2) x (columns + 2), or its transpose by autograd."""
    values, weight = values.double(), weight.double()
    if not transposed:
        return functional.conv2d(values[None], weight)[0]
    # Only input pixels with all neighbours in ``values`` have a complete gradient.
    shape = (weight.shape[1], values.shape[1] + 2, values.shape[2] + 2)
    leaf = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    output = functional.conv2d(leaf[None], weight)[0]
    (gradient,) = torch.autograd.grad(output, leaf, values)
    return gradient[:, 2:-2, 2:-2]


def apply_kernel(
    kernel: Kernel,
    values: Tensor,
    buffers: BufferPool,
    *,
    outputs: int,
    bias: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Apply a kernel to a band with ``values``, in a buffer that held other numbers before."""
    channels, rows, columns = values.shape[0], values.shape[1] - 2, values.shape[2] - 2
    band_for(buffers, kernel, channels, rows, columns).fill_(7)
    band = band_for(buffers, kernel, channels, rows, columns)
    band.zero_()
    band[:, : rows + 2, : columns + 2] = values
    out = torch.full((outputs, rows, columns), 9.0) if out is None else out
    kernel.apply(band, out, bias)
    return out


def correlate(values: list[Fraction], weights: list[Fraction]) -> list[Fraction]:
    """Exact correlation of a row with three weights, without padding."""
    return [
        sum((values[i + k] * weights[k] for k in range(3)), start=Fraction(0))
        for i in range(len(values) - 2)
    ]
