"""Reuse, growth and size of buffers."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

from nstrt.runtime.kernels.buffers import BufferPool


def test_buffer_is_reused_and_grows() -> None:
    buffers = BufferPool()
    assert buffers.bytes == 0
    first = buffers.get("a", (4, 6))
    assert (first.shape, first.dtype, first.is_contiguous()) == ((4, 6), torch.float32, True)
    first.fill_(3)
    smaller = buffers.get("a", (2, 5))
    assert smaller.data_ptr() == first.data_ptr()
    assert torch.equal(smaller, torch.full((2, 5), 3.0))
    assert buffers.bytes == 4 * 24
    larger = buffers.get("a", (5, 6))
    assert larger.numel() == 30
    assert buffers.bytes == 4 * 30  # the smaller buffer is freed
    assert buffers.get("a", (4, 6)).data_ptr() == larger.data_ptr()
    other, mask = buffers.get("b", (4,)), buffers.get("a", (4,), torch.bool)
    assert len({larger.data_ptr(), other.data_ptr(), mask.data_ptr()}) == 3
    assert buffers.bytes == 4 * 30 + 4 * 4 + 4
    buffers.clear()
    assert buffers.bytes == 0


def test_growing_buffer_frees_the_old_one_first(monkeypatch: pytest.MonkeyPatch) -> None:
    buffers = BufferPool()
    old = weakref.ref(buffers.get("a", (8,))._base)
    alive_at_allocation = []

    def empty(*shape: Any, **options: Any) -> Tensor:
        alive_at_allocation.append(old() is not None)
        return torch.zeros(*shape, **options)

    monkeypatch.setattr(torch, "empty", empty)
    buffers.get("a", (16,))
    assert alive_at_allocation == [False]
