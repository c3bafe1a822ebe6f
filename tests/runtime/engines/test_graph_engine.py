"""Engine ``graph``: one ONNX graph gives what the engines that go back through torch give."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from nstrt.exporter import step_check
from nstrt.runtime.engines import benchmark as calibrate
from nstrt.runtime.engines.evaluation import Evaluation
from nstrt.runtime.engines.factory import EngineFactory, ExecutionTarget
from nstrt.runtime.engines.graph_engine import GraphEngine
from nstrt.runtime.engines.loss_targets import objective_for
from nstrt.runtime.engines.torch_engine import TorchEngine
from nstrt.runtime.errors import ModelBuilderMissingError, ProviderUnavailableError
from nstrt.runtime.loss.objective import LossWeights
from nstrt.runtime.model import ModelStore
from nstrt.runtime.network.vgg import read_vgg
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.ort.features import feature_session
from nstrt.runtime.ort.providers import check_placement, provider_options
from nstrt.runtime.planning.loss_weights import loss_weights
from nstrt.runtime.style_transfer import StyleTransfer
from nstrt.runtime.system.cancellation import Interrupt, Interrupted

from support import EXAMPLES
from support.errors import relative_error

pytestmark = pytest.mark.slow

SITE = ExecutionTarget(provider="cpu", precision="fp32", threads=2)
DEFAULTS = StylizeOptions.of()
CLASSIC = StylizeOptions.of("classic", weights="oxford")
"""The other set of default layers, with raw losses and average pooling."""


@pytest.fixture(scope="module", autouse=True)
def one_size() -> Iterator[None]:
    """Exports are checked at their sizes whenever a model is made; one is enough here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_check, "SIZES", ((37, 32),))
        yield


def engines(models: ModelStore, options: StylizeOptions) -> tuple[GraphEngine, TorchEngine]:
    engine = EngineFactory(models, SITE).engine("graph", options.step_spec, [(64, 64)])
    assert isinstance(engine, GraphEngine)
    return engine, TorchEngine(read_vgg(models.obtain(options.spec).path))


def picture(name: str, height: int, width: int) -> NDArray[np.float32]:
    """1 x 3 x height x width, RGB in 0..1."""
    with Image.open(EXAMPLES / name) as opened:
        values = np.asarray(opened.convert("RGB").resize((width, height)), np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None]) / np.float32(255)


def numbers(terms: Any) -> list[float]:
    return [terms.loss, terms.content, terms.style, terms.tv]


@pytest.mark.parametrize(
    "options",
    [
        DEFAULTS,
        replace(DEFAULTS, style_loss="w2"),
        replace(DEFAULTS, pooling="avg"),
        CLASSIC,
        replace(CLASSIC, pooling="max", content_weight=2.0),
    ],
    ids=["max", "w2", "avg", "classic", "classic-max"],
)
def test_graph_engine_agrees_with_the_torch_engine(
    models: ModelStore, options: StylizeOptions
) -> None:
    graph, mirrored = engines(models, options)
    weights = loss_weights(options)
    large = [(256, 260)] if options == DEFAULTS else []
    for height, width in ((64, 64), (255, 193), *large):
        photo, painting = picture("cat.jpg", height, width), picture("night.jpg", height - 4, width)
        image = photo * np.float32(0.7) + np.float32(0.1)
        objective, before = objective_for(Evaluation(graph), weights, photo, painting)
        terms, gradient = Evaluation(graph).loss_and_gradient(image, objective)
        assert isinstance(gradient, np.ndarray)
        tensors = [torch.from_numpy(values) for values in (photo, painting, image)]
        theirs, baseline = objective_for(Evaluation(mirrored), weights, *tensors[:2])
        expected, wanted = Evaluation(mirrored).loss_and_gradient(tensors[2], theirs)
        assert numbers(terms) == pytest.approx(numbers(expected), rel=1e-4)
        assert before == pytest.approx(baseline, rel=1e-4)
        # Masks that flip under rounding allow no closer agreement end to end.
        assert relative_error(gradient, wanted.numpy()) < 1e-2
        # What is measured without a gradient is the same formula by other nodes.
        assert numbers(Evaluation(graph).loss(image, objective)) == pytest.approx(
            numbers(terms), rel=1e-5
        )


