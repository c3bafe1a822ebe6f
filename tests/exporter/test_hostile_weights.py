"""Weight files of other content than VGG19's are refused in a sentence, with little memory."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from nstrt.exporter.weight_files import read_convolutions
from nstrt.runtime.errors import WeightsError

from support.peak_memory import measured_peak

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux")

MEMORY = 100 << 20
SHAPE = (64, 3, 3, 3)
BIAS = torch.arange(64) / 64
GIGA = 1 << 30


def pth(weight: Any, bias: Any = BIAS, **more: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "w.pth"
        torch.save({"features.0.weight": weight, "features.0.bias": bias, **more}, path)
        return path

    return write


def nested() -> Tensor:
    return torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])


def inflated(folder: Path) -> Path:
    """An archive with compressed zeros, as torch never writes it."""
    plain = pth(torch.zeros(SHAPE), other=torch.zeros(1 << 26))(folder)
    path = folder / "small.pth"
    with (
        zipfile.ZipFile(plain) as source,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for entry in source.infolist():
            with source.open(entry) as data, target.open(entry.filename, "w") as packed:
                while piece := data.read(1 << 24):
                    packed.write(piece)
    plain.unlink()
    return path


def overlapping(folder: Path) -> Path:
    """An archive of two hundred arrays whose names lead to the same data."""
    whole = pth(0, **{f"n{number}": torch.zeros(1 << 18) for number in range(200)})(folder)
    path = folder / "overlapping.pth"
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as target:
        known: zipfile.ZipInfo | None = None
        for entry in source.infolist():
            if known is not None and entry.file_size == known.file_size:
                other = copy(known)
                other.filename = entry.filename
                target.filelist.append(other)
                continue
            target.writestr(entry.filename, source.read(entry))
            if entry.file_size == 1 << 20:
                known = target.filelist[-1]
    return path


def h5(make: Callable[[h5py.Group], object]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "w.h5"
        with h5py.File(path, "w") as file:
            group = file.create_group("block1_conv1")
            group["bias:0"] = BIAS.numpy()
            make(group)
        return path

    return write


def virtual(group: h5py.Group) -> None:
    layout = h5py.VirtualLayout(shape=(3, 3, 3, 64), dtype="f4")
    layout[...] = h5py.VirtualSource("/etc/other.h5", "x", shape=(3, 3, 3, 64))
    group.create_virtual_dataset("kernel:0", layout)


def link(group: h5py.Group) -> None:
    group["kernel:0"] = h5py.ExternalLink("/etc/other.h5", "/x")


def bare_safetensors(shape: list[int], offsets: list[int], dtype: str = "F32") -> Any:
    def write(folder: Path) -> Path:
        path = folder / "w.safetensors"
        entry = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        head = json.dumps({"features.0.weight": entry}).encode()
        path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(100))
        return path

    return write


def large_h5(shape: tuple[int, ...], **options: Any) -> Callable[[Path], Path]:
    return h5(lambda group: group.create_dataset("kernel:0", shape, "f4", **options))


def plain_pickle(body: bytes) -> Callable[[Path], Path]:
    """A torch file that is no archive, with ``body`` as its content."""

    def write(folder: Path) -> Path:
        path = folder / "w.pth"
        head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "type_sizes": {}}]
        parts = [*(pickle.dumps(part, 2) for part in head), b"\x80\2" + body + b"."]
        path.write_bytes(b"".join(parts) + pickle.dumps([], 2))
        return path

    return write


def archived_pickle(body: bytes, name: str = "data.pkl") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "w.pth"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"w/{name}", b"\x80\2" + body + b".")
            archive.writestr("w/version", "3\n")
        return path

    return write


def bytes_of(size: int) -> bytes:
    return b"cbuiltins\nbytearray\n\x8a\x08" + struct.pack("<q", size) + b"\x85R"


def filtered(*filters: int) -> Callable[[Path], Path]:
    """A dataset of one chunk, which holds 256 MB of zeros behind HDF5's filters."""

    def make(group: h5py.Group) -> None:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk(KERNEL)
        stored = bytes(GIGA >> 2)
        for each in filters:
            plan.set_filter(each, 0, (9,) if each == 1 else ())
            stored = zlib.compress(stored, 1) if each == 1 else stored
        space = h5py.h5s.create_simple(KERNEL)
        dataset = h5py.h5d.create(group.id, b"kernel:0", h5py.h5t.IEEE_F32LE, space, plan)
        dataset.write_direct_chunk((0, 0, 0, 0), stored)

    return h5(make)


def nested_groups(group: h5py.Group) -> None:
    for _ in range(2000):
        group = group.create_group("g")


def long_safetensors(folder: Path) -> Path:
    """A file of 300,000 arrays without numbers."""
    entries = {
        str(n): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(300_000)
    }
    head = json.dumps(entries, separators=(",", ":")).encode()
    (folder / "w.safetensors").write_bytes(struct.pack("<Q", len(head)) + head)
    return folder / "w.safetensors"


