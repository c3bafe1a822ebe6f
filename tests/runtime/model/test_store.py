"""Model files in the cache: found, checked, rebuilt; and files written whole or not at all."""

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
    remove_leftovers,
    write_whole,
    written_whole,
)

SPEC = ModelSpec(taps=("relu1_1",))
OTHER = ModelSpec(taps=("relu1_2",))


@dataclass
class FakeBuilder:
    """Writes a few bytes instead of a network, and counts how often it was asked."""

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
    found = FakeBuilder()
    monkeypatch.setattr(store_module, "entry_points", lambda group: [found])
    return found


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, lines: list[str]) -> ModelStore:
    return ModelStore(tmp_path / "deep" / "models", notify=lines.append)


def files(store: ModelStore) -> set[str]:
    return {path.name for path in store.folder.iterdir()} if store.folder.exists() else set()


def record(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def test_a_model_is_built_once_and_found_after(
    store: ModelStore, builder: FakeBuilder, lines: list[str]
) -> None:
    assert store.find(SPEC) is None
    first = store.obtain(SPEC)
    assert (first.path, first.path.read_bytes()) == (store.folder / SPEC.file_name, b"a network")
    assert first.sha256 == hashlib.sha256(b"a network").hexdigest()
    assert first.nstrt == version("nstrt")
    assert len(lines) == 1
    assert SPEC.file_name in lines[0]
    assert store.obtain(SPEC) == store.find(SPEC) == first
    assert ModelStore(store.folder).obtain(SPEC) == first
    assert builder.built == [SPEC]
    assert len(lines) == 1
    assert files(store) == {first.path.name, first.path.name + ".json"}


def test_models_are_listed_when_they_are_whole(store: ModelStore, builder: FakeBuilder) -> None:
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


def lose_the_record(path: Path) -> None:
    record(path).unlink()


def break_the_record(path: Path) -> None:
    record(path).write_text("[1, 2")


def make_the_record_no_record(path: Path) -> None:
    record(path).write_text("[]")


def age(path: Path) -> None:
    content: dict[str, Any] = json.loads(record(path).read_text())
    assert content["format"] == FORMAT
    record(path).write_text(json.dumps({**content, "format": FORMAT - 1}))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (flip_a_byte, "damaged"),
        (truncate, "damaged"),
        (lose_the_record, "incomplete"),
        (break_the_record, "incomplete"),
        (make_the_record_no_record, "incomplete"),
        (age, "older version"),
    ],
)
def test_a_faulty_model_is_noticed_said_and_built_again(
    store: ModelStore,
    builder: FakeBuilder,
    lines: list[str],
    harm: Callable[[Path], None],
    says: str,
) -> None:
    good = store.obtain(SPEC)
    lines.clear()
    harm(good.path)
    assert store.find(SPEC) is None
    assert store.obtain(SPEC) == good
    assert builder.built == [SPEC, SPEC]
    assert len(lines) == 1
    assert good.path.name in lines[0]
    assert says in lines[0]
    assert "building it again" in lines[0]
    assert store.obtain(SPEC) == good
    assert len(builder.built) == 2


def test_building_writes_again_and_passes_the_answer_on(
    store: ModelStore, builder: FakeBuilder
) -> None:
    store.obtain(SPEC)
    assert store.build(SPEC, FakeBuilder(content=b"newer")) == "answer"
    found = store.find(SPEC)
    assert found is not None
    assert found.path.read_bytes() == b"newer"


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path, builder: FakeBuilder) -> None:
    # A file in the way stops even root, whom permissions do not.
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ModelFileError, match=r"cannot be written.*NSTRT_CACHE") as caught:
        ModelStore(tmp_path / "file" / "models").obtain(SPEC)
    assert "\n" not in str(caught.value)
    assert builder.built == []


@pytest.mark.parametrize("fails", [OSError(28, "No space left on device"), PermissionError(13, "")])
def test_a_folder_that_takes_no_file_is_one_sentence(
    store: ModelStore, builder: FakeBuilder, fails: OSError
) -> None:
    builder.fails = fails
    with pytest.raises(ModelFileError, match=r"cannot be written \(.+\); free some space"):
        store.obtain(SPEC)
    assert files(store) == set()


@pytest.mark.parametrize("fails", [RuntimeError("bad"), KeyboardInterrupt(), MemoryError()])
def test_a_builder_that_fails_leaves_no_file(
    store: ModelStore, builder: FakeBuilder, fails: BaseException
) -> None:
    builder.fails = fails
    with pytest.raises(type(fails)):
        store.obtain(SPEC)
    assert files(store) == set()


def test_a_builder_that_fails_keeps_the_earlier_file(
    store: ModelStore, builder: FakeBuilder
) -> None:
    good = store.obtain(SPEC)
    with pytest.raises(RuntimeError):
        store.build(SPEC, FakeBuilder(content=b"half", fails=RuntimeError("bad")))
    assert store.find(SPEC) == good
    assert good.path.read_bytes() == b"a network"
    assert files(store) == {good.path.name, record(good.path).name}


def test_without_a_builder_the_error_says_what_to_install(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "entry_points", lambda group: [])
    with pytest.raises(ModelBuilderMissingError, match=r"pip install \"nstrt\[full\]\"") as caught:
        store.obtain(SPEC)
    for command in ("nstrt export --for lite --folder models", "nstrt import models"):
        assert command in str(caught.value)
    assert "\n" not in str(caught.value)
    assert files(store) == set()


