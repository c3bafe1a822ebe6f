"""A picture extended by its mirror image, and the gradient's way back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nstrt.runtime.network.border import Border

from support.border import mirrored


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("width", [1, 4, 5])
@pytest.mark.parametrize("plain", [False, True])
def test_extends_as_numpy_does_and_transposes_it(width: int, plain: bool) -> None:
    border, image = Border(width), noise(1, 3, 5, 7)
    expected = mirrored(image, width)
    given: Any = image.numpy() if plain else image
    assert np.array_equal(np.asarray(border.around(given)), expected.numpy())
    leaf, weights = image.clone().requires_grad_(), noise(*expected.shape, seed=1)
    extended = mirrored(leaf, width)
    (gradient,) = torch.autograd.grad((extended * weights).sum(), leaf)
    found = border.within(weights.numpy() if plain else weights)
    assert np.allclose(np.asarray(found), gradient.numpy(), rtol=1e-12)


def test_a_second_picture_of_the_size_takes_the_same_memory() -> None:
    border = Border(4)
    first = border.around(noise(1, 3, 5, 7))
    assert border.around(noise(1, 3, 5, 7, seed=1)) is first
    assert border.around(noise(1, 3, 6, 7)).shape == (1, 3, 14, 15)


def test_no_border_changes_nothing() -> None:
    border, image, mask = Border(0), noise(1, 3, 5, 7), np.ones((5, 7), np.float32)
    assert border.around(image) is border.within(image) is image
    assert border.around_mask(mask) is mask


def test_masks_are_extended_alike() -> None:
    mask = noise(5, 7).numpy().astype(np.float32)
    image = Border(3).around(mask[None, None])
    assert np.array_equal(Border(3).around_mask(mask), image[0, 0])
