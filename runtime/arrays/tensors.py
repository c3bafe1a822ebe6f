"""torch's tensors, on the processor or a card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["TensorArrays"]

_PIECE = 1024
"""Positions of a piece of a Gram matrix's product."""


@dataclass(frozen=True)
class TensorArrays:
    """See :class:`Arrays`."""

    device: torch.device

    def place(self, values: NDArray[Any], like: Tensor | None = None) -> Tensor:
        dtype = None if like is None else like.dtype
        # Into torch's own memory: where NumPy's begins differs from run to run, and with it the
        # order in which some libraries add up.
        return torch.from_numpy(np.array(values, order="C")).to(self.device, dtype, copy=True)

    def fetch(self, array: Tensor) -> NDArray[Any]:
        packed = array.contiguous().cpu()
        found: NDArray[Any] = packed.numpy()
        # Rearranged or brought from a card, it is a copy already.
        return found.copy() if packed.data_ptr() == array.data_ptr() else found

    def copy(self, array: Tensor) -> Tensor:
        return array.clone()

    def packed(self, array: Tensor) -> Tensor:
        return array.contiguous()

    def empty(self, shape: Sequence[int], like: Tensor) -> Tensor:
        return like.new_empty(shape, dtype=_wide(like))

    def buffer(self, shape: Sequence[int], *, half: bool = False) -> Tensor:
        dtype = torch.float16 if half else torch.float32
        return torch.empty(tuple(shape), dtype=dtype, device=self.device)

    def zeros(self, shape: Sequence[int], like: Tensor) -> Tensor:
        return like.new_zeros(shape, dtype=_wide(like))

    def single(self, array: Tensor) -> Tensor:
        return array.to(_wide(array))

    def add(self, total: Tensor, other: Tensor, factor: Any) -> None:
        if isinstance(factor, Tensor):
            total.addcmul_(other, factor)
        else:
            total.add_(other, alpha=factor)

    def dot(self, one: Tensor, other: Tensor) -> Tensor:
        return torch.dot(one.flatten(), other.flatten())

    def energy(self, array: Tensor) -> Tensor:
        return array.square().sum(dtype=torch.float64)

    def double(self, number: Tensor) -> Tensor:
        return number.double()

    def stack(self, numbers: Sequence[Tensor | float], like: Tensor) -> Tensor:
        return torch.stack(
            [
                number
                if isinstance(number, Tensor)
                else like.new_full((), number, dtype=torch.float64)
                for number in numbers
            ]
        )

    def at_least(self, array: Tensor, least: float) -> Tensor:
        return array.clamp_min(least)

    def choose(self, condition: Tensor, one: Tensor, other: Tensor | float) -> Tensor:
        return torch.where(condition, one, other)

    def root(self, array: Tensor) -> Tensor:
        return array.sqrt()

    def clamp(self, array: Tensor) -> None:
        array.clamp_(0, 1)

    def add_product(self, total: Tensor, flat: Tensor) -> None:
        # A product that is much longer than wide keeps one thread busy at a time.
        count = flat.shape[1] // _PIECE
        if count > 1 and not flat.is_cuda:
            whole = flat[:, : count * _PIECE]
            pieces = whole.reshape(len(flat), count, _PIECE).transpose(0, 1)
            total += torch.bmm(pieces, pieces.transpose(1, 2)).sum(0)
            flat = flat[:, count * _PIECE :]
        total.addmm_(flat, flat.T)

    def add_gram_gradient(self, gradient: Tensor, factor: Tensor, flat: Tensor) -> None:
        flat = flat.to(factor.dtype)
        if gradient.is_contiguous():
            gradient.view(len(flat), -1).addmm_(factor, flat)
        else:
            gradient += (factor @ flat).view(gradient.shape)

    def filtered(self, array: Tensor, weights: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(array).mul_(weights)
        found: Tensor = torch.fft.irfft2(spectrum, s=array.shape[-2:])
        return found.contiguous()

    def resized(self, array: Tensor, height: int, width: int) -> Tensor:
        found: Tensor = torch.nn.functional.interpolate(
            array, size=(height, width), mode="bicubic", align_corners=False
        )
        return found


def _wide(array: Tensor) -> torch.dtype:
    return torch.float32 if array.dtype == torch.float16 else array.dtype
