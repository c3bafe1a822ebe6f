"""Operations on torch tensors, on the processor or a card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["TensorArrays"]

_CHUNK = 1024
"""Positions in one chunk of a Gram matrix's product."""


@dataclass(frozen=True)
class TensorArrays:
    """:class:`Arrays` in torch."""

    device: torch.device

    def from_numpy(self, values: NDArray[Any], like: Tensor | None = None) -> Tensor:
        dtype = None if like is None else like.dtype
        # Copied to torch's memory, which is aligned: the alignment of NumPy's varies, and some
        # libraries add in another order for another alignment.
        return torch.from_numpy(np.array(values, order="C")).to(self.device, dtype, copy=True)

    def to_numpy(self, array: Tensor) -> NDArray[Any]:
        contiguous = array.contiguous().cpu()
        values: NDArray[Any] = contiguous.numpy()
        # A rearranged array, or one from a card, is a copy already.
        return values.copy() if contiguous.data_ptr() == array.data_ptr() else values

    def copy(self, array: Tensor) -> Tensor:
        return array.clone()

    def contiguous(self, array: Tensor) -> Tensor:
        return array.contiguous()

    def empty(self, shape: Sequence[int], like: Tensor) -> Tensor:
        return like.new_empty(shape, dtype=_single_for_half(like))

    def buffer(self, shape: Sequence[int], *, half: bool = False) -> Tensor:
        dtype = torch.float16 if half else torch.float32
        return torch.empty(tuple(shape), dtype=dtype, device=self.device)

    def zeros(self, shape: Sequence[int], like: Tensor) -> Tensor:
        return like.new_zeros(shape, dtype=_single_for_half(like))

    def upcast_half(self, array: Tensor) -> Tensor:
        return array.to(_single_for_half(array))

    def add_scaled(self, total: Tensor, other: Tensor, factor: Any) -> None:
        if isinstance(factor, Tensor):
            total.addcmul_(other, factor)
        else:
            total.add_(other, alpha=factor)

    def dot(self, one: Tensor, other: Tensor) -> Tensor:
        return torch.dot(one.flatten(), other.flatten())

    def sum_of_squares(self, array: Tensor) -> Tensor:
        return array.square().sum(dtype=torch.float64)

    def to_double(self, array: Tensor) -> Tensor:
        return array.double()

    def cast(self, array: Tensor, like: Tensor) -> Tensor:
        return array.to(like.dtype)

    def eigh(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        # LAPACK would wake all threads for each of its many small products: six times as slow.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            values, vectors = torch.linalg.eigh(matrix)
        finally:
            torch.set_num_threads(threads)
        return values, vectors

    def stack(self, numbers: Sequence[Tensor | float], like: Tensor) -> Tensor:
        return torch.stack(
            [
                number
                if isinstance(number, Tensor)
                else like.new_full((), number, dtype=torch.float64)
                for number in numbers
            ]
        )

    def clamp_min(self, array: Tensor, least: float) -> Tensor:
        return array.clamp_min(least)

    def where(self, condition: Tensor, one: Tensor, other: Tensor | float) -> Tensor:
        return torch.where(condition, one, other)

    def sqrt(self, array: Tensor) -> Tensor:
        return array.sqrt()

    def clamp(self, array: Tensor) -> None:
        array.clamp_(0, 1)

    def add_gram(self, total: Tensor, flat: Tensor) -> None:
        # In a product of few channels and many positions, only one thread would work.
        count = flat.shape[1] // _CHUNK
        if count > 1 and not flat.is_cuda:
            whole = flat[:, : count * _CHUNK]
            chunks = whole.reshape(len(flat), count, _CHUNK).transpose(0, 1)
            total += torch.bmm(chunks, chunks.transpose(1, 2)).sum(0)
            flat = flat[:, count * _CHUNK :]
        total.addmm_(flat, flat.T)

    def add_matmul(self, total: Tensor, factor: Tensor, flat: Tensor) -> None:
        flat = flat.to(factor.dtype)
        if total.is_contiguous():
            total.view(len(flat), -1).addmm_(factor, flat)
        else:
            total += (factor @ flat).view(total.shape)

    def filter_spectrum(self, array: Tensor, weights: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(array).mul_(weights)
        filtered: Tensor = torch.fft.irfft2(spectrum, s=array.shape[-2:])
        return filtered.contiguous()

    def resize_bicubic(self, array: Tensor, height: int, width: int) -> Tensor:
        resized: Tensor = torch.nn.functional.interpolate(
            array, size=(height, width), mode="bicubic", align_corners=False
        )
        return resized


def _single_for_half(array: Tensor) -> torch.dtype:
    return torch.float32 if array.dtype == torch.float16 else array.dtype