def test_a_builder_that_cannot_be_imported_counts_as_missing(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def load(self) -> object:
            raise ModuleNotFoundError("No module named 'torch'")

    monkeypatch.setattr(store_module, "entry_points", lambda group: [Broken()])
    with pytest.raises(ModelBuilderMissingError):
        store.obtain(SPEC)
    rest = FakeBuilder()
    monkeypatch.setattr(store_module, "entry_points", lambda group: [Broken(), rest])
    store.obtain(SPEC)
    assert rest.built == [SPEC]


def test_the_installed_exporter_is_found_and_builds(tmp_path: Path, lines: list[str]) -> None:
    import onnx

    store = ModelStore(tmp_path, notify=lines.append)
    model = store.obtain(SPEC)
    assert [output.name for output in onnx.load(model.path).graph.output] == ["relu1_1"]
    assert store.obtain(SPEC) == model
    assert len(lines) == 1


def test_the_cache_is_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NSTRT_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    assert ModelStore().folder == tmp_path / "models"
    monkeypatch.delenv("NSTRT_CACHE")
    assert cache_folder().name == "nstrt"


def test_leftovers_go_with_their_process(store: ModelStore, builder: FakeBuilder) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    store.folder.mkdir(parents=True)
    stem = SPEC.file_name.removesuffix(".onnx")
    mark = f".{stem}.nstrt-{_host()}"
    dead = store.folder / f"{mark}-{gone.pid}-abc.onnx"
    living = store.folder / f"{mark}-{os.getppid()}-abc.onnx"
    elsewhere = store.folder / f".{stem}.nstrt-0badcafe-{gone.pid}-abc.onnx"
    strange = store.folder / ".other.nstrt-notes.onnx"
    for path in (dead, living, elsewhere, strange):
        path.write_bytes(b"half")
    store.obtain(SPEC)
    assert files(store) == {
        *(SPEC.file_name, SPEC.file_name + ".json"),
        *(living.name, elsewhere.name, strange.name),
    }


def test_a_killed_writer_leaves_the_target_alone_and_its_rest_can_be_cleared(
    tmp_path: Path,
) -> None:
    target = tmp_path / "result.png"
    target.write_bytes(b"earlier")
    code = (
        "import os, sys; from pathlib import Path\n"
        "from nstrt.runtime.system.files import written_whole\n"
        "with written_whole(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_bytes(b'half'); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert target.read_bytes() == b"earlier"
    assert len(list(tmp_path.iterdir())) == 2
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [target]


def test_the_temporary_file_is_beside_the_target_with_its_suffix(tmp_path: Path) -> None:
    target = tmp_path / "a.b.png"
    with written_whole(target) as temporary:
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".png")
        temporary.write_bytes(b"whole")
        assert not target.exists()
    assert list(tmp_path.iterdir()) == [target]


def test_files_have_the_rights_that_others_would_have(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_whole(tmp_path / "whole", b"")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.fixture
def carried(tmp_path: Path, builder: FakeBuilder) -> ModelStore:
    """A folder with two models, made elsewhere."""
    other = ModelStore(tmp_path / "carried")
    for spec in (SPEC, OTHER):
        other.obtain(spec)
    return other


def test_models_are_taken_over_with_their_records(store: ModelStore, carried: ModelStore) -> None:
    assert store.take(carried.folder) == {OTHER.file_name: True, SPEC.file_name: True}
    for spec in (SPEC, OTHER):
        found, there = store.find(spec), carried.find(spec)
        assert found is not None
        assert there is not None
        assert (found.sha256, found.nstrt) == (there.sha256, there.nstrt)
        assert found.path.read_bytes() == b"a network"
    assert files(store) == files(carried)


def test_what_is_there_already_is_not_copied_again(
    store: ModelStore, carried: ModelStore, builder: FakeBuilder
) -> None:
    store.obtain(SPEC)
    store.build(OTHER, FakeBuilder(content=b"another network"))
    assert store.take(carried.folder) == {OTHER.file_name: True, SPEC.file_name: False}
    assert store.path(OTHER).read_bytes() == b"a network"
    truncate(store.path(SPEC))
    assert store.take(carried.folder) == {OTHER.file_name: False, SPEC.file_name: True}


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (flip_a_byte, "damaged"),
        (lose_the_record, "incomplete"),
        (make_the_record_no_record, "incomplete"),
        (age, "older version"),
    ],
)
def test_nothing_is_taken_over_unless_all_is_whole(
    store: ModelStore, carried: ModelStore, harm: Callable[[Path], None], says: str
) -> None:
    harm(carried.path(SPEC))
    with pytest.raises(ModelFileError, match=f"{says}; nothing was copied") as caught:
        store.take(carried.folder)
    assert "\n" not in str(caught.value)
    assert files(store) == set()


@pytest.mark.parametrize("folder", ["nowhere", "empty"])
def test_a_folder_without_models_says_how_to_make_them(
    store: ModelStore, tmp_path: Path, folder: str
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelFileError, match=r"no models in .*nstrt export --for lite"):
        store.take(tmp_path / folder)


def test_a_copy_that_came_out_differently_is_not_kept(
    store: ModelStore, carried: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        store_module.shutil, "copyfile", lambda source, target: target.write_bytes(b"a netw")
    )
    with pytest.raises(ModelFileError, match="changed while it was copied"):
        store.take(carried.folder)
    assert files(store) == set()
