"""NNPACK is used where torch contains it and it agrees with the public convolution."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from nstrt.runtime.kernels.buffers import BufferPool
from nstrt.runtime.kernels.convolution.algorithms import candidates
from nstrt.runtime.kernels.convolution.nnpack import nnpack_works

from support.convolution import make_filter


@pytest.fixture(autouse=True)
def uncached_self_test() -> Iterator[None]:
    """Compare NNPACK again, during the test and after it."""
    nnpack_works.cache_clear()
    yield
    nnpack_works.cache_clear()


def remove_operator(patch: pytest.MonkeyPatch) -> None:
    patch.delattr(torch, "_nnpack_spatial_convolution", raising=False)


def remove_backend(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.backends, "nnpack", None)


def remove_library(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.backends.nnpack, "is_available", lambda: False)


def change_result(change: Callable[[Tensor], Tensor]) -> Callable[[pytest.MonkeyPatch], None]:
    def replace_operator(patch: pytest.MonkeyPatch) -> None:
        def operator(x: Tensor, weight: Tensor, *rest: Any, **options: Any) -> Tensor:
            return change(functional.conv2d(x, weight))

        patch.setattr(torch.backends.nnpack, "is_available", lambda: True)
        patch.setattr(torch, "_nnpack_spatial_convolution", operator, raising=False)

    return replace_operator


@pytest.mark.parametrize(
    "break_it",
    [
        remove_operator,
        remove_backend,
        remove_library,
        change_result(lambda y: y + 0.01),
        change_result(lambda y: y * torch.nan),
        change_result(lambda y: y[..., 1:]),
        change_result(lambda y: y.flip(-1)),
    ],
    ids=["no operator", "no backend", "no library", "wrong", "nan", "another shape", "flipped"],
)
def test_missing_or_wrong_nnpack_is_no_candidate(
    break_it: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(monkeypatch)
    assert not nnpack_works()
    assert "nnpack" not in candidates(make_filter(16, 16), BufferPool(), transposed=False)


def test_agreeing_nnpack_is_a_candidate_and_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    change_result(lambda y: y)(monkeypatch)
    assert nnpack_works()
    remove_operator(monkeypatch)
    assert nnpack_works()
    assert "nnpack" in candidates(make_filter(16, 16), BufferPool(), transposed=False)
