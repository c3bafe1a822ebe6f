"""A step can be captured as a CUDA graph: a fixed sequence of operations on fixed memory.

The tests need no GPU. They record a step's operations as torch runs them, and replay them on
another image, as a CUDA graph would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from nstrt.runtime.engines.evaluation import Evaluation
from nstrt.runtime.engines.loss_targets import objective_for
from nstrt.runtime.engines.onnx_engine import OnnxEngine
from nstrt.runtime.engines.torch_engine import TorchEngine
from nstrt.runtime.loss.content_and_style import terms_of
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

SYNCHRONIZING = ("_local_scalar_dense", "item", "nonzero", "masked_select", "is_nonzero", "equal")
"""Operations that wait for the GPU, because the CPU needs their result."""


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records operations, and replays them into the memory that they used."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._operations: list[tuple[Any, Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        name = func.overloadpacket.__name__
        assert name not in SYNCHRONIZING, f"{name} waits for the GPU"
        result = func(*args, **(kwargs or {}))
        outputs = [value for value in tree_flatten(result)[0] if isinstance(value, Tensor)]
        self._operations.append((func, args, kwargs or {}, outputs))
        return result

    def replay(self) -> None:
        for func, args, kwargs, outputs in self._operations:
            result = tree_flatten(func(*args, **kwargs))[0]
            values = [value for value in result if isinstance(value, Tensor)]
            for value, output in zip(values, outputs, strict=True):
                if value.data_ptr() != output.data_ptr():
                    output.copy_(value)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_step_is_a_fixed_sequence_of_operations(
    network: Network, photo: Crop, painting: Crop, precision: str
) -> None:
    engine = TorchEngine(read_vgg(network.path), precision=precision)
    evaluation = Evaluation(engine)
    objective, _ = objective_for(evaluation, WEIGHTS, photo(66, 81), painting(64, 64))
    image = photo(66, 81).mul(0.5)
    # The first evaluation measures algorithms and allocates memory, as the warm-up of a capture.
    evaluation.loss_and_gradient(image, objective)
    step = engine.step(objective, image)
    with Recorder() as recorder:
        values, gradient = step(image)
    before = gradient.clone()
    image.copy_(painting(66, 81))
    recorder.replay()
    assert not torch.equal(gradient, before)
    terms, expected = Evaluation(engine).loss_and_gradient(painting(66, 81), objective)
    assert terms_of(values) == terms
    assert torch.equal(gradient, expected)


def test_only_the_torch_engine_on_a_gpu_is_capturable(
    default_network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    vgg = read_vgg(default_network.path)
    session = open_session(default_network.path, provider="cpu")
    engines = TorchEngine(vgg), OnnxEngine(vgg, session)
    assert [engine.capturable for engine in engines] == [False, False]
    for engine in engines:
        monkeypatch.setattr(engine, "device", torch.device("cuda"))
    assert [engine.capturable for engine in engines] == [True, False]


def test_step_is_captured_once_for_each_objective(
    default_network: Network, photo: Crop, painting: Crop, monkeypatch: pytest.MonkeyPatch
) -> None:
    captured = []

    def capture(compute: Any, example: Tensor) -> Any:
        captured.append(tuple(example.shape))
        return compute

    monkeypatch.setattr(TorchEngine, "capturable", True)
    monkeypatch.setattr("nstrt.runtime.engines.torch_engine.capture_cuda_graph", capture)
    evaluation = Evaluation(TorchEngine(read_vgg(default_network.path)))
    objective, _ = objective_for(evaluation, WEIGHTS, photo(48, 64), painting(48, 64))
    for _ in range(3):
        evaluation.loss_and_gradient(photo(48, 64), objective)
    assert captured == [(1, 3, 48, 64)]
    other, _ = objective_for(evaluation, WEIGHTS, photo(48, 64), photo(48, 64))
    evaluation.loss_and_gradient(photo(48, 64), other)
    assert len(captured) == 2
