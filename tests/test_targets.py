"""A painting's targets are computed once for all photos of a size, and memory stays bounded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nstrt.runtime.targets import StyleTargets, TargetKey

KEY = TargetKey(painting="p", layers=("relu1_1",), mean=True, network=("model", "torch", None))


def gram(side: int) -> dict[str, np.ndarray]:
    return {"relu1_1": np.zeros((side, side), np.float32)}


def test_targets_are_computed_once_for_each_key() -> None:
    targets: StyleTargets[np.ndarray] = StyleTargets()
    asked = []

    def compute() -> dict[str, np.ndarray]:
        asked.append(1)
        return gram(8)

    first = targets.obtain(KEY, compute)
    assert targets.obtain(replace(KEY), compute) is first
    assert len(asked) == 1
    others = [
        replace(KEY, painting="q"),
        replace(KEY, layers=("relu2_1",)),
        replace(KEY, mean=False),
        replace(KEY, network=("model", "onnx", None)),
    ]
    for other in others:
        assert targets.obtain(other, compute) is not first
    assert len(asked) == 1 + len(others)
    targets.clear()
    assert targets.nbytes == 0


def test_the_size_of_a_painting_is_part_of_its_digest() -> None:
    values = np.linspace(0, 1, 48, dtype=np.float32)
    wide, high = (TargetKey.digest(values.reshape(shape)) for shape in ((4, 4, 3), (2, 8, 3)))
    assert wide != high
    assert TargetKey.digest(values.reshape(4, 4, 3).copy()) == wide
    # A view of the same values in another order in memory.
    turned = np.asfortranarray(values.reshape(4, 4, 3))
    assert TargetKey.digest(turned) == wide


def test_what_was_not_asked_for_longest_goes_first() -> None:
    one = gram(8)["relu1_1"].nbytes
    targets: StyleTargets[np.ndarray] = StyleTargets(most=2 * one)
    a, b, c = (replace(KEY, painting=name) for name in "abc")
    kept = targets.obtain(a, lambda: gram(8))
    targets.obtain(b, lambda: gram(8))
    targets.obtain(a, lambda: gram(8))
    targets.obtain(c, lambda: gram(8))
    assert targets.nbytes == 2 * one
    assert targets.obtain(a, lambda: gram(8)) is kept
    # More than fits at all is given, and not kept.
    assert targets.obtain(replace(KEY, painting="d"), lambda: gram(64))["relu1_1"].shape == (64, 64)
    assert targets.nbytes <= 2 * one


def test_what_fails_is_not_kept() -> None:
    targets: StyleTargets[np.ndarray] = StyleTargets()

    def failing() -> dict[str, np.ndarray]:
        raise MemoryError

    with pytest.raises(MemoryError):
        targets.obtain(KEY, failing)
    assert len(targets) == 0
    assert targets.obtain(KEY, lambda: gram(4))["relu1_1"].shape == (4, 4)
