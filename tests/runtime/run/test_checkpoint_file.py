"""Checkpoints that are damaged or made by hand are refused in one sentence."""

from __future__ import annotations

import io
import json
import os
import socket
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nstrt.runtime.arrays import PlainArrays
from nstrt.runtime.errors import CheckpointError
from nstrt.runtime.planning.plan import Scale
from nstrt.runtime.run.checkpoint_file import (
    NotFiniteError,
    read_checkpoint,
    size_of,
    write_checkpoint,
)
from nstrt.runtime.run.checkpoint_schedule import Checkpoints

from support.checkpoints import header_of, members_of, write_members, write_small_checkpoint

OPTIMIZERS = ("lbfgs", "adam")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint for each optimiser."""
    folder = tmp_path_factory.mktemp("good")
    for optimizer in OPTIMIZERS:
        write_small_checkpoint(folder / optimizer, optimizer)
    return {optimizer: folder / optimizer for optimizer in OPTIMIZERS}


def read(path: Path) -> Any:
    return read_checkpoint(path).state(PlainArrays())


def refuse(path: Path, words: str = "is damaged; delete it and start again") -> None:
    with pytest.raises(CheckpointError, match=words) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def write_header(path: Path, good: Path, header: Any) -> None:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    write_members(path, {**members_of(good), "checkpoint.json": content})


def write_array(path: Path, good: Path, number: int, values: Any) -> None:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=True)
    write_members(path, {**members_of(good), f"{number}.npy": file.getvalue()})


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_was_written_is_read(good: dict[str, Path], optimizer: str, tmp_path: Path) -> None:
    state = read(good[optimizer])
    assert (state["scale"], state["iteration"], state["step"]) == (1, 2, 5)
    assert state["image"].shape == (1, 3, 16, 24)
    write_header(tmp_path / "c", good[optimizer], header_of(good[optimizer]))
    assert np.array_equal(read(tmp_path / "c")["image"], state["image"])
    assert size_of(state) == size_of(read(tmp_path / "c"))


def at(*path: Any, value: Any) -> Callable[[Any], None]:
    """Sets one value of a header."""

    def change(header: Any) -> None:
        for key in path[:-1]:
            header = header[key]
        header[path[-1]] = value

    return change


def without(*path: Any) -> Callable[[Any], None]:
    """Removes one value of a header."""

    def change(header: Any) -> None:
        for key in path[:-1]:
            header = header[key]
        del header[path[-1]]

    return change


POINT = ("state", "optimizer", "at")

CHANGES: dict[str, Callable[[Any], None]] = {
    "negative step": at("state", "step", value=-1),
    "infinite step": at("state", "step", value=float("inf")),
    "step of a fraction": at("state", "step", value=1.5),
    "step that is true": at("state", "step", value=True),
    "huge step": at("state", "step", value=10**400),
    "more steps than planned": at("state", "step", value=6),
    "fewer steps than the scale's": at("state", "step", value=1),
    "scale beyond the last": at("state", "scale", value=3),
    "negative scale": at("state", "scale", value=-1),
    "iteration beyond the last": at("state", "iteration", value=5),
    "all iterations but not complete": at("state", "iteration", value=4),
    "ended but not complete": at("state", "ended", value=True),
    "complete in words": at("state", "complete", value="yes"),
    "loss that is no number": at(*POINT, "loss", value=float("nan")),
    "infinite lowest loss": at("state", "gain", "lowest", value=[float("-inf")]),
    "more losses than are kept": at("state", "gain", "lowest", value=[0.5] * 12),
    "negative loss": at("state", "best", "terms", "style", value=-0.5),
    "length without bound": at(*POINT, "length", value=1e300),
    "restarts beyond the steps": at(*POINT, "restarts", value=10**9),
    "unknown term": at("state", "best", "terms", "charm", value=1.0),
    "no image": at("state", "image", value=None),
    "array in place of an index": at("state", "image", value=[0]),
    "array that is not there": at("state", "image", "array", value=99),
    "negative array": at("state", "image", "array", value=-1),
    "one array twice": at("state", "image", "array", value=1),
    "no best image": at("state", "best", value=None),
    "another optimiser's state": at(
        "state", "optimizer", value={"steps": 5, "moments": [{"array": 1}, {"array": 2}]}
    ),
    "longer history than planned": at("plan", "history", value=1),
    "plan that is a list": at("plan", value=[]),
    "plan without scales": at("plan", "scales", value=[]),
    "scale of negative width": at("plan", "scales", 1, "width", value=-24),
    "scale of another size": at("plan", "scales", 1, "height", value=17),
    "huge scale": at("plan", "scales", 2, "width", value=1 << 40),
    "endless iterations": at("plan", "scales", 2, "iterations", value=10**12),
    "tile of no pixels": at("plan", "scales", 1, "tile", value=0),
    "unknown engine": at("plan", "engine", value="steam"),
    "threads without bound": at("plan", "threads", value=10**6),
    "device with control characters": at("plan", "device", value="\x1b[2J"),
    "unknown member of the plan": at("plan", "charm", value=1),
    "plan without memory": without("plan", "memory"),
    "algorithms that are a list": at("algorithms", value=["direct"]),
    "algorithm that is a number": at("algorithms", "on 3 64", value=3),
    "version that is a number": at("versions", "nstrt", value=0.2),
    "pictures that are a list": at("asked", "pictures", value=[]),
    "options that are missing": without("asked", "options"),
    "unknown option": at("asked", "options", "charm", value=1),
    "option of a strange type": at("asked", "options", "style_layers", value=[["relu1_1"]]),
    "unknown member": at("charm", value=1),
    "state that is missing": without("state"),
    "format that is missing": without("nstrt-checkpoint"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_headers_that_cannot_be_are_damage(
    good: dict[str, Path], tmp_path: Path, change: Callable[[Any], None]
) -> None:
    header = header_of(good["lbfgs"])
    change(header)
    write_header(tmp_path / "c", good["lbfgs"], header)
    refuse(tmp_path / "c")


ADAM_CHANGES: dict[str, Callable[[Any], None]] = {
    "other number of steps": at("state", "optimizer", "steps", value=10**9),
    "no moments": at("state", "optimizer", "moments", value=None),
    "weight of zero": at("state", "best", "average", "weight", value=0.0),
    "negative weight": at("state", "best", "average", "weight", value=-1.0),
    "no average": at("state", "best", "average", value=None),
}


@pytest.mark.parametrize("change", ADAM_CHANGES.values(), ids=ADAM_CHANGES)
def test_states_of_adam_that_cannot_be_are_damage(
    good: dict[str, Path], tmp_path: Path, change: Callable[[Any], None]
) -> None:
    header = header_of(good["adam"])
    change(header)
    write_header(tmp_path / "c", good["adam"], header)
    refuse(tmp_path / "c")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"3",
        b"{",
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"9" * 100_000,
        b" " * (2 << 20),
    ],
    ids=range(10),
)
def test_headers_that_are_no_object_are_damage(
    good: dict[str, Path], tmp_path: Path, content: bytes
) -> None:
    write_header(tmp_path / "c", good["lbfgs"], content)
    refuse(tmp_path / "c")


def test_a_header_without_bound_is_damage(good: dict[str, Path], tmp_path: Path) -> None:
    content = members_of(good["lbfgs"])["checkpoint.json"]
    write_header(tmp_path / "c", good["lbfgs"], content + b" " * 1000)
    read(tmp_path / "c")
    write_header(tmp_path / "c", good["lbfgs"], content + b" " * (2 << 20))
    refuse(tmp_path / "c")


def test_a_member_that_is_given_twice_is_damage(good: dict[str, Path], tmp_path: Path) -> None:
    content = members_of(good["lbfgs"])["checkpoint.json"]
    assert content.startswith(b'{"nstrt-checkpoint": 7,')
    write_header(tmp_path / "c", good["lbfgs"], b'{"nstrt-checkpoint": 7,' + content[1:])
    refuse(tmp_path / "c")


def test_another_format_is_called_so(good: dict[str, Path], tmp_path: Path) -> None:
    header = {**header_of(good["lbfgs"]), "nstrt-checkpoint": 6}
    write_header(tmp_path / "c", good["lbfgs"], header)
    refuse(tmp_path / "c", "of another version of nstrt")


def test_an_option_that_the_checkpoint_does_not_know_was_at_its_default(
    good: dict[str, Path], tmp_path: Path
) -> None:
    header = header_of(good["lbfgs"])
    asked = json.loads(json.dumps(header["asked"]))
    del header["asked"]["options"]["style_margin"]
    write_header(tmp_path / "c", good["lbfgs"], header)
    found = read_checkpoint(tmp_path / "c")
    found.check_identity(asked)
    asked["options"]["style_margin"] = "crop"
    with pytest.raises(CheckpointError, match="style_margin='keep'"):
        found.check_identity(asked)


PICTURE = np.full((1, 3, 16, 24), 0.5, np.float32)


def with_value(value: float) -> np.ndarray[Any, Any]:
    values = PICTURE.copy()
    values[0, 1, 2, 3] = value
    return values


@pytest.mark.parametrize(
    "values",
    [
        *map(with_value, (np.nan, np.inf, -np.inf, 1e30)),
        *(PICTURE.astype(dtype) for dtype in (np.float64, np.float16, np.int32, complex, ">f4")),
        *(PICTURE[0], PICTURE[..., :-1], PICTURE.swapaxes(2, 3), np.float32(1)),
        np.asfortranarray(PICTURE),
        np.array([{"a": 1}], object),
    ],
    ids=range(15),
)
def test_arrays_that_cannot_be_are_damage(
    good: dict[str, Path], tmp_path: Path, values: Any
) -> None:
    write_array(tmp_path / "c", good["lbfgs"], 0, values)
    refuse(tmp_path / "c")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_gradients_that_are_not_finite_are_damage(
    good: dict[str, Path], tmp_path: Path, value: float
) -> None:
    index = header_of(good["lbfgs"])["state"]["optimizer"]["at"]["gradient"]["array"]
    write_array(tmp_path / "c", good["lbfgs"], index, with_value(3.4e38))
    read(tmp_path / "c")
    write_array(tmp_path / "c", good["lbfgs"], index, with_value(value))
    refuse(tmp_path / "c")


def test_negative_squares_are_damage(good: dict[str, Path], tmp_path: Path) -> None:
    index = header_of(good["adam"])["state"]["optimizer"]["moments"][1]["array"]
    write_array(tmp_path / "c", good["adam"], index, with_value(-1))
    refuse(tmp_path / "c")


def test_other_archives_are_damage(good: dict[str, Path], tmp_path: Path) -> None:
    path, members = tmp_path / "c", members_of(good["lbfgs"])
    last = sorted(members, key=len)[0]
    write_members(path, members, compression=zipfile.ZIP_DEFLATED)
    refuse(path)
    write_members(path, members, compression=zipfile.ZIP_LZMA)
    refuse(path)
    write_members(path, {**members, "more.npy": b""})
    refuse(path)
    write_members(path, {name: members[name] for name in members if name != last})
    refuse(path)
    write_members(path, {name: members[name] for name in reversed(members)})
    refuse(path)
    write_members(path, {**members, last: members[last] + b"\0"})
    refuse(path)
    write_members(path, {})
    refuse(path)
    write_members(path, members)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("checkpoint.json", members["checkpoint.json"])
    refuse(path)


def patched(content: bytes, signature: bytes, offset: int, value: bytes) -> bytes:
    """The zip with bytes of each record of one kind replaced."""
    changed, start = bytearray(content), 0
    while (start := content.find(signature, start)) >= 0:
        changed[start + offset : start + offset + len(value)] = value
        start += 4
    return bytes(changed)


CENTRAL, LOCAL, END = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"


@pytest.mark.parametrize(
    ("signature", "offset", "value"),
    [
        (CENTRAL, 8, b"\x01\0"),  # encrypted
        (LOCAL, 30, b"x"),  # another name
        (CENTRAL, 8, b"\x20\0"),  # patched data
        (CENTRAL, 6, b"\xff\xff"),  # a later version of the format
        (CENTRAL, 10, b"\x63\0"),  # an unknown compression
        (CENTRAL, 16, b"\0\0\0\0"),  # another checksum
        (CENTRAL, 20, struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0)),
        (CENTRAL, 24, struct.pack("<I", 0xFFFFFFF0)),
        (CENTRAL, 42, struct.pack("<I", 0xFFFFFFF0)),
        (END, 12, struct.pack("<I", 0xFFFFFFF0)),
        (END, 16, struct.pack("<I", 0xFFFFFFF0)),
    ],
)
def test_directories_that_lie_are_damage(
    good: dict[str, Path], tmp_path: Path, signature: bytes, offset: int, value: bytes
) -> None:
    path = tmp_path / "c"
    path.write_bytes(patched(good["lbfgs"].read_bytes(), signature, offset, value))
    refuse(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_no_plain_file_is_read_or_waited_for(tmp_path: Path, good: dict[str, Path]) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for name in ("fifo", "zero", "folder", "socket", "nowhere"):
            refuse(tmp_path / name, "cannot be read")


MEMORY = """
import resource, sys
from pathlib import Path
from nstrt.runtime.arrays import PlainArrays
from nstrt.runtime.errors import CheckpointError
from nstrt.runtime.run.checkpoint_file import read_checkpoint

