"""Memory that is used again: the system hands out fresh pages slowly."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["BufferPool"]


class BufferPool:
    """Buffers by name, each as large as the largest that was asked for."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        self._buffers: dict[tuple[str, torch.dtype], Tensor] = {}

    def get(self, name: str, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """A contiguous tensor whose content is whatever was left there. The next one of this
        name lies in the same place."""
        count = math.prod(shape)
        buffer = self._buffers.get((name, dtype))
        if buffer is None or buffer.numel() < count:
            # The old one goes first: both need not fit.
            del buffer
            self._buffers.pop((name, dtype), None)
            buffer = torch.empty(count, dtype=dtype, device=self.device)
            self._buffers[name, dtype] = buffer
        return buffer[:count].view(tuple(shape))

    @property
    def bytes(self) -> int:
        """What all buffers take."""
        return sum(buffer.numel() * buffer.element_size() for buffer in self._buffers.values())

    def clear(self) -> None:
        """Give everything back."""
        self._buffers.clear()
