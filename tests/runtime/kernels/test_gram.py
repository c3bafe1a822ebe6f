"""Gram matrices and what their gradient pulls features by: compiled loops and torch's products,
against sums in double precision."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from nstrt.runtime.kernels.compiled import working_loops
from nstrt.runtime.kernels.gram import GramProducts, compiled, plain, products_for

EACH = pytest.mark.parametrize("way", [plain, compiled], ids=["plain", "compiled"])
SIZES = [
    *((64, 5, 48), (6, 3, 7), (3, 4, 9), (72, 13, 41), (128, 1, 530), (514, 2, 24), (2, 1, 1)),
    *((64, 60, 64), (136, 40, 70), (516, 2, 40)),
]
"""Channels, rows and columns: more and fewer than a part, a piece and a vector, odd ones too."""


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def close(found: Tensor, wanted: Tensor) -> bool:
    return bool((found.double() - wanted).abs().max() <= 1e-5 * (1 + wanted.abs().max()))


@EACH
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_gram_matrix_is_the_sum_over_positions(
    way: GramProducts, size: tuple[int, int, int]
) -> None:
    values = numbers(*size)
    gram = way.GramSum(size[0], values)
    gram.add(values)
    flat = values.double().flatten(1)
    assert close(gram.matrix(), flat @ flat.T)


@EACH
def test_pieces_of_a_picture_make_the_gram_matrix_of_all(way: GramProducts, threads: int) -> None:
    values = numbers(24, 40, 33)
    gram = way.GramSum(24, values)
    for top, rows in ((0, 7), (7, 1), (8, 32)):
        gram.add(values[:, top : top + rows])
    # Parts of rows, as tiles have them, do not lie close together.
    parts = [values[:, 3:9, 5:20], values[:, 2:35, 7:8], values[:, 5:6, 3:30]]
    for part in parts:
        gram.add(part)
    flat = torch.cat([part.flatten(1) for part in (values, *parts)], dim=1).double()
    assert close(gram.matrix(), flat @ flat.T)


@EACH
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_pull_is_added_to_the_gradient(way: GramProducts, size: tuple[int, int, int]) -> None:
    values, before = numbers(*size), numbers(*size, seed=1)
    pull = numbers(size[0], size[0], seed=2)
    gradient = before.clone()
    way.add_pull(gradient, pull, values)
    wanted = before.double().flatten(1) + pull.double() @ values.double().flatten(1)
    assert close(gradient, wanted.view(size))


@EACH
def test_features_and_gradients_may_lie_in_larger_planes(way: GramProducts, threads: int) -> None:
    plane, around = numbers(64, 30, 50), numbers(64, 14, 52, seed=1)
    pull = numbers(64, 64, seed=2)
    values, gradient = plane[:, 5:17], around[:, 1:13, 1:51]
    before = around.clone()
    way.add_pull(gradient, pull, values)
    wanted = before.double()
    wanted[:, 1:13, 1:51] += (pull.double() @ values.double().flatten(1)).view(64, 12, 50)
    assert close(around, wanted)


@EACH
def test_no_features_are_no_harm(way: GramProducts) -> None:
    empty = torch.empty(8, 0, 5)
    gram = way.GramSum(8, empty)
    gram.add(empty)
    assert not gram.matrix().any()
    way.add_pull(empty.clone(), torch.ones(8, 8), empty)


@EACH
@pytest.mark.parametrize("columns", [1, 2, 20])
def test_features_may_be_columns_of_a_tile(way: GramProducts, columns: int) -> None:
    """What is one pixel wide is a row of numbers that do not lie beside each other."""
    values = numbers(64, 40, 33)[:, 2:38, 7 : 7 + columns]
    gradient, pull = torch.zeros_like(values.contiguous()), numbers(64, 64, seed=2)
    way.add_pull(gradient, pull, values)
    assert close(gradient, (pull.double() @ values.double().flatten(1)).view(values.shape))


@pytest.mark.parametrize("channels", [64, 136, 516])
def test_the_same_features_give_the_same_bits_whoever_is_quick(channels: int, threads: int) -> None:
    values = numbers(channels, 60, 64)
    torch.set_num_threads(1)
    alone = compiled.GramSum(channels, values)
    alone.add(values)
    torch.set_num_threads(threads)

    def once() -> Tensor:
        gram = compiled.GramSum(channels, values)
        gram.add(values)
        return gram.matrix()

    first = once()
    assert torch.equal(first, alone.matrix())
    assert all(torch.equal(once(), first) for _ in range(5))
    assert torch.equal(first, first.T)


def test_what_is_not_a_number_stays_so() -> None:
    values = numbers(24, 4, 30)
    values[5, 2, 3] = torch.nan
    gram, gradient = compiled.GramSum(24, values), torch.zeros_like(values)
    gram.add(values)
    compiled.add_pull(gradient, torch.ones(24, 24), values)
    assert gram.matrix()[5].isnan().all()
    assert gradient[:, 2, 3].isnan().all()
    assert gradient.isnan().sum() == 24


def test_compiled_loops_are_for_large_pictures_in_single_precision() -> None:
    values = numbers(8, 2, 2)
    assert products_for(values, large=True) is compiled
    assert products_for(values, large=False) is plain
    assert products_for(values.double(), large=True) is plain
    assert products_for(np.zeros((8, 2, 2), np.float32), large=True) is plain


@pytest.fixture
def anew() -> Iterator[None]:
    """Whether compiled loops work is found out in the test."""
    working_loops.cache_clear()
    yield
    working_loops.cache_clear()


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize("fault", ["missing", "wrong", "failing"])
def test_compiled_loops_that_do_not_work_are_left_out(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def fails(*_: object) -> None:
        tried.append(1)
        raise RuntimeError("not here")

    if fault == "missing":
        monkeypatch.setitem(sys.modules, "nstrt.runtime.kernels.gram.compiled", None)
        monkeypatch.delattr("nstrt.runtime.kernels.gram.compiled")
    elif fault == "wrong":
        monkeypatch.setattr(compiled, "_gram", lambda *_: None)
    else:
        monkeypatch.setattr(compiled, "_pull", fails)
    for _ in range(3):
        assert products_for(numbers(8, 2, 2), large=True) is plain
    # A compiler that fails takes its time.
    assert len(tried) <= torch.get_num_threads()


def test_numpys_arrays_are_pulled_too() -> None:
    values, pull = numbers(5, 3, 4).numpy(), numbers(5, 5, seed=1).numpy()
    gradient = np.ones_like(values)
    plain.add_pull(gradient, pull, values)
    assert np.allclose(gradient, 1 + np.einsum("ij,jyx->iyx", pull, values), atol=1e-5)
