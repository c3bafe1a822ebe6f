"""Store of model files: lookup, checks, rebuilds and imports."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from nstrt.runtime.errors import ModelBuilderMissingError, ModelFileError
from nstrt.runtime.model import FORMAT, ModelSpec, ModelStore
from nstrt.runtime.model import store as store_module
from nstrt.runtime.system.files import (
    _host,
    cache_folder,
)

SPEC = ModelSpec(taps=("relu1_1",))
OTHER = ModelSpec(taps=("relu1_2",))


@dataclass
class FakeBuilder:
    """Builder that writes a few bytes and records its calls."""

    content: bytes = b"a network"
    built: list[ModelSpec] = field(default_factory=list)
    fails: BaseException | None = None

    def __call__(self, spec: ModelSpec, target: Path, store: ModelStore) -> str:
        self.built.append(spec)
        target.write_bytes(self.content)
        if self.fails:
            raise self.fails
        return "answer"

    def load(self) -> FakeBuilder:
        return self


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> FakeBuilder:
    fake = FakeBuilder()
    monkeypatch.setattr(store_module, "entry_points", lambda group: [fake])
    return fake


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, lines: list[str]) -> ModelStore:
    return ModelStore(tmp_path / "deep" / "models", notify=lines.append)


def file_names(store: ModelStore) -> set[str]:
    return {path.name for path in store.folder.iterdir()} if store.folder.exists() else set()


def record_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def test_models_are_built_once_and_found_afterwards(
    store: ModelStore, builder: FakeBuilder, lines: list[str]
) -> None:
    assert store.find(SPEC) is None
    first = store.obtain(SPEC)
    assert (first.path, first.path.read_bytes()) == (store.folder / SPEC.file_name, b"a network")
    assert first.sha256 == hashlib.sha256(b"a network").hexdigest()
    assert first.nstrt == version("nstrt")
    assert len(lines) == 1
    assert "about a minute, once" in lines[0]
    assert store.obtain(SPEC) == store.find(SPEC) == first
    assert ModelStore(store.folder).obtain(SPEC) == first
    assert builder.built == [SPEC]
    assert len(lines) == 1
    assert file_names(store) == {first.path.name, first.path.name + ".json"}


def test_list_returns_valid_models(store: ModelStore, builder: FakeBuilder) -> None:
    one, two = store.obtain(SPEC), store.obtain(OTHER)
    (store.folder / "stray.onnx").write_bytes(b"of unknown origin")
    assert {model.path for model in store.list()} == {one.path, two.path}
    two.path.write_bytes(b"damage")
    assert store.list() == [one]


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    os.truncate(path, 5)


def delete_the_record(path: Path) -> None:
    record_path(path).unlink()


def break_the_record(path: Path) -> None:
    record_path(path).write_text("[1, 2")


def write_another_type_of_record(path: Path) -> None:
    record_path(path).write_text("[]")


def nest_the_record(path: Path) -> None:
    record_path(path).write_text("[" * 100_000)


def repeat_a_member_of_the_record(path: Path) -> None:
    content = record_path(path).read_text()
    record_path(path).write_text(content[:1] + '"format": 0,' + content[1:])


def write_a_checksum_of_another_type(path: Path) -> None:
    content = json.loads(record_path(path).read_text())
    record_path(path).write_text(json.dumps({**content, "sha256": [1]}))


def write_a_version_of_another_type(path: Path) -> None:
    content = json.loads(record_path(path).read_text())
    record_path(path).write_text(json.dumps({**content, "nstrt": {"a": 1}}))


def write_bytes_that_are_no_text(path: Path) -> None:
    record_path(path).write_bytes(b"\xff\xfe{}")


def write_a_huge_record(path: Path) -> None:
    record_path(path).write_text(" " * (1 << 20) + record_path(path).read_text())


def put_a_folder_for_the_record(path: Path) -> None:
    record_path(path).unlink()
    record_path(path).mkdir()
    (record_path(path) / "more").write_bytes(b"")


def put_a_fifo_for_the_record(path: Path) -> None:
    record_path(path).unlink()
    make_fifo(record_path(path))


def put_a_folder_for_the_model(path: Path) -> None:
    path.unlink()
    path.mkdir()


def put_a_fifo_for_the_model(path: Path) -> None:
    path.unlink()
    make_fifo(path)


def make_fifo(path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no FIFOs here")
    os.mkfifo(path)


def put_a_file_without_an_end(path: Path) -> None:
    if not Path("/proc/self/mem").exists():
        pytest.skip("no such file here")
    path.unlink()
    path.symlink_to("/proc/self/mem")


def keep_the_weights_elsewhere(path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    weights = helper.make_tensor("w", TensorProto.FLOAT, [4], b"\0" * 16, raw=True)
    model = helper.make_model(helper.make_graph([], "graph", [], [], [weights]))
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    content = json.loads(record_path(path).read_text())
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    record_path(path).write_text(json.dumps({**content, "sha256": checksum}))


def write_an_older_format(path: Path) -> None:
    content: dict[str, Any] = json.loads(record_path(path).read_text())
    assert content["format"] == FORMAT
    record_path(path).write_text(json.dumps({**content, "format": FORMAT - 1}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_a_byte, "damaged"),
        (truncate, "damaged"),
        (delete_the_record, "incomplete"),
        (break_the_record, "incomplete"),
        (write_another_type_of_record, "incomplete"),
        (nest_the_record, "incomplete"),
        (repeat_a_member_of_the_record, "incomplete"),
        (write_a_checksum_of_another_type, "incomplete"),
        (write_a_version_of_another_type, "incomplete"),
        (write_bytes_that_are_no_text, "incomplete"),
        (write_a_huge_record, "incomplete"),
        (put_a_folder_for_the_record, "incomplete"),
        (put_a_fifo_for_the_record, "incomplete"),
        (put_a_folder_for_the_model, "is no file"),
        (put_a_fifo_for_the_model, "is no file"),
        (put_a_file_without_an_end, "damaged"),
        (keep_the_weights_elsewhere, "in another file"),
        (write_an_older_format, "older version"),
    ],
)
def test_invalid_models_are_reported_and_rebuilt(
    store: ModelStore,
    builder: FakeBuilder,
    lines: list[str],
    damage: Callable[[Path], None],
    message: str,
) -> None:
    good = store.obtain(SPEC)
    lines.clear()
    damage(good.path)
    assert store.find(SPEC) is None
    assert store.obtain(SPEC) == good
    assert builder.built == [SPEC, SPEC]
    assert len(lines) == 1
    assert good.path.name in lines[0]
    assert message in lines[0]
    assert "building it again" in lines[0]
    assert store.obtain(SPEC) == good
    assert len(builder.built) == 2


def test_build_replaces_the_model_and_returns_the_builder_result(
    store: ModelStore, builder: FakeBuilder
) -> None:
    store.obtain(SPEC)
    assert store.build(SPEC, FakeBuilder(content=b"newer")) == "answer"
    model = store.find(SPEC)
    assert model is not None
    assert model.path.read_bytes() == b"newer"


def test_unusable_folders_are_one_sentence(tmp_path: Path, builder: FakeBuilder) -> None:
    # Permissions do not stop root, but a file in place of the folder does.
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ModelFileError, match=r"cannot be written.*NSTRT_CACHE") as caught:
        ModelStore(tmp_path / "file" / "models").obtain(SPEC)
    assert "\n" not in str(caught.value)
    assert builder.built == []


@pytest.mark.parametrize("fails", [OSError(28, "No space left on device"), PermissionError(13, "")])
def test_write_errors_are_one_sentence(
    store: ModelStore, builder: FakeBuilder, fails: OSError
) -> None:
    builder.fails = fails
    with pytest.raises(ModelFileError, match=r"cannot be written \(.+\); free some space"):
        store.obtain(SPEC)
    assert file_names(store) == set()


@pytest.mark.parametrize("fails", [RuntimeError("bad"), KeyboardInterrupt(), MemoryError()])
def test_failing_builders_leave_no_file(
    store: ModelStore, builder: FakeBuilder, fails: BaseException
) -> None:
    builder.fails = fails
    with pytest.raises(type(fails)):
        store.obtain(SPEC)
    assert file_names(store) == set()


def test_failing_builders_keep_the_earlier_file(store: ModelStore, builder: FakeBuilder) -> None:
    good = store.obtain(SPEC)
    with pytest.raises(RuntimeError):
        store.build(SPEC, FakeBuilder(content=b"half", fails=RuntimeError("bad")))
    assert store.find(SPEC) == good
    assert good.path.read_bytes() == b"a network"
    assert file_names(store) == {good.path.name, record_path(good.path).name}


def test_missing_builders_say_what_to_install(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "entry_points", lambda group: [])
    with pytest.raises(ModelBuilderMissingError, match=r"pip install \"nstrt\[full\]\"") as caught:
        store.obtain(SPEC)
    for command in ("nstrt export --for lite --folder models", "nstrt import models"):
        assert command in str(caught.value)
    assert "\n" not in str(caught.value)
    assert file_names(store) == set()


def test_builders_that_cannot_be_imported_count_as_missing(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def load(self) -> object:
            raise ModuleNotFoundError("No module named 'torch'")

    monkeypatch.setattr(store_module, "entry_points", lambda group: [Broken()])
    with pytest.raises(ModelBuilderMissingError):
        store.obtain(SPEC)
    fake = FakeBuilder()
    monkeypatch.setattr(store_module, "entry_points", lambda group: [Broken(), fake])
    store.obtain(SPEC)
    assert fake.built == [SPEC]


def test_the_installed_exporter_is_found_and_builds(tmp_path: Path, lines: list[str]) -> None:
    import onnx

    store = ModelStore(tmp_path, notify=lines.append)
    model = store.obtain(SPEC)
    assert [output.name for output in onnx.load(model.path).graph.output] == ["relu1_1"]
    assert store.obtain(SPEC) == model
    assert len(lines) == 1


def test_nstrt_cache_sets_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NSTRT_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    assert ModelStore().folder == tmp_path / "models"
    monkeypatch.delenv("NSTRT_CACHE")
    assert cache_folder().name == "nstrt"


def test_temporary_files_of_ended_processes_are_deleted(
    store: ModelStore, builder: FakeBuilder
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    store.folder.mkdir(parents=True)
    stem = SPEC.file_name.removesuffix(".onnx")
    mark = f".{stem}.nstrt-{_host()}"
    dead = store.folder / f"{mark}-{ended.pid}-abc.onnx"
    living = store.folder / f"{mark}-{os.getppid()}-abc.onnx"
    elsewhere = store.folder / f".{stem}.nstrt-0badcafe-{ended.pid}-abc.onnx"
    strange = store.folder / ".other.nstrt-notes.onnx"
    for path in (dead, living, elsewhere, strange):
        path.write_bytes(b"half")
    store.obtain(SPEC)
    assert file_names(store) == {
        *(SPEC.file_name, SPEC.file_name + ".json"),
        *(living.name, elsewhere.name, strange.name),
    }


@pytest.fixture
def exported(tmp_path: Path, builder: FakeBuilder) -> ModelStore:
    """Store with two models in another folder."""
    other = ModelStore(tmp_path / "exported")
    for spec in (SPEC, OTHER):
        other.obtain(spec)
    return other


def test_models_are_imported_with_their_records(store: ModelStore, exported: ModelStore) -> None:
    assert store.import_folder(exported.folder) == {OTHER.file_name: True, SPEC.file_name: True}
    for spec in (SPEC, OTHER):
        model, original = store.find(spec), exported.find(spec)
        assert model is not None
        assert original is not None
        assert (model.sha256, model.nstrt) == (original.sha256, original.nstrt)
        assert model.path.read_bytes() == b"a network"
    assert file_names(store) == file_names(exported)


def test_present_models_are_not_copied_again(
    store: ModelStore, exported: ModelStore, builder: FakeBuilder
) -> None:
    store.obtain(SPEC)
    store.build(OTHER, FakeBuilder(content=b"another network"))
    assert store.import_folder(exported.folder) == {OTHER.file_name: True, SPEC.file_name: False}
    assert store.path(OTHER).read_bytes() == b"a network"
    truncate(store.path(SPEC))
    assert store.import_folder(exported.folder) == {OTHER.file_name: False, SPEC.file_name: True}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_a_byte, "damaged"),
        (delete_the_record, "incomplete"),
        (write_another_type_of_record, "incomplete"),
        (put_a_folder_for_the_model, "is no file"),
        (keep_the_weights_elsewhere, "keeps its weights in another file"),
        (write_an_older_format, "older version"),
    ],
)
def test_nothing_is_imported_if_one_model_is_invalid(
    store: ModelStore, exported: ModelStore, damage: Callable[[Path], None], message: str
) -> None:
    damage(exported.path(SPEC))
    with pytest.raises(ModelFileError, match=f"{message}; nothing was copied") as caught:
        store.import_folder(exported.folder)
    assert "\n" not in str(caught.value)
    assert file_names(store) == set()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no such permissions here")
def test_caches_that_others_can_write_are_refused(
    tmp_path: Path, exported: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NSTRT_CACHE", str(tmp_path / "cache"))
    store = ModelStore()
    before = os.umask(0)
    try:
        store.import_folder(exported.folder)
        assert store.obtain(SPEC) == store.find(SPEC)
    finally:
        os.umask(before)
    for path in (store.path(SPEC), record_path(store.path(SPEC)), store.folder, tmp_path / "cache"):
        mode = path.stat().st_mode
        path.chmod(mode | 0o022)
        with pytest.raises(ModelFileError, match="can be written by other users") as caught:
            store.obtain(SPEC)
        assert "\n" not in str(caught.value)
        path.chmod(mode)
    store.folder.chmod(0o777)
    with pytest.raises(ModelFileError, match="can be written by other users"):
        store.import_folder(exported.folder)


@pytest.mark.parametrize("folder", ["nowhere", "empty"])
def test_folders_without_models_say_how_to_export_them(
    store: ModelStore, tmp_path: Path, folder: str
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelFileError, match=r"no models in .*nstrt export --for lite"):
        store.import_folder(tmp_path / folder)


def test_copies_with_another_checksum_are_deleted(
    store: ModelStore, exported: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        store_module.shutil, "copyfile", lambda source, target: target.write_bytes(b"a netw")
    )
    with pytest.raises(ModelFileError, match="changed while it was copied"):
        store.import_folder(exported.folder)
    assert file_names(store) == set()
