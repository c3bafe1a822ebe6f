"""Adam against torch's, L-BFGS against a plain two-loop recursion, and the average of iterates."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nstrt.runtime.arrays import PlainArrays
from nstrt.runtime.arrays.tensors import TensorArrays
from nstrt.runtime.optim.optimizers import Adam, IterateAverage, Lbfgs, Optimizer

Function = Callable[[Tensor], tuple[float, Tensor]]
Vector = NDArray[np.float64]

sides = st.integers(1, 7)
seeds = st.integers(0, 10_000)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, *shape, generator=generator, dtype=torch.float64)


def quadratic(target: Tensor, curvature: Tensor) -> Function:
    """The mean of curvature times squared distance to the target."""

    def function(x: Tensor) -> tuple[float, Tensor]:
        gradient = 2 * curvature * (x - target) / x.numel()
        return float((curvature * (x - target) ** 2).mean()), gradient

    return function


def coupled(seed: int = 0, size: tuple[int, int] = (5, 5), condition: float = 30) -> Function:
    """A convex quadratic function with axes in random directions."""
    generator = torch.Generator().manual_seed(seed)
    number = 3 * size[0] * size[1]
    axes = torch.linalg.qr(torch.randn(number, number, generator=generator, dtype=torch.float64))[0]
    matrix = axes @ torch.diag(torch.logspace(0, np.log10(condition), number).double()) @ axes.T
    target = uniform(*size, seed=seed + 1)

    def function(x: Tensor) -> tuple[float, Tensor]:
        away = (x - target).flatten()
        gradient = matrix @ away
        return float(away @ gradient / 2), gradient.reshape(x.shape)

    return function


def rough(x: Tensor) -> tuple[float, Tensor]:
    """A function with many local minima, where full steps overshoot."""
    leaf = x.clone().requires_grad_()
    loss = (torch.sin(9 * leaf) * torch.cos(7 * leaf.roll(1, -1)) + (leaf - 0.3) ** 2).mean()
    (gradient,) = torch.autograd.grad(loss, leaf)
    return float(loss.detach()), gradient


def run(optimizer: Optimizer, image: Tensor, function: Function, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        loss, gradient = function(image)
        losses.append(loss)
        optimizer.update(image, loss, gradient)
    return losses


@given(sides, sides, seeds, st.sampled_from([1e-3, 0.02, 0.3]), st.booleans())
@settings(max_examples=25, deadline=None)
def test_adam_equals_torchs(height: int, width: int, seed: int, rate: float, clamp: bool) -> None:
    function = quadratic(uniform(height, width, seed=seed + 1) * 2 - 0.5, torch.tensor(3.0))
    image = uniform(height, width, seed=seed)
    expected = image.clone().requires_grad_()
    theirs = torch.optim.Adam([expected], lr=rate)
    ours = Adam(learning_rate=rate, beta2=0.999, clamp=clamp)
    for _ in range(6):
        expected.grad = function(expected.detach())[1]
        theirs.step()
        if clamp:
            with torch.no_grad():
                expected.clamp_(0, 1)
        ours.update(image, *function(image))
        assert torch.allclose(image, expected.detach(), rtol=1e-12, atol=1e-12)
    assert not clamp or 0 <= float(image.min()) <= float(image.max()) <= 1


@pytest.mark.parametrize("numbers", [1, 3 * 5 * 2])
def test_adam_in_bands_has_equal_bits(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    function = quadratic(uniform(7, 5, seed=2), torch.tensor(2.0))
    whole, banded = uniform(7, 5), uniform(7, 5)
    run(Adam(learning_rate=0.05), whole, function, 4)
    monkeypatch.setattr("nstrt.runtime.arrays._BAND", numbers)
    run(Adam(learning_rate=0.05), banded, function, 4)
    assert torch.equal(whole, banded)


def test_rescaling_adam_by_a_copy_changes_nothing() -> None:
    function = quadratic(uniform(4, 4, seed=2), torch.tensor(2.0))
    one, other = uniform(4, 4), uniform(4, 4)
    straight, carried = Adam(learning_rate=0.05), Adam(learning_rate=0.05)
    run(straight, one, function, 10)
    run(carried, other, function, 5)
    carried.rescale(lambda tensor: tensor.clone())
    other = other.clone()
    run(carried, other, function, 5)
    assert torch.equal(one, other)


def test_rescaled_adam_has_no_negative_second_moment() -> None:
    function = quadratic(uniform(8, 8, seed=2), torch.tensor(2.0))
    adam, image = Adam(learning_rate=0.05), uniform(4, 4)
    run(adam, image, quadratic(uniform(4, 4, seed=2), torch.tensor(2.0)), 5)
    # Bicubic interpolation overshoots below zero in places; this is below zero everywhere.
    adam.rescale(lambda tensor: functional.interpolate(tensor, size=(8, 8)) - 1)
    finer = uniform(8, 8)
    run(adam, finer, function, 3)
    assert torch.isfinite(finer).all()
    Adam(learning_rate=0.1).rescale(lambda tensor: tensor)  # before any step


def smoothing_matrix(height: int, width: int, power: float) -> Vector:
    """F^-1 diag(1 / (f + 0.02)^power) F of three channels, as one matrix."""
    rows, columns = np.fft.fftfreq(height), np.fft.fftfreq(width)
    weights = 1 / (np.hypot(rows[:, None], columns) + 0.02) ** power
    fourier = np.kron(np.fft.fft(np.eye(height)), np.fft.fft(np.eye(width)))
    one = np.linalg.inv(fourier) @ np.diag(weights.ravel()) @ fourier
    assert np.abs(one.imag).max() < 1e-10
    return np.kron(np.eye(3), one.real)


def two_loops(
    function: Function,
    start: Tensor,
    *,
    steps: int,
    history: int,
    first_step: float,
    smoothing: float,
) -> list[Vector]:
    """The points that L-BFGS tries (Nocedal and Wright, 2006, algorithms 7.4 and 7.5); each step is
    shortened to a third until the loss falls."""
    smooth = smoothing_matrix(start.shape[2], start.shape[3], smoothing)

    def evaluate(x: Vector) -> tuple[float, Vector]:
        loss, gradient = function(torch.from_numpy(x).reshape(start.shape))
        return loss, gradient.numpy().ravel()

    x = start.numpy().ravel().copy()
    loss, g = evaluate(x)
    moves: list[Vector] = []
    changes: list[Vector] = []
    points = []
    for _ in range(steps):
        if not moves:
            d = -first_step * smooth @ g / np.sqrt(((smooth @ g) ** 2).mean())
        else:
            q, alphas = g.copy(), []
            for s, y in zip(moves[::-1], changes[::-1], strict=True):
                alphas.append(s @ q / (y @ s))
                q -= alphas[-1] * y
            r = (moves[-1] @ changes[-1]) / (changes[-1] @ smooth @ changes[-1]) * (smooth @ q)
            for s, y, a in zip(moves, changes, alphas[::-1], strict=True):
                r += s * (a - (y @ r) / (y @ s))
            d = -r
        before, before_g, before_loss = x, g, loss
        for shortened in range(5):
            x = before + d / 3**shortened
            points.append(x)
            loss, g = evaluate(x)
            if loss <= before_loss:
                break
        else:
            raise AssertionError("steps this short do not lower the loss: use another function")
        moves, changes = [*moves, x - before][-history:], [*changes, g - before_g][-history:]
    return points


@pytest.mark.parametrize("smoothing", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("history", [1, 3, 20])
@pytest.mark.parametrize("shape", [(5, 5), (4, 7), (5, 2)])
def test_lbfgs_equals_the_two_loop_recursion(
    shape: tuple[int, int], history: int, smoothing: float
) -> None:
    function, image = coupled(sum(shape), shape, condition=2), uniform(*shape, seed=9)
    expected = two_loops(
        function, image, steps=8, history=history, first_step=0.01, smoothing=smoothing
    )
    lbfgs = Lbfgs(history=history, first_step=0.01, clamp=False, smoothing=smoothing)
    for point in expected:
        lbfgs.update(image, *function(image))
        assert np.allclose(image.numpy().ravel(), point, rtol=0, atol=1e-9)


def test_smoothing_saves_steps_if_curvature_rises_with_frequency() -> None:
    """Losses of convolutions have such curvature."""
    rows, columns = torch.fft.fftfreq(32)[:, None], torch.fft.rfftfreq(32)
    stiffness = (torch.hypot(rows, columns) + 0.01).double() * 32
    target = uniform(32, 32, seed=3)

    def function(x: Tensor) -> tuple[float, Tensor]:
        away = x - target
        gradient = torch.fft.irfft2(torch.fft.rfft2(away) * stiffness, s=(32, 32))
        return float((away * gradient).sum() / 2), gradient

    losses = {}
    for smoothing in (0.0, 1.0):
        image = uniform(32, 32, seed=4)
        run(Lbfgs(smoothing=smoothing, clamp=False), image, function, 12)
        losses[smoothing] = function(image)[0]
    assert losses[1.0] < 0.1 * losses[0.0]


def test_lbfgs_reaches_a_much_lower_loss_than_gradient_descent() -> None:
    function = coupled(condition=100)
    image, descent = uniform(5, 5, seed=7), uniform(5, 5, seed=7)
    first = function(image)[0]
    # The axes are random: fine patterns have no more curvature than coarse ones.
    run(Lbfgs(clamp=False, smoothing=0), image, function, 40)
    for _ in range(40):
        descent -= 2 / 101 * function(descent)[1]  # the optimal fixed step
    assert function(image)[0] < 1e-4 * first
    assert function(image)[0] < 1e-2 * function(descent)[0]


def test_the_first_step_has_the_requested_length() -> None:
    for size in (2, 9):
        image = uniform(size, size)
        before = image.clone()
        Lbfgs(first_step=0.02, clamp=False).update(image, *coupled(size=(size, size))(image))
        assert float((image - before).square().mean().sqrt()) == pytest.approx(0.02)


@pytest.mark.parametrize("clamp", [True, False])
def test_the_loss_never_rises_over_accepted_points(clamp: bool) -> None:
    rejected = 0
    for seed in range(12):
        lbfgs, image = Lbfgs(history=5, first_step=0.3, clamp=clamp), uniform(4, 6, seed=seed)
        lowest = float("inf")
        for _ in range(40):
            loss, gradient = rough(image)
            lbfgs.update(image, loss, gradient)
            point: Any = lbfgs._point
            rejected += loss > lowest
            lowest = min(lowest, loss)
            assert point.loss == lowest
            assert torch.equal(point.gradient, rough(point.image)[1])
            assert not clamp or 0 <= float(image.min()) <= float(image.max()) <= 1
        assert lowest < rough(uniform(4, 6, seed=seed))[0]
    assert rejected > 10  # or nothing was tested


def test_a_step_to_a_loss_that_is_not_a_number_is_shortened() -> None:
    function, image = coupled(condition=4), uniform(5, 5, seed=3)
    lbfgs = Lbfgs(clamp=False)
    first = image.clone()
    lbfgs.update(image, *function(image))
    step = float((image - first).norm())
    lbfgs.update(image, float("nan"), torch.full_like(image, float("nan")))
    assert 0 < float((image - first).norm()) < step
    run(lbfgs, image, function, 30)
    assert function(image)[0] < 1e-4 * function(first)[0]


def test_the_minimum_in_the_box_is_found() -> None:
    target = uniform(6, 6) * 2 - 0.5
    function = quadratic(target, 1 + 9 * uniform(6, 6, seed=4))
    image = uniform(6, 6, seed=5)
    run(Lbfgs(), image, function, 80)
    assert torch.allclose(image, target.clamp(0, 1), atol=1e-3)


def test_at_the_minimum_the_image_does_not_change() -> None:
    image = uniform(3, 3)
    function = quadratic(image.clone(), torch.tensor(1.0))
    run(Lbfgs(), image, function, 4)
    assert torch.equal(image, uniform(3, 3))


def test_history_is_bounded_and_reuses_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    allocated = []
    original = TensorArrays.empty

    def counting(self: TensorArrays, shape: Sequence[int], like: Tensor) -> Tensor:
        allocated.append(original(self, shape, like))
        return allocated[-1]

    monkeypatch.setattr(TensorArrays, "empty", counting)
    function, image = coupled(condition=100), uniform(5, 5)
    lbfgs = Lbfgs(history=4, clamp=False)
    run(lbfgs, image, function, 30)
    assert len(lbfgs._pairs) == 4
    assert len(allocated) <= 2 * (4 + 1)
    history = {tensor.data_ptr() for pair in lbfgs._pairs for tensor in pair[:2]}
    assert history <= {tensor.data_ptr() for tensor in allocated}
    assert len(history) == 8


@pytest.mark.parametrize(
    "make",
    [
        lambda: Adam(learning_rate=0.02),
        lambda: Lbfgs(history=3),
        lambda: Lbfgs(history=5, clamp=False, smoothing=0.0),
    ],
    ids=["adam", "lbfgs", "lbfgs-plain"],
)
def test_arrays_and_tensors_take_equal_steps(make: Callable[[], Optimizer]) -> None:
    """Including undone steps, a finer scale and resampled state."""
    one, other = make(), make()
    image, array = uniform(6, 5, seed=4), uniform(6, 5, seed=4).numpy()
    average, other_average = IterateAverage(), IterateAverage()
    for size in ((6, 5), (9, 8)):
        for _ in range(12):
            loss, gradient = rough(image)
            one.update(image, loss, gradient)
            other.update(array, *(to_numpy(rough(torch.from_numpy(array)))))
            assert np.abs(image.numpy() - array).max() < 1e-7
        if size == (6, 5):
            image = TensorArrays(image.device).resize_bicubic(image, 9, 8)
            array = PlainArrays().resize_bicubic(array, 9, 8)
            one.rescale(lambda tensor: TensorArrays(tensor.device).resize_bicubic(tensor, 9, 8))
            other.rescale(lambda values: PlainArrays().resize_bicubic(values, 9, 8))
        else:
            average.add(image)
            other_average.add(array)
    assert np.abs(average.value().numpy() - other_average.value()).max() < 1e-7


def to_numpy(evaluated: tuple[float, Tensor]) -> tuple[float, Vector]:
    """Loss and gradient, as a NumPy array."""
    return evaluated[0], evaluated[1].numpy()


@pytest.mark.parametrize("like", ["image", "gradient"])
def test_memory_formats_do_not_change_the_steps(like: str) -> None:
    """cuDNN returns gradients in channels-last format."""
    function = coupled(condition=4)
    image, other = uniform(5, 5, seed=9), uniform(5, 5, seed=9)
    one, two = Lbfgs(clamp=False), Lbfgs(clamp=False)
    if like == "image":
        other = other.contiguous(memory_format=torch.channels_last)
    for _ in range(6):
        one.update(image, *function(image))
        loss, gradient = function(other.contiguous())
        if like == "gradient":
            gradient = gradient.contiguous(memory_format=torch.channels_last)
        two.update(other, loss, gradient)
        assert torch.allclose(image, other, atol=1e-9)


def test_curvature_is_kept_at_the_next_scale() -> None:
    """Resampled history improves the first steps of the same smooth problem at twice the size."""

    def problem(size: int) -> Function:
        rows = torch.linspace(0, 3, size, dtype=torch.float64)
        curvature = (1 + 20 * torch.sin(rows) ** 2).reshape(1, 1, size, 1)
        target = (0.5 + 0.3 * torch.cos(rows)).reshape(1, 1, 1, size).expand(1, 3, size, size)
        return quadratic(target, curvature.expand(1, 3, size, size))

    def enlarged(tensor: Tensor) -> Tensor:
        return functional.interpolate(tensor, size=(32, 32), mode="bilinear")

    coarse, lbfgs = uniform(16, 16), Lbfgs(clamp=False)
    run(lbfgs, coarse, problem(16), 8)
    count = len(lbfgs._pairs)
    assert count >= 5
    lbfgs.rescale(enlarged)
    assert len(lbfgs._pairs) == count
    assert all(torch.vdot(s.flatten(), y.flatten()) > 0 for s, y, _ in lbfgs._pairs)
    # Gradients of the finer loss are a quarter as large, and so is the resampled curvature.
    step, change, _ = lbfgs._pairs[-1]
    function = problem(32)
    at = enlarged(coarse)
    measured = float(((function(at + step)[1] - function(at)[1]) * step).sum())
    assert float((change * step).sum()) == pytest.approx(measured, rel=0.2)
    # The next scale starts near the last point; the noise stands for the error of enlarging.
    start = at + 0.1 * enlarged(uniform(16, 16, seed=6) - 0.5)
    image, fresh = start.clone(), start.clone()
    run(lbfgs, image, function, 2)
    run(Lbfgs(clamp=False), fresh, function, 2)
    assert function(image)[0] < function(fresh)[0] < function(start)[0]


def test_rescaling_frees_coarse_pairs_as_it_makes_fine_ones() -> None:
    """At twice the pixels, all pairs of both scales would take half as much memory again."""
    coarse, fine, history = 200, 283, 6
    arrays, lbfgs = PlainArrays(), Lbfgs(history=history)
    tracemalloc.start()
    try:
        image = np.random.default_rng(0).random((1, 3, coarse, coarse), np.float32)
        for step in range(history + 1):
            lbfgs.update(image, -float(step), np.float32(0.01) * image)
        assert len(lbfgs._pairs) == history
        tracemalloc.reset_peak()
        lbfgs.rescale(lambda array: arrays.resize_bicubic(array, fine, fine))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(lbfgs._pairs) == history
    picture = 3 * fine * fine * 4
    assert peak < (2 * history + 5) * picture


def test_pairs_that_lose_their_curvature_by_resampling_have_no_effect() -> None:
    """Here all of them do; the length of the next step follows from the last gamma."""
    function = coupled(condition=4)
    spoiled, image = Lbfgs(clamp=False), uniform(5, 5)
    run(spoiled, image, function, 6)
    calls = iter(range(100))
    spoiled.rescale(lambda tensor: tensor * (-1) ** next(calls))
    before = image.clone()
    loss, gradient = function(image)
    spoiled.update(image, loss, gradient)
    assert float(((image - before) * gradient).sum()) < 0
    run(spoiled, image, function, 30)
    assert function(image)[0] < 1e-3 * loss


def test_pairs_without_positive_curvature_have_no_effect() -> None:
    """Where the curvature is negative, steps follow the smoothed gradient."""
    image = uniform(4, 4)
    lbfgs = Lbfgs(clamp=False, smoothing=0)
    for _ in range(5):
        before, gradient = image.clone(), -image
        lbfgs.update(image, -float(image.square().sum()) / 2, gradient)
        steps = (image - before) / before
        assert torch.allclose(steps, steps.mean())
        assert float(steps.mean()) > 0


@given(st.integers(1, 12), st.sampled_from([0.0, 0.5, 0.9, 0.99]), sides, sides)
@settings(max_examples=25, deadline=None)
def test_the_average_equals_the_weighted_mean_of_iterates(
    number: int, decay: float, height: int, width: int
) -> None:
    iterates = [uniform(height, width, seed=seed) for seed in range(number)]
    average = IterateAverage(decay)
    expected, total = torch.zeros_like(iterates[0]), 0.0
    for k, iterate in enumerate(iterates, start=1):
        average.add(iterate)
        expected += decay ** (number - k) * iterate
        total += decay ** (number - k)
    assert torch.allclose(average.value(), expected / total, atol=1e-12)


def test_the_average_copies_the_image() -> None:
    image = torch.ones(1, 3, 2, 2)
    average = IterateAverage(0.5)
    average.add(image)
    image.zero_()
    assert torch.equal(average.value(), torch.ones(1, 3, 2, 2))
    with pytest.raises(ValueError, match="nothing"):
        IterateAverage().value()
