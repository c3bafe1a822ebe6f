"""A step can be recorded and replayed: it is a fixed row of operations on fixed memory.

No card is needed to see that: here a step's operations are written down as torch runs them, and run
again on another picture, which is what a CUDA graph does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from nstrt.runtime.engines.evaluation import Evaluation
from nstrt.runtime.engines.onnx_engine import OnnxEngine
from nstrt.runtime.engines.targets import objective_for
from nstrt.runtime.engines.torch_engine import TorchEngine
from nstrt.runtime.loss.accumulate import terms_of
from nstrt.runtime.loss.objective import LossWeights
from nstrt.runtime.network.vgg import read_vgg
from nstrt.runtime.ort.session import open_session

if TYPE_CHECKING:
    from support import Crop, Network

WEIGHTS = LossWeights(
    content=2.0,
    style=3.0,
    tv=0.5,
    content_layers={"relu3_1": 1.0, "conv4_2": 0.5},
    style_layers={"relu1_1": 1.0, "relu2_1": 0.5, "relu5_1": 0.25},
)

READS = ("_local_scalar_dense", "item", "nonzero", "masked_select", "is_nonzero", "equal")
"""Operations that wait for a card, because the processor needs what they give."""


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down operations, and runs them again into the memory that they used."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._done: list[tuple[Any, Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        name = func.overloadpacket.__name__
        assert name not in READS, f"{name} waits for the card"
        found = func(*args, **(kwargs or {}))
        outputs = [value for value in tree_flatten(found)[0] if isinstance(value, Tensor)]
        self._done.append((func, args, kwargs or {}, outputs))
        return found

    def replay(self) -> None:
        for func, args, kwargs, outputs in self._done:
            again = [v for v in tree_flatten(func(*args, **kwargs))[0] if isinstance(v, Tensor)]
            for value, place in zip(again, outputs, strict=True):
                if value.data_ptr() != place.data_ptr():
                    place.copy_(value)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_is_a_fixed_row_of_operations(
    network: Network, photo: Crop, painting: Crop, precision: str
) -> None:
    engine = TorchEngine(read_vgg(network.path), precision=precision)
    evaluation = Evaluation(engine)
    objective, _ = objective_for(evaluation, WEIGHTS, photo(66, 81), painting(64, 64))
    given = photo(66, 81).mul(0.5)
    # The first evaluation measures algorithms and takes memory, as the warm-up does on a card.
    evaluation.loss_and_gradient(given, objective)
    step = engine.step(objective, given)
    with Tape() as tape:
        values, gradient = step(given)
    before = gradient.clone()
    given.copy_(painting(66, 81))
    tape.replay()
    assert not torch.equal(gradient, before)
    expected, wanted = Evaluation(engine).loss_and_gradient(painting(66, 81), objective)
    assert terms_of(values) == expected
    assert torch.equal(gradient, wanted)


def test_what_a_card_computes_with_torch_alone_is_recorded(
    default_network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    vgg = read_vgg(default_network.path)
    session = open_session(default_network.path, provider="cpu")
    engines = TorchEngine(vgg), OnnxEngine(vgg, session)
    assert [engine.capturable for engine in engines] == [False, False]
    for engine in engines:
        monkeypatch.setattr(engine, "device", torch.device("cuda"))
    assert [engine.capturable for engine in engines] == [True, False]


def test_a_recorded_step_is_recorded_once_for_an_objective(
    default_network: Network, photo: Crop, painting: Crop, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def record(compute: Any, example: Tensor) -> Any:
        made.append(tuple(example.shape))
        return compute

    monkeypatch.setattr(TorchEngine, "capturable", True)
    monkeypatch.setattr("nstrt.runtime.engines.torch_engine.capture_cuda_graph", record)
    evaluation = Evaluation(TorchEngine(read_vgg(default_network.path)))
    objective, _ = objective_for(evaluation, WEIGHTS, photo(48, 64), painting(48, 64))
    for _ in range(3):
        evaluation.loss_and_gradient(photo(48, 64), objective)
    assert made == [(1, 3, 48, 64)]
    other, _ = objective_for(evaluation, WEIGHTS, photo(48, 64), photo(48, 64))
    evaluation.loss_and_gradient(photo(48, 64), other)
    assert len(made) == 2
