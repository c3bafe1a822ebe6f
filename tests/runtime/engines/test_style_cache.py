"""A painting's targets are computed once for all photos of a size, and memory stays bounded."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nstrt.runtime.engines.evaluation import Evaluation
from nstrt.runtime.engines.loss_targets import objective_for
from nstrt.runtime.engines.style_cache import StyleCache, StyleKey
from nstrt.runtime.engines.torch_engine import TorchEngine
from nstrt.runtime.loss.moments import Moments
from nstrt.runtime.loss.objective import LossWeights
from nstrt.runtime.loss.style_statistics import StyleStatistics
from nstrt.runtime.network.vgg import read_vgg

from support.formulas import target_grams

if TYPE_CHECKING:
    from support import Crop, Network

KEY = StyleKey(
    painting="p",
    content_layers=("relu2_2",),
    style_layers=("relu1_1",),
    loss="gram",
    mean=True,
    tile=None,
)


def gram(side: int) -> StyleStatistics:
    moments = Moments(second=np.zeros((side, side), np.float32))
    return StyleStatistics(moments={"relu1_1": moments}, energies={})


def test_gram_matrices_are_computed_once_for_each_key() -> None:
    targets: StyleCache = StyleCache()
    asked = []

    def compute() -> StyleStatistics:
        asked.append(1)
        return gram(8)

    first = targets.obtain(KEY, compute)
    assert targets.obtain(replace(KEY), compute) is first
    assert len(asked) == 1
    others = [
        replace(KEY, painting="q"),
        replace(KEY, style_layers=("relu2_1",)),
        replace(KEY, content_layers=("relu3_2",)),
        replace(KEY, loss="w2"),
        replace(KEY, mean=False),
        replace(KEY, tile=256),
    ]
    for other in others:
        assert targets.obtain(other, compute) is not first
    assert len(asked) == 1 + len(others)
    targets.clear()
    assert targets.nbytes == 0


def test_the_size_of_a_painting_is_part_of_its_digest() -> None:
    values = np.linspace(0, 1, 48, dtype=np.float32)
    wide, high = (StyleKey.digest(values.reshape(shape)) for shape in ((4, 4, 3), (2, 8, 3)))
    assert wide != high
    assert StyleKey.digest(values.reshape(4, 4, 3).copy()) == wide
    # A view of the same values in another order in memory.
    turned = np.asfortranarray(values.reshape(4, 4, 3))
    assert StyleKey.digest(turned) == wide
    mask = np.ones((4, 4), np.float32)
    digests = {StyleKey.digest(values, each) for each in (None, mask, mask.reshape(2, 8))}
    assert len(digests) == 3


def test_least_recently_used_entries_are_dropped_first() -> None:
    one = gram(8).nbytes
    targets: StyleCache = StyleCache(max_bytes=2 * one)
    a, b, c = (replace(KEY, painting=name) for name in "abc")
    kept = targets.obtain(a, lambda: gram(8))
    targets.obtain(b, lambda: gram(8))
    targets.obtain(a, lambda: gram(8))
    targets.obtain(c, lambda: gram(8))
    assert targets.nbytes == 2 * one
    assert targets.obtain(a, lambda: gram(8)) is kept
    # More than fits at all is given, and not kept.
    large = targets.obtain(replace(KEY, painting="d"), lambda: gram(64))
    assert large.moments["relu1_1"].second.shape == (64, 64)
    assert targets.nbytes <= 2 * one


def test_failed_computations_are_not_cached() -> None:
    targets: StyleCache = StyleCache()

    def failing() -> StyleStatistics:
        raise MemoryError

    with pytest.raises(MemoryError):
        targets.obtain(KEY, failing)
    assert len(targets) == 0
    assert targets.obtain(KEY, lambda: gram(4)).moments["relu1_1"].second.shape == (4, 4)


def test_next_picture_reuses_the_paintings_gram_matrices(
    small_network: Network, photo: Crop, painting: Crop, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    original = TorchEngine.extract_features

    def look(self: TorchEngine, image: Any, observer: Any, core: Any) -> None:
        seen.append(tuple(image.shape[2:]))
        original(self, image, observer, core)

    monkeypatch.setattr(TorchEngine, "extract_features", look)
    engine = TorchEngine(read_vgg(small_network.path))
    weights = LossWeights(
        content=1,
        style=1,
        tv=0,
        content_layers={"relu2_1": 1.0},
        style_layers={"relu1_1": 1.0, "relu2_1": 1.0},
    )
    first, _ = objective_for(Evaluation(engine), weights, photo(32, 40), painting(24, 48))
    again, _ = objective_for(Evaluation(engine), weights, photo(40, 32), painting(24, 48))
    assert seen == [(24, 48), (32, 40), (40, 32)]
    own, shared = target_grams(first.styles[0]), target_grams(again.styles[0])
    assert all(np.array_equal(own[name], shared[name]) for name in own)
    # Evaluating writes nothing into what is shared.
    kept = {name: values.clone() for name, values in shared.items()}
    Evaluation(engine).loss_and_gradient(photo(40, 32), again)
    assert all(np.array_equal(kept[name], shared[name]) for name in kept)
    # Another loss reads other moments.
    wasserstein = replace(weights, style_loss="w2")
    objective_for(Evaluation(engine), wasserstein, photo(32, 40), painting(24, 48))
    assert seen[-2:] == [(24, 48), (32, 40)]
    other, _ = objective_for(Evaluation(engine), weights, photo(32, 40), painting(24, 44))
    assert seen[-2:] == [(24, 44), (32, 40)]
    assert not np.array_equal(target_grams(other.styles[0])["relu1_1"], own["relu1_1"])
