"""Gram matrices and their gradient, compiled and plain, against sums in double precision."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from nstrt.runtime.kernels.gram import GramProducts, compiled, plain, products_for

BOTH = pytest.mark.parametrize("module", [plain, compiled], ids=["plain", "compiled"])
SIZES = [
    *((64, 5, 48), (6, 3, 7), (3, 4, 9), (72, 13, 41), (128, 1, 530), (514, 2, 24), (2, 1, 1)),
    *((64, 60, 64), (136, 40, 70), (516, 2, 40)),
]
"""Channels, rows and columns: more and fewer than a block, a chunk and a vector, and odd ones."""


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def is_close(result: Tensor, expected: Tensor) -> bool:
    return bool((result.double() - expected).abs().max() <= 1e-5 * (1 + expected.abs().max()))


@BOTH
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_gram_matrix_is_the_sum_over_positions(
    module: GramProducts, size: tuple[int, int, int]
) -> None:
    values = noise(*size)
    gram = module.GramSum(size[0], values)
    gram.add(values)
    flat = values.double().flatten(1)
    assert is_close(gram.matrix(), flat @ flat.T)


@BOTH
def test_regions_add_up_to_one_gram_matrix(module: GramProducts, threads: int) -> None:
    values = noise(24, 40, 33)
    gram = module.GramSum(24, values)
    for top, rows in ((0, 7), (7, 1), (8, 32)):
        gram.add(values[:, top : top + rows])
    # Rows of a tile are not contiguous.
    regions = [values[:, 3:9, 5:20], values[:, 2:35, 7:8], values[:, 5:6, 3:30]]
    for region in regions:
        gram.add(region)
    flat = torch.cat([region.flatten(1) for region in (values, *regions)], dim=1).double()
    assert is_close(gram.matrix(), flat @ flat.T)


@BOTH
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("shifted", [False, True])
def test_gram_gradient_is_added(
    module: GramProducts, size: tuple[int, int, int], shifted: bool
) -> None:
    values, before = noise(*size), noise(*size, seed=1)
    factor, shift = noise(size[0], size[0], seed=2), noise(size[0], 1, seed=3)
    gradient = before.clone()
    module.add_gram_gradient(gradient, factor, values, shift[:, 0] if shifted else None)
    expected = before.double().flatten(1) + factor.double() @ values.double().flatten(1)
    expected += shift if shifted else 0
    assert is_close(gradient, expected.view(size))


@BOTH
def test_features_and_gradient_may_be_slices_of_planes(module: GramProducts, threads: int) -> None:
    plane, gradients = noise(64, 30, 50), noise(64, 14, 52, seed=1)
    factor = noise(64, 64, seed=2)
    values, gradient = plane[:, 5:17], gradients[:, 1:13, 1:51]
    before = gradients.clone()
    module.add_gram_gradient(gradient, factor, values)
    expected = before.double()
    expected[:, 1:13, 1:51] += (factor.double() @ values.double().flatten(1)).view(64, 12, 50)
    assert is_close(gradients, expected)


@BOTH
def test_empty_features_change_nothing(module: GramProducts) -> None:
    empty = torch.empty(8, 0, 5)
    gram = module.GramSum(8, empty)
    gram.add(empty)
    assert not gram.matrix().any()
    module.add_gram_gradient(empty.clone(), torch.ones(8, 8), empty)


@BOTH
@pytest.mark.parametrize("columns", [1, 2, 20])
def test_features_may_be_columns_of_a_tile(module: GramProducts, columns: int) -> None:
    """A region one pixel wide flattens to positions with a stride."""
    values = noise(64, 40, 33)[:, 2:38, 7 : 7 + columns]
    gradient, factor = torch.zeros_like(values.contiguous()), noise(64, 64, seed=2)
    module.add_gram_gradient(gradient, factor, values)
    assert is_close(gradient, (factor.double() @ values.double().flatten(1)).view(values.shape))


@pytest.mark.parametrize("channels", [64, 136, 516])
def test_gram_matrix_does_not_depend_on_threads(channels: int, threads: int) -> None:
    values = noise(channels, 60, 64)
    torch.set_num_threads(1)
    single = compiled.GramSum(channels, values)
    single.add(values)
    torch.set_num_threads(threads)

    def compute() -> Tensor:
        gram = compiled.GramSum(channels, values)
        gram.add(values)
        return gram.matrix()

    first = compute()
    assert torch.equal(first, single.matrix())
    assert all(torch.equal(compute(), first) for _ in range(5))
    assert torch.equal(first, first.T)


def test_nan_is_propagated() -> None:
    values = noise(24, 4, 30)
    values[5, 2, 3] = torch.nan
    gram, gradient = compiled.GramSum(24, values), torch.zeros_like(values)
    gram.add(values)
    compiled.add_gram_gradient(gradient, torch.ones(24, 24), values)
    assert gram.matrix()[5].isnan().all()
    assert gradient[:, 2, 3].isnan().all()
    assert gradient.isnan().sum() == 24


def test_compiled_products_are_for_large_float32_images() -> None:
    values = noise(8, 2, 2)
    assert products_for(values, large=True) is compiled
    assert products_for(values, large=False) is plain
    assert products_for(values.double(), large=True) is plain
    assert products_for(np.zeros((8, 2, 2), np.float32), large=True) is plain


@pytest.mark.usefixtures("uncached_self_tests")
@pytest.mark.parametrize("fault", ["missing", "wrong", "failing"])
def test_missing_wrong_or_failing_compiled_products_are_not_used(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fail(*_: object) -> None:
        calls.append(1)
        raise RuntimeError("not here")

    if fault == "missing":
        monkeypatch.setitem(sys.modules, "nstrt.runtime.kernels.gram.compiled", None)
        monkeypatch.delattr("nstrt.runtime.kernels.gram.compiled")
    elif fault == "wrong":
        monkeypatch.setattr(compiled, "_add_gram", lambda *_: None)
    else:
        monkeypatch.setattr(compiled, "_add_product", fail)
    for _ in range(3):
        assert products_for(noise(8, 2, 2), large=True) is plain
    # The self-test runs once, because a failing compiler is slow.
    assert len(calls) <= torch.get_num_threads()


def test_plain_gram_gradient_of_numpy_arrays() -> None:
    values, factor = noise(5, 3, 4).numpy(), noise(5, 5, seed=1).numpy()
    gradient = np.ones_like(values)
    plain.add_gram_gradient(gradient, factor, values)
    assert np.allclose(gradient, 1 + np.einsum("ij,jyx->iyx", factor, values), atol=1e-5)
