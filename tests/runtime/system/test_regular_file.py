"""Pipes, devices, sockets and folders in place of files: refused at once, wherever one is read."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nstrt.exporter.weight_files import read_convolutions
from nstrt.runtime import ModelStore, NstrtError
from nstrt.runtime.batch.find_photos import format_of
from nstrt.runtime.batch.job_list import jobs_from_table
from nstrt.runtime.model import ModelSpec
from nstrt.runtime.model.spec import file_sha256
from nstrt.runtime.pictures import read_picture
from nstrt.runtime.run.checkpoint_file import read_checkpoint
from nstrt.runtime.system.cancellation import Interrupt, Interrupted
from nstrt.runtime.system.files import cache_folder, sha256_of
from nstrt.runtime.system.measurements import load_measurements
from nstrt.runtime.system.regular_file import open_regular, read_regular

PATIENCE = 20.0
"""Seconds after which a reader counts as waiting for ever."""

KINDS = ("pipe", "endless device", "socket", "folder", "loop", "endless file of /proc")


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """Make something at a path that is no file with content."""
    with socket.socket(socket.AF_UNIX) as listening:

        def make(path: Path) -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            match request.param:
                case "pipe":
                    os.mkfifo(path)
                case "endless device":
                    path.symlink_to("/dev/zero")
                case "socket":
                    listening.bind(str(path))
                case "folder":
                    path.mkdir()
                case "loop":
                    path.symlink_to(path)
                case _:
                    path.symlink_to("/proc/self/pagemap")

        yield make


def outcome(function: Callable[[], object]) -> object:
    """Result or exception of a function; fails if it takes longer than :data:`PATIENCE`."""
    outcomes: list[object] = []

    def run() -> None:
        try:
            outcomes.append(function())
        except Exception as error:
            outcomes.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert outcomes, "it waits for ever"
    return outcomes[0]


READERS: dict[str, Callable[[Path], object]] = {
    "picture.png": read_picture,
    "list.csv": lambda path: jobs_from_table(path, out_dir=path.parent, style="a.png"),
    "list.toml": lambda path: jobs_from_table(path, out_dir=path.parent, style="a.png"),
    "weights.pth": lambda path: read_convolutions(path, "conv5_4"),
    "weights.safetensors": lambda path: read_convolutions(path, "conv5_4"),
    "weights.h5": lambda path: read_convolutions(path, "conv5_4"),
    "a.checkpoint": read_checkpoint,
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes are files on Unix alone")
@pytest.mark.parametrize("name", READERS)
def test_whatever_is_no_file_is_refused_in_a_sentence(
    name: str, make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path / name)
    error = outcome(lambda: READERS[name](tmp_path / name))
    assert isinstance(error, NstrtError), error
    assert "\n" not in str(error)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes are files on Unix alone")
def test_whatever_is_no_file_in_the_cache_counts_as_missing(
    make: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NSTRT_CACHE", str(tmp_path / "cache"))
    make(cache_folder() / "steps.json")
    assert outcome(lambda: load_measurements("steps")) == {}
    store, spec = ModelStore(), ModelSpec.for_losses(("relu1_1",))
    record = store.path(spec).with_name(store.path(spec).name + ".json")
    record.parent.mkdir(parents=True)
    store.path(spec).write_bytes(b"a model")
    os.rename(cache_folder() / "steps.json", record)
    assert outcome(lambda: store.find(spec)) is None
    os.rename(record, tmp_path / "photo")
    assert outcome(lambda: format_of(tmp_path / "photo")) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes are files on Unix alone")
def test_checksums_of_weights_are_of_files_alone(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path / "weights")
    found = outcome(lambda: file_sha256(str(tmp_path / "weights")))
    # A file of /proc counts as empty.
    assert isinstance(found, NstrtError) or found == hashlib.sha256().hexdigest()


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "large", "wb") as file:
        file.truncate(1 << 40)
    for read in (
        lambda: read_regular(tmp_path / "large", limit=1 << 30),
        lambda: file_sha256(str(tmp_path / "large")),
    ):
        assert isinstance(outcome(read), (OSError, NstrtError))
    with open_regular(tmp_path / "large") as file:
        assert file.read(2) == b"\0\0"


def test_a_checksum_ends_when_the_loading_is_interrupted(tmp_path: Path) -> None:
    with open(tmp_path / "large", "wb") as file:
        file.truncate(1 << 40)
    interrupt = Interrupt()
    threading.Timer(0.2, interrupt.request).start()

    def load() -> None:
        with interrupt.governing():
            sha256_of(tmp_path / "large")

    assert isinstance(outcome(load), Interrupted)
