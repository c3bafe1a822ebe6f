"""Step graphs: loss and gradient agree with autograd and with the engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor
from torch.nn import functional

from nstrt.exporter import FeatureNet, export, load_weights, step_check
from nstrt.exporter.backward import backward
from nstrt.exporter.graph import Graph
from nstrt.exporter.step import step_graph, tile_graph
from nstrt.exporter.trace import serialized
from nstrt.exporter.weights import OXFORD_SHA256
from nstrt.runtime.engines.evaluation import Evaluation
from nstrt.runtime.engines.loss_targets import objective_for
from nstrt.runtime.engines.torch_engine import TorchEngine
from nstrt.runtime.errors import ExportCheckError, OptionError
from nstrt.runtime.loss.objective import LossWeights, Objective
from nstrt.runtime.model import (
    CONTENT_FACTORS,
    CONTENT_SHARES,
    STEP_VARIANTS,
    STYLE_SHARES,
    ModelSpec,
    ModelStore,
    core_input,
    gram_input,
    pull_input,
    shape_of,
    shift_input,
    stride_of,
    target_input,
)
from nstrt.runtime.network.tiles import tiles_of
from nstrt.runtime.network.vgg import read_vgg

from support.errors import relative_error
from support.formulas import target_grams
from support.models import break_the_graph, change_a_weight, remove_an_output

if TYPE_CHECKING:
    from support import Crop, Network

pytestmark = pytest.mark.slow

Array = NDArray[Any]
LAYERS = (
    *("conv1_1", "relu1_1", "conv1_2", "relu1_2", "pool1"),
    *("conv2_1", "relu2_1", "pool2", "conv3_1", "relu3_1"),
)
"""Layers of the small network that replaces VGG."""

CHANNELS = {"conv1_1": 4, "conv1_2": 3, "conv2_1": 5, "conv3_1": 4}


@pytest.fixture(scope="module", autouse=True)
def one_size() -> Iterator[None]:
    """Check exports at one size only, to save time."""
    assert (101, 75) in step_check.SIZES
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_check, "SIZES", ((37, 32),))
        yield


def run(content: onnx.ModelProto | Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    source = str(content) if isinstance(content, Path) else content.SerializeToString()
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert set(inputs) == {item.name for item in session.get_inputs()}
    return dict(zip(names, session.run(None, dict(inputs)), strict=True))


@dataclass(frozen=True)
class SmallNetwork:
    """Small network with integer weights.

    Its results are exact in single precision, so that masks and maxima agree, and windows have
    many equal maxima."""

    pooling: str
    padding: str
    seed: int

    def parameters(self) -> dict[str, tuple[Array, Array]]:
        generator = np.random.default_rng(self.seed)
        actual, before = {}, 3
        for name, count in CHANNELS.items():
            weight = generator.integers(-1, 2, (count, before, 3, 3)).astype(np.float32)
            actual[name] = weight, generator.integers(-2, 3, count).astype(np.float32)
            before = count
        return actual

    def model(self, through: Sequence[str]) -> onnx.ModelProto:
        """Build the chain of nodes that a trace would give."""
        constants = {"mean": np.full((1, 3, 1, 1), 0.5), "std": np.full((1, 3, 1, 1), 0.25)}
        nodes = [
            helper.make_node("Sub", ["image", "mean"], ["sub"]),
            helper.make_node("Div", ["sub", "std"], ["div"]),
        ]
        value = "div"
        if self.padding == "replicate":
            nodes.append(helper.make_node("Pad", ["div", "pads"], ["pad"], mode="edge"))
            value = "pad"
        for name in LAYERS[: max(LAYERS.index(layer) for layer in through) + 1]:
            if name.startswith("conv"):
                weight, bias = self.parameters()[name]
                constants |= {f"{name}.weight": weight, f"{name}.bias": bias}
                pads = [0 if value == "pad" else 1] * 4
                inputs = [value, f"{name}.weight", f"{name}.bias"]
                nodes.append(
                    helper.make_node("Conv", inputs, [name], kernel_shape=[3, 3], pads=pads)
                )
            elif name.startswith("relu"):
                nodes.append(helper.make_node("Relu", [value], [name]))
            else:
                kind = "MaxPool" if self.pooling == "max" else "AveragePool"
                window = {"kernel_shape": [2, 2], "strides": [2, 2]}
                nodes.append(helper.make_node(kind, [value], [name], **window))
            value = name
        initializers = [
            numpy_helper.from_array(values.astype(np.float32), name)
            for name, values in constants.items()
        ]
        if self.padding == "replicate":
            pads = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
            initializers.append(numpy_helper.from_array(pads, "pads"))
        image = helper.make_tensor_value_info("image", 1, [1, 3, "height", "width"])
        output = helper.make_tensor_value_info(value, 1, None)
        graph = helper.make_graph(nodes, "little", [image], [output], initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)

    def features(self, image: Tensor) -> dict[str, Tensor]:
        """Compute every layer's features with torch in double precision."""
        actual: dict[str, Tensor] = {}
        x = (image - 0.5) / 0.25
        for name in LAYERS:
            if name.startswith("conv"):
                weight, bias = (torch.from_numpy(v).double() for v in self.parameters()[name])
                edge = name == "conv1_1" and self.padding == "replicate"
                x = functional.pad(x, (1, 1, 1, 1), mode="replicate" if edge else "constant")
                x = functional.conv2d(x, weight, bias)
            elif name.startswith("relu"):
                x = functional.relu(x)
            else:
                x = (
                    functional.max_pool2d(x, 2)
                    if self.pooling == "max"
                    else (functional.avg_pool2d(x, 2))
                )
            actual[name] = x
        return actual