read_checkpoint(Path(sys.argv[1])).state(PlainArrays())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, -1))
for name in sys.argv[2:]:
    try:
        read_checkpoint(Path(name)).state(PlainArrays())
    except CheckpointError:
        continue
    raise SystemExit(f"{name} was read")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def write_long_directory(path: Path) -> None:
    """A zip with a directory of 300,000 members, which take much more memory than bytes."""
    write_members(path, {"checkpoint.json": b""})
    content = path.read_bytes()
    start, end = content.index(CENTRAL), content.index(END)
    directory = content[start:end] * 300_000
    place = struct.pack("<HHIIH", 0xFFFF, 0xFFFF, len(directory), start, 0)
    path.write_bytes(content[:start] + directory + content[end : end + 8] + place)


def write_lying_size(path: Path, good: Path) -> None:
    """A checkpoint whose plan and directory state 3.9 GB for an array of some kilobytes."""
    header = header_of(good)
    header["plan"]["scales"][1] |= {"width": 18_000, "height": 18_000}
    write_header(path, good, header)
    content = path.read_bytes()
    place = content.index(CENTRAL, content.index(CENTRAL) + 4)
    size = struct.pack("<I", 128 + 4 * 3 * 18_000**2)
    path.write_bytes(content[: place + 24] + size + content[place + 28 :])