@pytest.mark.parametrize("options", [DEFAULTS, CLASSIC], ids=["default", "classic"])
def test_tiles_are_the_whole(models: ModelStore, options: StylizeOptions) -> None:
    graph, _ = engines(models, options)
    height = 211 if options == DEFAULTS else 160  # four tiles, or two
    photo, painting = picture("cat.jpg", height, 250), picture("night.jpg", 150, 230)
    image = photo * np.float32(0.7) + np.float32(0.1)
    whole, tiled = Evaluation(graph), Evaluation(graph, tile=208)
    objective, before = objective_for(whole, loss_weights(options), photo, painting)
    terms, gradient = whole.loss_and_gradient(image, objective)
    again, baseline = objective_for(tiled, loss_weights(options), photo, painting)
    assert baseline == pytest.approx(before, rel=1e-5)
    found, parts = tiled.loss_and_gradient(image, again)
    assert numbers(found) == pytest.approx(numbers(terms), rel=1e-5)
    assert relative_error(parts, gradient) < 1e-2
    # Without flips: where the engine goes through the same numbers, to rounding.
    assert np.median(np.abs(parts - gradient)) < 1e-4 * np.abs(gradient).max()


def test_a_step_does_not_write_into_its_inputs(models: ModelStore) -> None:
    """The loop keeps gradients and targets of earlier steps."""
    graph, _ = engines(models, DEFAULTS)
    evaluation = Evaluation(graph)
    photo, painting = picture("cat.jpg", 64, 80), picture("night.jpg", 64, 64)
    objective, _ = objective_for(evaluation, loss_weights(DEFAULTS), photo, painting)
    image = photo.copy()
    terms, first = evaluation.loss_and_gradient(image, objective)
    kept = first.copy()
    image *= np.float32(0.9)
    _, second = evaluation.loss_and_gradient(image, objective)
    assert np.array_equal(first, kept)
    assert not np.array_equal(first, second)
    assert np.array_equal(photo, picture("cat.jpg", 64, 80))
    again, third = evaluation.loss_and_gradient(photo, objective)
    assert again == terms
    assert np.array_equal(third, first)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_whole_run_ends_within_a_percent_of_the_torch_engine(
    models: ModelStore, optimizer: str
) -> None:
    losses = {}
    for engine in ("torch", "graph"):
        options = StylizeOptions.of(
            engine=engine,
            optimizer=optimizer,
            size=136,
            iterations=(30, 20),
            tolerance=0.0,
        )
        run = StyleTransfer(options, store=models).run(EXAMPLES / "cat.jpg", EXAMPLES / "night.jpg")
        result = run.result()
        assert result.plan.engine == engine
        losses[engine] = result.terms.loss
    assert set(result.plan.nodes) == {"CPUExecutionProvider"}
    assert result.plan.nodes["CPUExecutionProvider"] > 30
    assert result.recipe["weights"]["sha256"]
    assert losses["graph"] == pytest.approx(losses["torch"], rel=1e-2)


def test_graph_engine_can_be_interrupted(models: ModelStore) -> None:
    graph, _ = engines(models, DEFAULTS)
    photo = picture("cat.jpg", 64, 64)
    objective, _ = objective_for(Evaluation(graph), loss_weights(DEFAULTS), photo, photo)
    graph.interrupt = Interrupt()
    graph.interrupt.request()
    with pytest.raises(Interrupted):
        graph.step(objective, photo)(photo)
    graph.interrupt = Interrupt()
    assert Evaluation(graph).loss_and_gradient(photo, objective)[0].content == pytest.approx(
        0, abs=1e-9
    )


def test_graph_engine_refuses_bf16(models: ModelStore) -> None:
    options = StylizeOptions.of(engine="graph", precision="bf16")
    with pytest.raises(ProviderUnavailableError, match="precision='fp32'"):
        StyleTransfer(options, store=models).plan((64, 64), (64, 64))