networks = st.builds(
    SmallNetwork,
    pooling=st.sampled_from(["max", "avg"]),
    padding=st.sampled_from(["zero", "replicate"]),
    seed=st.integers(0, 1000),
)
sizes = st.tuples(st.integers(8, 19), st.integers(8, 19))
some_layers = st.lists(st.sampled_from(LAYERS), max_size=3, unique=True).map(
    lambda names: tuple(sorted(names, key=LAYERS.index))
)
losses = st.tuples(some_layers, some_layers).filter(lambda pair: pair[0] or pair[1])


def exact_image(size: tuple[int, int], seed: int, levels: int = 3) -> Array:
    """Return an image of few exact values with a patch of one color."""
    values = np.random.default_rng(seed).integers(0, levels, (1, 3, *size)) / np.float32(2)
    values[:, :, : size[0] // 2, : size[1] // 2] = 0.5
    return values.astype(np.float32)


def gram(features: Tensor) -> Tensor:
    flat = features[0].flatten(1)
    return flat @ flat.T / flat.shape[1]


@settings(max_examples=40)
@given(net=networks, size=sizes, layers=losses, seed=st.integers(0, 99))
def test_steps_agree_with_autograd_of_the_formulas(
    net: SmallNetwork,
    size: tuple[int, int],
    layers: tuple[tuple[str, ...], tuple[str, ...]],
    seed: int,
) -> None:
    content_layers, style_layers = layers
    image = torch.from_numpy(exact_image(size, seed)).double().requires_grad_()
    other = net.features(torch.from_numpy(exact_image(size, seed + 1)).double())
    features = net.features(image)
    content = style = image.sum() * 0
    weights = np.array([0.5, 2.0, 30.0], np.float32)
    inputs: dict[str, Array] = {"image": image.detach().numpy().astype(np.float32)}
    inputs["weights"] = weights
    shares: dict[str, list[float]] = {CONTENT_SHARES: [], STYLE_SHARES: []}
    for number, layer in enumerate(content_layers):
        target = other[layer].float()
        share = float(np.float32((1 + number) / (1 + float(target.square().sum()))))
        content = content + share * (features[layer] - target.double()).square().sum()
        inputs[target_input(layer)] = target.numpy()
        shares[CONTENT_SHARES].append(share)
    for number, layer in enumerate(style_layers):
        target = gram(other[layer]).float()
        share = float(np.float32((1 + number) / (1 + float(target.square().sum()))))
        style = style + share * (gram(features[layer]) - target.double()).square().sum()
        inputs[gram_input(layer)] = target.numpy()
        shares[STYLE_SHARES].append(share)
    inputs |= {name: np.array(each, np.float32) for name, each in shares.items() if each}
    right = image[..., :, 1:] - image[..., :, :-1]
    below = image[..., 1:, :] - image[..., :-1, :]
    tv = (right.square().sum() + below.square().sum()) / (right.numel() + below.numel())
    loss = 0.5 * content + 2 * style + 30 * tv
    loss.backward()

    model = step_graph(net.model((*content_layers, *style_layers)), content_layers, style_layers)
    onnx.checker.check_model(model, full_check=True)
    actual = run(model, inputs)
    assert list(actual) == ["terms", "gradient"]
    expected = torch.stack([loss, content, style, tv]).detach().numpy()
    assert relative_error(actual["terms"], expected) < 1e-5
    assert image.grad is not None
    assert relative_error(actual["gradient"], image.grad.numpy()) < 1e-5


@settings(max_examples=30)
@given(net=networks, size=sizes, layers=losses, data=st.data())
def test_tiles_take_gradients_only_inside_their_core(
    net: SmallNetwork,
    size: tuple[int, int],
    layers: tuple[tuple[str, ...], tuple[str, ...]],
    data: st.DataObject,
) -> None:
    content_layers, style_layers = layers
    seed = data.draw(st.integers(0, 99))
    generator = np.random.default_rng(seed)
    image = torch.from_numpy(exact_image(size, seed)).double().requires_grad_()
    features = net.features(image)
    inputs: dict[str, Array] = {"image": image.detach().numpy().astype(np.float32)}
    if content_layers:
        factors = generator.random(len(content_layers), np.float32)
        inputs[CONTENT_FACTORS] = factors
    outputs, output_gradients = [], []
    for layer in sorted({*content_layers, *style_layers}, key=LAYERS.index):
        value = features[layer].detach()
        pull = torch.zeros_like(value)
        top, bottom = sorted(data.draw(st.tuples(*[st.integers(0, value.shape[2])] * 2)))
        left, right = sorted(data.draw(st.tuples(*[st.integers(0, value.shape[3])] * 2)))
        if layer in style_layers:
            # An asymmetric matrix detects a transposed product.
            matrix = generator.standard_normal((value.shape[1],) * 2).astype(np.float32)
            inputs[pull_input(layer)] = matrix
            pull += torch.einsum("ij,bjhw->bihw", torch.from_numpy(matrix).double(), value)
            shift = generator.standard_normal((1, value.shape[1], 1, 1)).astype(np.float32)
            inputs[shift_input(layer)] = shift
            pull += torch.from_numpy(shift)
        if layer in content_layers:
            target = generator.standard_normal(value.shape).astype(np.float32)
            factor = float(factors[content_layers.index(layer)])
            pull += factor * (value - torch.from_numpy(target).double())
            # Values outside the core must not matter.
            outside = np.full_like(target, np.nan)
            core = np.s_[:, :, top:bottom, left:right]
            outside[core] = target[core]
            inputs[target_input(layer)] = outside
        inside = torch.zeros_like(pull)
        inside[:, :, top:bottom, left:right] = pull[:, :, top:bottom, left:right]
        inputs[core_input(layer)] = np.array([top, bottom, left, right], np.int64)
        outputs.append(features[layer])
        output_gradients.append(inside)
    (expected,) = torch.autograd.grad(outputs, image, output_gradients)
    model = tile_graph(net.model((*content_layers, *style_layers)), content_layers, style_layers)
    actual = run(model, inputs)
    assert list(actual) == ["gradient"]
    assert relative_error(actual["gradient"], expected.numpy()) < 1e-5


def test_the_first_of_equal_maxima_gets_the_gradient() -> None:
    """Gradient by hand: a window of equal values, one with its maximum in row two, odd sides."""
    image = np.zeros((1, 3, 5, 5), np.float32)
    image[:, :, 2:4, 0:2] = [[0, 0], [1, 1]]
    nodes = [
        helper.make_node("Sub", ["image", "mean"], ["sub"]),
        helper.make_node("MaxPool", ["sub"], ["pool1"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "pool",
            [helper.make_tensor_value_info("image", 1, [1, 3, "height", "width"])],
            [helper.make_tensor_value_info("pool1", 1, None)],
            [numpy_helper.from_array(np.zeros((1, 3, 1, 1), np.float32), "mean")],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    graph = Graph(model)
    pull = graph.input("pull", (1, 3, 2, 2))
    graph.output(backward(graph, {"pool1": pull}), "gradient", (1, 3, "height", "width"))
    given_pull = np.broadcast_to(np.float32([[1, 2], [3, 4]]), (1, 3, 2, 2)).copy()
    actual = run(graph.model(), {"image": image, "pull": given_pull})["gradient"]
    expected = np.zeros((5, 5))
    expected[0, 0], expected[0, 2], expected[3, 0], expected[2, 2] = 1, 2, 3, 4
    assert (actual == expected).all()


def test_operators_without_a_rule_are_refused() -> None:
    model = SmallNetwork("max", "zero", 0).model(("conv1_1",))
    model.graph.node[1].op_type = "Mul"
    with pytest.raises(ValueError, match="no way back through a Mul"):
        backward(Graph(model), {"conv1_1": "conv1_1"})
    with pytest.raises(ValueError, match="no contribution"):
        backward(Graph(SmallNetwork("max", "zero", 0).model(("conv1_1",))), {})
    with pytest.raises(ValueError, match="the model has no relu9_9"):
        step_graph(model, ("relu9_9",), ())


CONTENT, STYLE = ("conv4_2",), ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
DEEP = ModelSpec.for_step(CONTENT, STYLE)
SHALLOW = ModelSpec.for_step(("relu2_1",), ("relu1_1", "conv2_1"))


def objective_of(spec: ModelSpec, engine: TorchEngine, photo: Tensor, art: Tensor) -> Objective:
    weights = LossWeights(
        content=0.2,
        style=1.0,
        tv=0.7,
        content_layers=dict.fromkeys(spec.content_layers, 1.0),
        style_layers={name: 1.0 + number for number, name in enumerate(spec.style_layers)},
    )
    return objective_for(Evaluation(engine), weights, photo, art)[0]


def step_inputs(objective: Objective) -> dict[str, Array]:
    """Return an objective as inputs of a step graph."""
    weights = objective.weights
    inputs = {target_input(name): value[None].numpy() for name, value in objective.contents.items()}
    grams, targets = target_grams(objective.styles[0]), objective.styles[0].layers
    inputs |= {gram_input(name): value.numpy() for name, value in grams.items()}
    for name, layers, energies, goals in (
        (CONTENT_SHARES, weights.content_layers, objective.content_energies, objective.contents),
        (
            STYLE_SHARES,
            weights.style_layers,
            {name: targets[name].energy for name in grams},  # type: ignore[attr-defined]
            grams,
        ),
    ):
        shares = weights.normalized(layers)
        inputs[name] = np.array(
            [shares[key] / goals[key].numel() / float(energies[key]) for key in layers], np.float32
        )
    inputs["weights"] = np.array([weights.content, weights.style, weights.tv], np.float32)
    return inputs


@pytest.mark.parametrize("size", [(96, 80), (67, 93)])
def test_steps_agree_with_the_engines(
    models: ModelStore, default_network: Network, photo: Crop, painting: Crop, size: tuple[int, int]
) -> None:
    engine = TorchEngine(read_vgg(default_network.path))
    image = 0.5 * photo(*size) + 0.5 * painting(*size)
    objective = objective_of(DEEP, engine, photo(*size), painting(80, 100))
    terms, gradient = Evaluation(engine).loss_and_gradient(image, objective)
    inputs = {"image": image.numpy(), **step_inputs(objective)}
    actual = run(models.obtain(DEEP).path, inputs)
    for ours, theirs in zip(
        actual["terms"], (terms.loss, terms.content, terms.style, terms.tv), strict=True
    ):
        assert ours == pytest.approx(theirs, rel=1e-4)
    assert actual["gradient"].dtype == np.float32
    assert relative_error(actual["gradient"], gradient.numpy()) < 1e-2


def test_tile_gradients_sum_to_the_step_gradient(
    models: ModelStore, photo: Crop, painting: Crop
) -> None:
    height, width = 90, 71
    spec = ModelSpec.for_losses(SHALLOW.taps)
    engine = TorchEngine(read_vgg(models.obtain(spec).path))
    image = 0.5 * photo(height, width) + 0.5 * painting(height, width)
    objective = objective_of(SHALLOW, engine, photo(height, width), painting(80, 100))
    inputs = {"image": image.numpy(), **step_inputs(objective)}
    inputs["weights"][2] = 0  # tiles leave out tv
    whole = run(models.obtain(SHALLOW).path, inputs)["gradient"]

    features = run(models.obtain(SHALLOW.as_variant("optimized")).path, {"image": image.numpy()})
    content, style, _ = inputs["weights"]
    targets = target_grams(objective.styles[0])
    pulls = {
        pull_input(name): 4
        * style
        * share
        / features[name][0, 0].size
        * (gram(torch.from_numpy(features[name])).numpy() - targets[name].numpy())
        for name, share in zip(SHALLOW.style_layers, inputs[STYLE_SHARES], strict=True)
    }
    pulls |= {
        shift_input(name): np.zeros((1, len(target), 1, 1), np.float32)
        for name, target in targets.items()
    }
    tile_model = models.obtain(SHALLOW.as_variant("tile")).path
    total = np.zeros_like(whole)
    tiles = tiles_of(height, width, 40, SHALLOW.taps)
    assert len(tiles) > 4
    for tile in tiles:
        part = {"image": tile.crop(image).contiguous().numpy(), **pulls}
        part[CONTENT_FACTORS] = 2 * content * inputs[CONTENT_SHARES]
        for name in SHALLOW.taps:
            stride = stride_of(name)
            _, *sides = shape_of(name, *tile.size)
            ends = []
            for span, side in zip((tile.rows, tile.columns), sides, strict=True):
                first, last, _ = span.core(stride).indices(side)
                ends += [first, last]
            part[core_input(name)] = np.array(ends, np.int64)
            if name in SHALLOW.content_layers:
                top, left = tile.rows.start // stride, tile.columns.start // stride
                target = objective.contents[name][:, top : top + sides[0], left : left + sides[1]]
                part[target_input(name)] = target[None].contiguous().numpy()
        tile.crop(torch.from_numpy(total)).add_(torch.from_numpy(run(tile_model, part)["gradient"]))
    assert relative_error(total, whole) < 1e-3


def test_half_precision_keeps_small_gradients(
    models: ModelStore, photo: Crop, painting: Crop
) -> None:
    size = 48, 40
    single = run(
        models.obtain(SHALLOW.as_variant("optimized")).path, {"image": photo(*size).numpy()}
    )
    art = run(
        models.obtain(SHALLOW.as_variant("optimized")).path, {"image": painting(*size).numpy()}
    )
    inputs: dict[str, Array] = {"image": painting(*size).flip(-1).contiguous().numpy()}
    inputs |= {target_input(name): single[name] for name in SHALLOW.content_layers}
    inputs |= {
        gram_input(name): gram(torch.from_numpy(art[name].copy())).numpy() * 0.5
        for name in SHALLOW.style_layers
    }
    inputs[CONTENT_SHARES] = np.float32([1 / np.square(single["relu2_1"]).sum()])
    inputs[STYLE_SHARES] = np.float32(
        [1 / np.square(inputs[gram_input(name)]).sum() for name in SHALLOW.style_layers]
    )
    model = onnx.load(models.obtain(SHALLOW.as_variant("step-fp16")).path)
    assert {item.data_type for item in model.graph.initializer if len(item.dims) == 4} >= {
        TensorProto.FLOAT16
    }
    strong = run(model, {**inputs, "weights": np.float32([1, 1, 0])})
    weak = run(model, {**inputs, "weights": np.float32([1e-9, 1e-9, 0])})
    assert 0 < np.abs(weak["gradient"]).max() < 2**-24  # smallest half-precision number
    assert relative_error(weak["gradient"] * 1e9, strong["gradient"]) < 1e-3
    for item in (*model.graph.input, *model.graph.output):
        kind = item.type.tensor_type.elem_type
        assert kind == TensorProto.FLOAT, item.name


@pytest.mark.parametrize("variant", ["step-bf16", "tile-bf16"])
def test_unknown_variants_are_refused(variant: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=rf"no variant '{variant}'.*step-fp16") as caught:
        export(SHALLOW.as_variant(variant), tmp_path / "model.onnx")  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_every_step_variant_has_tolerances() -> None:
    assert set(step_check.STEP_TOLERANCES) == set(STEP_VARIANTS)


OPERATORS = {
    *("Abs", "Add", "And", "AveragePool", "Cast", "Concat", "Conv", "Div", "Equal", "Gather"),
    *("Greater", "GreaterOrEqual", "Less", "MatMul", "Max", "MaxPool", "Mul", "Pad", "Range"),
    *("ReduceMax", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Resize", "Shape", "Size"),
    *("Slice", "SpaceToDepth", "Split", "Sub", "Tile", "Transpose", "Where"),
}
"""Standard operators of GPU providers, without control flow and scatter."""


@pytest.mark.parametrize("variant", ["step", "tile", "step-fp16"])
def test_files_hold_standard_operators_and_each_weight_once(
    models: ModelStore, variant: Any
) -> None:
    spec = SHALLOW.as_variant(variant)
    path = models.obtain(spec).path
    model = onnx.load(path)
    assert {node.op_type for node in model.graph.node} <= OPERATORS
    assert {node.domain for node in model.graph.node} == {""}
    kernels = [item for item in model.graph.initializer if list(item.dims[2:]) == [3, 3]]
    forward = sum(name.startswith("conv") for name in spec.layers)
    assert len(kernels) == forward
    assert sum(node.op_type == "Conv" for node in model.graph.node) == 2 * forward
    plain = models.obtain(spec.as_variant("plain")).path.stat().st_size
    assert path.stat().st_size < plain / (2 if variant.endswith("fp16") else 1) + 50_000
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == [1, 3, "height", "width"]
    actual = {item.key: item.value for item in model.metadata_props}
    assert actual["nstrt.variant"] == variant
    assert actual["nstrt.content_layers"] == "relu2_1"
    assert actual["nstrt.style_layers"] == "relu1_1,conv2_1"
    assert actual["nstrt.weights.sha256"] == OXFORD_SHA256
    for place in (str(Path.home()), "site-packages", ".py"):
        assert place.encode() not in path.read_bytes(), place


def test_equal_specifications_give_equal_bytes(models: ModelStore, tmp_path: Path) -> None:
    again = ModelSpec.for_step(("relu2_1",), ("conv2_1", "relu1_1"))
    done = export(again, tmp_path / "again.onnx")
    assert done.path.read_bytes() == models.obtain(SHALLOW).path.read_bytes()
    assert done.check.largest_error <= done.check.tolerance


def change_a_number(before: float, after: float) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        item = next(
            item
            for item in model.graph.initializer
            if list(item.dims) == [1] and numpy_helper.to_array(item)[0] == before
        )
        item.CopyFrom(numpy_helper.from_array(np.array([after], np.float32), item.name))

    return change


def open_every_relu(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type == "Greater":
            node.op_type = "GreaterOrEqual"


def insert_a_nan(model: onnx.ModelProto) -> None:
    change_a_number(4, np.nan)(model)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change_a_weight, "differs from the network"),
        (change_a_number(4, 4.0002), "gradient of style on the same activations"),
        (open_every_relu, "gradient of content"),
        (insert_a_nan, "gradient is not finite"),
        (remove_an_output, "gives out"),
        (break_the_graph, "not valid ONNX"),
    ],
)
def test_check_refuses_damaged_steps(
    models: ModelStore,
    damage: Callable[[onnx.ModelProto], None],
    message: str,
) -> None:
    net = FeatureNet(SHALLOW, load_weights("oxford", deepest="conv2_1"))
    model = onnx.load(models.obtain(SHALLOW).path)
    damage(model)
    with pytest.raises(ExportCheckError, match=message) as caught:
        step_check.check_step(model, serialized(model), net, SHALLOW)
    assert "\n" not in str(caught.value) or "not valid" in message


def test_a_failed_check_leaves_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    never = step_check.Tolerances(terms=1e-12, gradient=1e-12, arithmetic=1e-12)
    tolerances = dict.fromkeys(step_check.STEP_TOLERANCES, never)
    monkeypatch.setattr(step_check, "STEP_TOLERANCES", tolerances)
    spec = ModelSpec.for_step((), ("relu1_1",))
    with pytest.raises(ExportCheckError, match="at most 1e-12"):
        export(spec, tmp_path / "model.onnx")
    with pytest.raises(ExportCheckError):
        ModelStore(tmp_path / "store").build(spec, lambda spec, target, store: export(spec, target))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