def test_small_files_take_little_memory(good: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("resource")
    members, header = members_of(good["lbfgs"]), header_of(good["lbfgs"])
    blank = b" " * (200 << 20)
    deflated = {"compression": zipfile.ZIP_DEFLATED}
    write_members(tmp_path / "header", {**members, "checkpoint.json": blank}, **deflated)
    write_members(tmp_path / "array", {**members, "0.npy": blank}, **deflated)
    header["plan"]["scales"][1] |= {"width": 60_000, "height": 60_000}
    write_header(tmp_path / "plan", good["lbfgs"], header)
    file = io.BytesIO()
    facts = {"descr": "<f4", "fortran_order": False, "shape": (1, 3, 20_000, 20_000)}
    np.lib.format.write_array_header_1_0(file, facts)
    write_members(tmp_path / "shape", {**members, "0.npy": file.getvalue()})
    write_long_directory(tmp_path / "members")
    write_lying_size(tmp_path / "size", good["lbfgs"])
    names = [
        str(tmp_path / name) for name in ("header", "array", "plan", "shape", "members", "size")
    ]
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(good["lbfgs"]), *names],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100


@settings(
    max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    optimizer=st.sampled_from(OPTIMIZERS),
    places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.none() | st.floats(0, 1),
)
def test_changed_bytes_are_read_or_refused(
    good: dict[str, Path],
    tmp_path: Path,
    optimizer: str,
    places: list[tuple[float, int]],
    cut: float | None,
) -> None:
    content = bytearray(good[optimizer].read_bytes())
    for place, value in places:
        content[round(place * (len(content) - 1))] = value
    path = tmp_path / "c"
    path.write_bytes(content if cut is None else content[: round(cut * len(content))])
    with suppress(CheckpointError):
        # Some bytes say nothing, such as dates in the archive.
        assert np.array_equal(read(path)["image"], read(good[optimizer])["image"])