def old_pth(description: bytes) -> Callable[[Path], Path]:
    """A file of torch's older kind, which is no archive."""

    def write(folder: Path) -> Path:
        path = folder / "w.pth"
        torch.save({}, path, _use_new_zipfile_serialization=False)
        # Empty dictionaries, of the system's facts and of weights, come before a list of arrays.
        start, _, end = path.read_bytes().rpartition(b"}q")
        path.write_bytes(start + b"}" + description + b"." + end.partition(b".")[2])
        return path

    return write


def long_pth(folder: Path) -> Path:
    """An archive whose description of weights has 16 MB."""
    path = pth(0)(folder)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            long = LONG if name.endswith("data.pkl") else b""
            archive.writestr(name, content[:-1] + long + content[-1:])
    return path


LONG = b"q\0" * (8 << 20)
"""Numbers of an object's name in a pickle, which change nothing."""

KERNEL = (3, 3, 3, 64)
OPEN = (None, None, None, None)
FILES = {
    "meta": pth(torch.empty(SHAPE, device="meta")),
    "sparse": pth(torch.zeros(SHAPE).to_sparse()),
    "sparse of many sizes": pth(torch.sparse_coo_tensor(size=(GIGA, GIGA))),
    "compressed sparse": pth(torch.eye(64).to_sparse_csr()),
    "nested": pth(nested()),
    "nested bias": pth(torch.zeros(SHAPE), nested()),
    "complex": pth(torch.zeros(SHAPE, dtype=torch.complex64)),
    "whole numbers": pth(torch.zeros(SHAPE, dtype=torch.int64)),
    "quantised": pth(torch.quantize_per_tensor(torch.zeros(SHAPE), 0.1, 0, torch.qint8)),
    "booleans": pth(torch.zeros(SHAPE, dtype=torch.bool)),
    "view": pth(torch.zeros(1).expand(GIGA, 64)),
    "view of half precision": pth(torch.zeros(1).half().expand(GIGA, 64, 3, 3)),
    "view as bias": pth(torch.zeros(SHAPE), torch.zeros(1).half().expand(64 * GIGA)),
    "scalar": pth(torch.zeros(())),
    "number": pth(3.0),
    "list": pth([[1.0]]),
    "a state that is a list": pth(0, state_dict=[1]),
    "a state that is a tensor": pth(0, state_dict=torch.zeros(3)),
    "infinite as float32": pth(torch.full(SHAPE, 1e300, dtype=torch.float64)),
    "inflated": inflated,
    "overlapping": overlapping,
    "bytes of any number": plain_pickle(bytes_of(GIGA)),
    "archived bytes of any number": archived_pickle(bytes_of(GIGA)),
    "archived bytes in capitals": archived_pickle(bytes_of(GIGA), "DATA.PKL"),
    "many objects": plain_pickle(b"}" * 3_000_000),
    "many archived objects": archived_pickle(b"}" * 3_000_000),
    "h5 of many levels": h5(nested_groups),
    "h5 of 8 GB": large_h5((GIGA, 2)),
    "h5 of 8 GB beside": h5(lambda group: group.create_dataset("other", (GIGA, 2), "f4")),
    "h5 with large chunks": large_h5(KERNEL, chunks=(999, 99, 99, 99), maxshape=OPEN),
    "h5 without values": h5(lambda group: group.create_dataset("kernel:0", dtype="f4")),
    "h5 with an external link": h5(link),
    "h5 with data in another file": large_h5(KERNEL, external=[("/etc/passwd", 0, 6912)]),
    "h5 with data of another file": h5(virtual),
    "h5 of a soft link to itself": h5(lambda g: g.__setitem__("kernel:0", h5py.SoftLink("."))),
    "h5 of an inflated chunk": filtered(2, 1),
    "h5 of a chunk that is inflated twice": filtered(1, 1),
    "long description": long_pth,
    "long description of the older kind": old_pth(3 * LONG),
    "safetensors of many arrays": long_safetensors,
    "safetensors with a large shape": bare_safetensors([GIGA, 64, 3, 3], [0, 100]),
    "safetensors beyond the end": bare_safetensors([64, 3, 3, 3], [0, 6912]),
    "safetensors with lying offsets": bare_safetensors([5, 5], [90, 20]),
    "safetensors of whole numbers": bare_safetensors([25], [0, 100], "I32"),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_of_another_content_are_refused(kind: str, tmp_path: Path) -> None:
    path = FILES[kind](tmp_path)
    started = time.process_time()
    with measured_peak() as peak, pytest.raises(WeightsError) as caught:
        read_convolutions(path, "conv1_1")
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    assert peak.bytes < MEMORY
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    "options", [{"compression": "gzip", "shuffle": True}, {"fletcher32": True}]
)
def test_a_compressed_dataset_is_read(options: dict[str, Any], tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=KERNEL).astype(np.float32)
    make = h5(lambda group: group.create_dataset("kernel:0", data=values, **options))
    weight = read_convolutions(make(tmp_path), "conv1_1")["conv1_1"].weight
    assert np.array_equal(weight.permute(2, 3, 1, 0), values)