def test_without_torch_bf16_is_refused(models: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run must not say bf16 and compute in single precision."""
    monkeypatch.setattr("nstrt.runtime.planning.engine_choice.has_torch", lambda: False)
    with pytest.raises(ProviderUnavailableError, match="precision='fp32'"):
        StyleTransfer(StylizeOptions.of(precision="bf16"), store=models).plan((64, 64), (64, 64))


def test_a_subset_of_measured_engines_needs_no_new_measurement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Masks leave engine graph out: runs with and without them, in turn, measure once."""
    seconds = {"onnx": 3.0, "torch": 2.0, "graph": 1.0}
    measured = []

    class Fake:
        def __init__(self, name: str) -> None:
            self.name = name

        def release(self) -> None:
            pass

    def measure(engine: Fake, weights: LossWeights) -> float:
        measured.append(engine.name)
        return seconds[engine.name]

    monkeypatch.setattr(calibrate, "measure_step", measure)
    engines: dict[str, Any] = {name: partial(Fake, name) for name in seconds}
    some = {name: engines[name] for name in ("onnx", "torch")}
    weights = loss_weights(DEFAULTS)
    assert calibrate.fastest_engine("masks", some, weights) == (
        "torch",
        {"onnx": 3.0, "torch": 2.0},
    )
    assert calibrate.fastest_engine("masks", engines, weights) == ("graph", seconds)
    count = len(measured)
    assert calibrate.fastest_engine("masks", some, weights) == (
        "torch",
        {"onnx": 3.0, "torch": 2.0},
    )
    assert calibrate.fastest_engine("masks", engines, weights) == ("graph", seconds)
    assert len(measured) == count


def test_features_use_the_model_in_the_store(
    models: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder to carry holds the plain model alone, and nobody there can build another."""
    carried = tmp_path / "models"
    carried.mkdir()
    path = models.obtain(DEFAULTS.spec).path
    for name in (path.name, path.name + ".json"):
        shutil.copy(path.with_name(name), carried)
    monkeypatch.setattr("nstrt.runtime.model.store.entry_points", lambda group: [])
    told: list[str] = []
    store = ModelStore(carried, notify=told.append)
    session = feature_session(DEFAULTS.spec, provider="cpu", shapes=[(32, 32)], store=store)
    assert session.taps == DEFAULTS.spec.taps
    with pytest.raises(ModelBuilderMissingError, match="the same pooling"):
        store.obtain(DEFAULTS.step_spec)
    assert told == []


def test_a_provider_that_leaves_nodes_to_others_is_refused() -> None:
    here, cuda = "TensorrtExecutionProvider", "CUDAExecutionProvider"
    check_placement([(here, "Conv"), (here, "MatMul"), (cuda, "Shape")], "tensorrt")
    check_placement([("CPUExecutionProvider", "Conv")], "coreml")
    check_placement([], "tensorrt")
    with pytest.raises(ProviderUnavailableError, match=r"1 of the network's 2 .* provider='cuda'"):
        check_placement([(here, "Conv"), (cuda, "Conv")], "tensorrt")
    with pytest.raises(ProviderUnavailableError, match=r"provider=.cpu."):
        check_placement([(cuda, "Conv"), ("CPUExecutionProvider", "MatMul")], "cuda")


def test_one_profile_of_tensorrt_spans_all_scales_and_inputs(tmp_path: Any) -> None:
    from nstrt.runtime.engines.graph_engine import step_shapes

    options = provider_options(
        "tensorrt",
        precision="fp32",
        shapes=[(64, 96), (128, 192)],
        cache=tmp_path,
        identity={},
        inputs=step_shapes(("relu3_2", "relu4_2")),
    )[0]
    assert options["trt_profile_min_shapes"] == (
        "image:1x3x64x96,target_relu3_2:1x256x16x24,target_relu4_2:1x512x8x12"
    )
    assert options["trt_profile_max_shapes"] == (
        "image:1x3x128x192,target_relu3_2:1x256x32x48,target_relu4_2:1x512x16x24"
    )


def test_without_torch_the_graph_engine_runs_and_torch_is_never_imported(
    models: ModelStore, tmp_path: Any
) -> None:
    """In a process where torch, torchvision and onnx cannot be imported."""
    for variant in ("step", "tile"):
        models.obtain(DEFAULTS.step_spec.as_variant(variant))
    models.obtain(DEFAULTS.spec)
    program = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "onnx", "onnxscript", "numba"):
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Missing())
from importlib import util
found = util.find_spec
def find_spec(name, package=None):
    try:
        return found(name, package)
    except ModuleNotFoundError:
        return None
util.find_spec = find_spec
from nstrt.plugins.cli import main
sys.argv = ["nstrt", "stylize", {str(EXAMPLES / "cat.jpg")!r}, {str(EXAMPLES / "night.jpg")!r},
            "-o", {str(tmp_path / "out.png")!r}, "--verbose", "--size", "64", "--iterations", "3"]
try:
    main()
finally:
    assert "torch" not in sys.modules and "onnx" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "engine graph, because torch is not installed" in done.stdout
    with Image.open(tmp_path / "out.png") as result:
        assert result.size == (64, 43)
