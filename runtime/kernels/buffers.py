"""Reusable buffers, because fresh memory pages from the system are slow."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["BufferPool"]


class BufferPool:
    """Buffers by name and type, each as large as the largest request so far."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        self._buffers: dict[tuple[str, torch.dtype], Tensor] = {}

    def get(self, name: str, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Return a contiguous, uninitialised tensor in the buffer of this name.

        The next tensor of this name and type overlaps it.
        """
        count = math.prod(shape)
        buffer = self._buffers.get((name, dtype))
        if buffer is None or buffer.numel() < count:
            # The old buffer is freed first, since both may not fit into memory.
            del buffer
            self._buffers.pop((name, dtype), None)
            buffer = torch.empty(count, dtype=dtype, device=self.device)
            self._buffers[name, dtype] = buffer
        return buffer[:count].view(tuple(shape))

    @property
    def bytes(self) -> int:
        """Size of all buffers, in bytes."""
        return sum(buffer.numel() * buffer.element_size() for buffer in self._buffers.values())

    def clear(self) -> None:
        """Free all buffers."""
        self._buffers.clear()
