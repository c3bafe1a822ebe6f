"""2x2 pooling and its gradient, compiled and plain, against torch's pooling and autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from nstrt.runtime.kernels.pooling import NO_GRADIENT, Pooling, compiled, plain, pooling_for

BOTH = pytest.mark.parametrize("module", [plain, compiled], ids=["plain", "compiled"])
SIZES = [(2, 2), (4, 6), (5, 7), (16, 33), (31, 64)]


def features(rows: int, columns: int) -> Tensor:
    """Small integers, many below zero: windows with ties, and windows without positive pixels."""
    source = torch.Generator().manual_seed(rows * 100 + columns)
    return torch.randint(-3, 3, (5, rows, columns), generator=source).float()


def pool_by_torch(values: Tensor, average: bool) -> Tensor:
    rectified = values.relu()[None]
    return (functional.avg_pool2d if average else functional.max_pool2d)(rectified, 2)[0]


def pool(module: Pooling, values: Tensor, average: bool) -> tuple[Tensor, Tensor]:
    shape = (len(values), values.shape[1] // 2, values.shape[2] // 2)
    pooled, codes = torch.empty(shape), torch.empty(shape, dtype=torch.uint8)
    module.pool(values, pooled, codes, average=average)
    return pooled, codes


@BOTH
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_pooling_and_gradient_equal_torchs(
    module: Pooling, average: bool, size: tuple[int, int]
) -> None:
    values = features(*size)
    leaf = values.clone().requires_grad_()
    expected = pool_by_torch(leaf, average)
    gradient = torch.rand(expected.shape, generator=torch.Generator().manual_seed(1))
    (expected_gradient,) = torch.autograd.grad(expected, leaf, gradient)
    pooled, codes = pool(module, values, average)
    assert torch.equal(pooled, expected.detach())
    result = torch.full_like(values, torch.nan)
    module.unpool(gradient, codes, result, 0, average=average)
    assert torch.equal(result, expected_gradient)


@BOTH
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("low", [1, 2, 5])
def test_rows_of_the_gradient_equal_those_of_the_whole(
    module: Pooling, average: bool, low: int
) -> None:
    values = features(15, 9)
    pooled, codes = pool(module, values, average)
    whole = torch.empty_like(values)
    module.unpool(pooled, codes, whole, 0, average=average)
    # A slice of a band, whose rows are not contiguous.
    part = torch.full((5, 20, 12), torch.nan)[:, 3 : 3 + 15 - low, 2:11]
    module.unpool(pooled, codes, part, low, average=average)
    assert torch.equal(part, whole[:, low:])


@BOTH
def test_maximum_below_zero_passes_no_gradient(module: Pooling) -> None:
    values = -features(8, 8).abs()
    _, codes = pool(module, values, average=False)
    assert (codes >= NO_GRADIENT).all()


@BOTH
@pytest.mark.parametrize("average", [False, True])
def test_values_and_codes_can_be_computed_separately(module: Pooling, average: bool) -> None:
    values = features(6, 10)
    pooled, codes = pool(module, values, average)
    only_pooled, only_codes = torch.empty_like(pooled), torch.empty_like(codes)
    module.pool(values, only_pooled, None, average=average)
    module.pool(values, None, only_codes, average=average)
    assert torch.equal(only_pooled, pooled)
    assert torch.equal(only_codes, codes)


def test_compiled_unpooling_writes_bfloat16_bands() -> None:
    values = features(8, 8)
    pooled, codes = pool(compiled, values, average=False)
    expected, result = torch.empty_like(values), torch.empty(values.shape, dtype=torch.bfloat16)
    for out in (expected, result):
        compiled.unpool(pooled, codes, out, 0, average=False)
    assert torch.equal(result.float(), expected)


@pytest.mark.usefixtures("uncached_self_tests")
def test_compiled_pooling_is_for_large_float32_images() -> None:
    single, double = torch.zeros(1), torch.zeros(1, dtype=torch.float64)
    assert pooling_for(single, large=True) is compiled
    assert pooling_for(single, large=False) is plain
    assert pooling_for(double, large=True) is plain


@pytest.mark.usefixtures("uncached_self_tests")
def test_compiled_pooling_is_not_used_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nstrt.runtime.kernels.compiled.find_spec", lambda name: None)
    assert pooling_for(torch.zeros(1), large=True) is plain


@pytest.mark.usefixtures("uncached_self_tests")
@pytest.mark.parametrize("name", ["_max_pool", "_average_pool", "_unpool"])
@pytest.mark.parametrize("fails", [False, True], ids=["wrong", "failing"])
def test_wrong_or_failing_compiled_pooling_is_not_used(
    name: str, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loop(*arguments: object) -> None:
        if fails:
            raise NotImplementedError("not usable in pure Python")
        arguments[0].fill(0)  # type: ignore[attr-defined]

    monkeypatch.setattr(compiled, name, loop)
    assert pooling_for(torch.zeros(1), large=True) is plain
