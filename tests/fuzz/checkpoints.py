"""Checkpoints with changed bytes, headers and arrays."""

from __future__ import annotations

import io
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from nstrt.runtime.arrays.plain import PlainArrays
from nstrt.runtime.errors import NstrtError
from nstrt.runtime.planning.plan import Plan, Scale
from nstrt.runtime.run.checkpoint_file import read_checkpoint, write_checkpoint

from fuzz.mutation import change_bytes, change_json, change_sizes

__all__ = ["Cases"]


class Cases:
    """Changed copies of a small checkpoint; reading takes the header and all arrays."""

    refusals = (NstrtError,)

    def __init__(self, folder: Path) -> None:
        self._path = folder / "a.checkpoint"
        _write_seed(self._path)
        self._seed = self._path.read_bytes()
        with zipfile.ZipFile(self._path) as archive:
            self._members = {name: archive.read(name) for name in archive.namelist()}

    def case(self, source: random.Random) -> tuple[str, bytes]:
        kind = source.choice(("bytes", "header", "header", "text", "arrays", "archive"))
        if kind == "bytes":
            return kind, change_bytes(source, self._seed, [self._seed])
        members = dict(self._members)
        header = next(name for name in members if name.endswith(".json"))
        compression = zipfile.ZIP_STORED
        if kind == "header":
            members[header] = _dumped(change_json(source, json.loads(members[header])))
        elif kind == "text":
            members[header] = change_bytes(source, members[header], [members[header]])
        elif kind == "arrays":
            name = source.choice([name for name in members if name != header])
            content = change_sizes(source, members[name], (48, 64))
            members[name] = change_bytes(source, content, list(members.values()))
        else:
            compression = source.choice(
                (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)
            )
            name = source.choice(list(members))
            if source.random() < 0.3:
                del members[name]
            elif source.random() < 0.5:
                members[name] = members[source.choice(list(members))]
            else:
                members[name] += bytes(source.choice((1, 1 << 20, 1 << 26)))
        return kind, _archive(members, compression)

    def read(self, content: bytes) -> int:
        self._path.write_bytes(content)
        checkpoint = read_checkpoint(self._path)
        checkpoint.state(PlainArrays())
        checkpoint.check_identity(_IDENTITY)
        checkpoint.check_versions({"nstrt": "1"})
        return 0


_IDENTITY: dict[str, Any] = {
    "pictures": {"content": "a" * 64, "style": "b" * 64},
    "options": {"size": 64, "iterations": [3], "content_layers": [["relu4_1", 1.0]], "gray": False},
}


def _write_seed(path: Path) -> None:
    scale = Scale(width=64, height=48, styles=((64, 48),), iterations=3)
    plan = Plan(
        engine="torch", provider="cpu", precision="fp32", device="a processor", threads=1,
        scales=(scale,), optimizer="lbfgs", history=2, model="vgg19.onnx", model_sha256="c" * 64,
        memory=1 << 20, kernels={"conv1_1 on": "direct"}, nodes={}, reasons=("one",),
    )  # fmt: skip
    image = np.linspace(0, 1, 3 * 48 * 64, dtype=np.float32).reshape(1, 3, 48, 64)
    pairs = [{"step": image * 0.01, "change": image * 0.02, "factor": np.float64(2)}]
    state = {
        "step": 2, "iteration": 2, "scale": 0, "image": image,
        "best": {"image": image, "loss": 3.5},
        "optimizer": {"pairs": pairs, "last": None, "moves": 2, "gradient": image},
    }  # fmt: skip
    write_checkpoint(
        path, state, identity=_IDENTITY, plan=plan, algorithms={"conv1_1": "direct"},
        versions={"nstrt": "1"},
    )  # fmt: skip


def _dumped(document: Any) -> bytes:
    """JSON of any depth, which Python's own encoder refuses beyond a thousand."""
    depth = 0
    try:
        return json.dumps(document).encode()
    except RecursionError:
        depth = 5000
    return b"[" * depth + b"]" * depth


def _archive(members: dict[str, bytes], compression: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()