def test_a_torch_file_that_is_no_archive_is_read(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    weight = torch.randn(SHAPE)
    stored = {"features.0.weight": weight, "features.0.bias": BIAS}
    torch.save(stored, path, _use_new_zipfile_serialization=False)
    assert torch.equal(read_convolutions(path, "conv1_1")["conv1_1"].weight, weight)


def test_large_arrays_beside_the_weights_take_no_more_than_their_bytes(tmp_path: Path) -> None:
    weight = torch.rand(SHAPE)
    values = {"features.0.weight": weight, "features.0.bias": BIAS, "other": torch.zeros(1 << 25)}
    torch.save(values, tmp_path / "w.pth")
    safetensors.torch.save_file(values, tmp_path / "w.safetensors")
    with h5py.File(tmp_path / "w.h5", "w") as file:
        group = file.create_group("block1_conv1")
        group["kernel:0"] = weight.permute(2, 3, 1, 0).numpy().astype(">f8")
        group["bias:0"] = BIAS.numpy()
        group.create_dataset("other", (GIGA, 64), "f4")
    for name in ("w.pth", "w.safetensors", "w.h5"):
        with measured_peak() as peak:
            found = read_convolutions(tmp_path / name, "conv1_1")["conv1_1"]
        assert np.array_equal(found.weight.numpy(), weight.numpy()), name
        # torch reads whole files.
        assert peak.bytes < MEMORY + (name == "w.pth") * (tmp_path / name).stat().st_size, name


@pytest.mark.parametrize("filters", [(), (1,), (2, 1), (2, 1, 3), (3, 2, 1), (3, 1)])
def test_datasets_with_usual_filters_are_read(filters: tuple[int, ...], tmp_path: Path) -> None:
    for weight in (torch.zeros(SHAPE), torch.rand(SHAPE)):
        with h5py.File(tmp_path / "w.h5", "w") as file:
            group = file.create_group("block1_conv1")
            plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plan.set_chunk((3, 3, 3, 20))
            for each in filters:
                plan.set_filter(each, 0, (9,) if each == 1 else ())
            space = h5py.h5s.create_simple(KERNEL)
            h5py.h5d.create(group.id, b"kernel:0", h5py.h5t.IEEE_F32LE, space, plan)
            group["kernel:0"][...] = weight.permute(2, 3, 1, 0).numpy()
            group["bias:0"] = BIAS.numpy()
        found = read_convolutions(tmp_path / "w.h5", "conv1_1")["conv1_1"]
        assert np.array_equal(found.weight.numpy(), weight.numpy())


def test_files_of_torchs_older_kind_are_read(tmp_path: Path) -> None:
    values = {"features.0.weight": torch.rand(SHAPE), "features.0.bias": BIAS}
    values["other"] = torch.zeros(1 << 22)
    torch.save(values, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    found = read_convolutions(tmp_path / "w.pth", "conv1_1")["conv1_1"]
    assert torch.equal(found.weight, values["features.0.weight"])


UNDER_LIMIT = """
import resource, sys
from pathlib import Path
from nstrt.exporter.weight_files import read_convolutions
from support.peak_memory import status_bytes
limit = status_bytes("VmSize") + (30 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    read_convolutions(Path(sys.argv[1]), "conv1_1")
except Exception as error:
    print(error)
"""


@pytest.mark.parametrize("archive", [True, False])
def test_a_whole_file_is_not_blamed_for_little_memory(archive: bool, tmp_path: Path) -> None:
    values = {"features.0.bias": BIAS, "other": torch.zeros(1 << 24)}
    torch.save(values, tmp_path / "w.pth", _use_new_zipfile_serialization=archive)
    done = subprocess.run(
        [sys.executable, "-c", UNDER_LIMIT, tmp_path / "w.pth"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert "may be used (ulimit -v); set" in done.stdout, done.stderr


def test_a_refused_file_has_no_effect_on_the_next(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.mkdir()
    bad.mkdir()
    whole = pth(torch.zeros(SHAPE))(good)
    with torch.sparse.check_sparse_tensor_invariants(False):
        broken = torch.sparse_coo_tensor(torch.tensor([[9]]), torch.ones(1), (3,))
        hostile = pth(torch.zeros(SHAPE), more=broken, last=3)(bad)
    content = bytearray(hostile.read_bytes())
    place = content.index(b"last")
    for at in range(place, place + 12):
        hostile.write_bytes(content[:at] + b"\xff" + content[at + 1 :])
        with contextlib.suppress(WeightsError):
            read_convolutions(hostile, "conv1_1")
        read_convolutions(whole, "conv1_1")