STRANGE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["torch", "adam", "lbfgs", "cpu", "fp16", "relu1_1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def leaves(tree: Any) -> list[tuple[Any, Any]]:
    """Each container of a tree with each of its keys."""
    found: list[tuple[Any, Any]] = []
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        found += [(tree, key), *leaves(tree[key])]
    return found


@settings(
    max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(optimizer=st.sampled_from(OPTIMIZERS), place=st.floats(0, 1), value=STRANGE)
def test_changed_headers_are_read_or_refused(
    good: dict[str, Path], tmp_path: Path, optimizer: str, place: float, value: Any
) -> None:
    header = header_of(good[optimizer])
    places = leaves(header)
    container, key = places[round(place * (len(places) - 1))]
    container[key] = value
    path = tmp_path / "c"
    write_header(path, good[optimizer], header)
    with suppress(CheckpointError):
        checkpoint = read_checkpoint(path)
        assert checkpoint.step >= checkpoint.iteration >= 0
        checkpoint.state(PlainArrays())
        # An identity of strange values is compared and named all the same.
        checkpoint.check_identity({"pictures": {}, "options": {}})


def test_scales_of_another_run_are_damage(good: dict[str, Path]) -> None:
    checkpoint = read_checkpoint(good["lbfgs"])
    scales = checkpoint.plan.scales
    checkpoint.check_scales(scales)
    other = Scale(width=32, height=17, styles=((32, 16),), iterations=5)
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint.check_scales((*scales[:2], other))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_states_that_are_not_finite_are_not_written(
    good: dict[str, Path], tmp_path: Path, value: float
) -> None:
    checkpoint = read_checkpoint(good["lbfgs"])
    facts: dict[str, Any] = {
        "identity": checkpoint.identity,
        "plan": checkpoint.plan,
        "algorithms": {},
        "versions": {},
        "seconds": 1.0,
    }
    state = dict(checkpoint.state(PlainArrays()))
    for changed in (
        {**state, "image": with_value(value)},
        {**state, "gain": {"lowest": [value]}},
    ):
        with pytest.raises(NotFiniteError):
            write_checkpoint(tmp_path / "c", changed, **facts)
    lines: list[str] = []
    schedule = Checkpoints(tmp_path / "c", resume=False, seconds=0, notify=lines.append)
    schedule._facts = {name: facts[name] for name in ("identity", "plan", "versions")}
    schedule._engine = type("Engine", (), {"algorithms": {}})()
    schedule.save(changed, seconds=1.0)
    schedule.save(changed, seconds=1.0)
    assert len(lines) == 1
    assert "not finite" in lines[0]
    assert list(tmp_path.iterdir()) == []
