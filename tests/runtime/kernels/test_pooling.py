"""2x2 pooling and the way back: compiled loops and torch's operations against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from nstrt.runtime.kernels.compiled import working_loops
from nstrt.runtime.kernels.pooling import NOWHERE, Pooling, compiled, plain, pooling_for

EACH = pytest.mark.parametrize("way", [plain, compiled], ids=["plain", "compiled"])
SIZES = [(2, 2), (4, 6), (5, 7), (16, 33), (31, 64)]


def features(rows: int, columns: int) -> Tensor:
    """Few different numbers, many below zero: windows with ties, and with nothing above zero."""
    source = torch.Generator().manual_seed(rows * 100 + columns)
    return torch.randint(-3, 3, (5, rows, columns), generator=source).float()


def pooled_by_torch(values: Tensor, average: bool) -> Tensor:
    rectified = values.relu()[None]
    return (functional.avg_pool2d if average else functional.max_pool2d)(rectified, 2)[0]


def there(way: Pooling, values: Tensor, average: bool) -> tuple[Tensor, Tensor]:
    shape = (len(values), values.shape[1] // 2, values.shape[2] // 2)
    pooled, codes = torch.empty(shape), torch.empty(shape, dtype=torch.uint8)
    way.pool(values, pooled, codes, average=average)
    return pooled, codes


@EACH
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_pooling_and_its_gradient_are_torchs(
    way: Pooling, average: bool, size: tuple[int, int]
) -> None:
    values = features(*size)
    leaf = values.clone().requires_grad_()
    expected = pooled_by_torch(leaf, average)
    gradient = torch.rand(expected.shape, generator=torch.Generator().manual_seed(1))
    (wanted,) = torch.autograd.grad(expected, leaf, gradient)
    pooled, codes = there(way, values, average)
    assert torch.equal(pooled, expected.detach())
    found = torch.full_like(values, torch.nan)
    way.unpool(gradient, codes, found, 0, average=average)
    assert torch.equal(found, wanted)


@EACH
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("low", [1, 2, 5])
def test_any_rows_of_the_gradient_are_those_of_the_whole(
    way: Pooling, average: bool, low: int
) -> None:
    values = features(15, 9)
    pooled, codes = there(way, values, average)
    whole = torch.empty_like(values)
    way.unpool(pooled, codes, whole, 0, average=average)
    # As in a band, whose rows are no neighbours in memory.
    part = torch.full((5, 20, 12), torch.nan)[:, 3 : 3 + 15 - low, 2:11]
    way.unpool(pooled, codes, part, low, average=average)
    assert torch.equal(part, whole[:, low:])


@EACH
def test_a_maximum_that_is_not_above_zero_sends_its_gradient_nowhere(way: Pooling) -> None:
    values = -features(8, 8).abs()
    _, codes = there(way, values, average=False)
    assert (codes >= NOWHERE).all()


@EACH
@pytest.mark.parametrize("average", [False, True])
def test_values_and_codes_can_be_had_alone(way: Pooling, average: bool) -> None:
    values = features(6, 10)
    pooled, codes = there(way, values, average)
    alone = torch.empty_like(pooled), torch.empty_like(codes)
    way.pool(values, alone[0], None, average=average)
    way.pool(values, None, alone[1], average=average)
    assert torch.equal(alone[0], pooled)
    assert torch.equal(alone[1], codes)


def test_a_band_in_bfloat16_is_written_too() -> None:
    values = features(8, 8)
    pooled, codes = there(compiled, values, average=False)
    wanted, found = torch.empty_like(values), torch.empty(values.shape, dtype=torch.bfloat16)
    for out in (wanted, found):
        compiled.unpool(pooled, codes, out, 0, average=False)
    assert torch.equal(found.float(), wanted)


def test_compiled_loops_are_for_large_pictures_in_single_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    single, double = torch.zeros(1), torch.zeros(1, dtype=torch.float64)
    assert pooling_for(single, large=True) is compiled
    assert pooling_for(single, large=False) is plain
    assert pooling_for(double, large=True) is plain
    working_loops.cache_clear()
    monkeypatch.setattr("nstrt.runtime.kernels.compiled.find_spec", lambda name: None)
    assert pooling_for(single, large=True) is plain
    working_loops.cache_clear()


@pytest.mark.parametrize("name", ["_highest", "_mean", "_spread"])
@pytest.mark.parametrize("fails", [False, True], ids=["wrong", "failing"])
def test_compiled_loops_that_do_not_work_are_left_out(
    name: str, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loop(*given: object) -> None:
        if fails:
            raise NotImplementedError("not usable in pure Python")
        given[0].fill(0)  # type: ignore[attr-defined]

    working_loops.cache_clear()
    monkeypatch.setattr(compiled, name, loop)
    assert pooling_for(torch.zeros(1), large=True) is plain
    working_loops.cache_clear()
