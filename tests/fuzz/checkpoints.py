"""Checkpoints with changed bytes, headers and arrays."""

from __future__ import annotations

import io
import json
import random
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from nstrt.runtime.arrays.plain import PlainArrays
from nstrt.runtime.errors import CheckpointError, NstrtError
from nstrt.runtime.run.checkpoint_file import read_checkpoint

from fuzz.mutation import change_bytes, change_json, change_sizes
from support.checkpoints import members_of, write_small_checkpoint

__all__ = ["Cases"]


class Cases:
    """Changed copies of a small checkpoint; reading takes the header and all arrays."""

    refusals = (NstrtError,)

    def __init__(self, folder: Path) -> None:
        self._path = folder / "a.checkpoint"
        self._seeds: list[tuple[bytes, dict[str, bytes]]] = []
        for optimizer in ("lbfgs", "adam"):
            write_small_checkpoint(self._path, optimizer)
            self._seeds.append((self._path.read_bytes(), members_of(self._path)))

    def case(self, source: random.Random) -> tuple[str, bytes]:
        kind = source.choice(("bytes", "header", "header", "text", "arrays", "archive"))
        seed, members = source.choice(self._seeds)
        if kind == "bytes":
            return kind, change_bytes(source, seed, [seed])
        members = dict(members)
        header = next(name for name in members if name.endswith(".json"))
        compression = zipfile.ZIP_STORED
        if kind == "header":
            members[header] = _dumped(change_json(source, json.loads(members[header])))
        elif kind == "text":
            members[header] = change_bytes(source, members[header], [members[header]])
        elif kind == "arrays":
            name = source.choice([name for name in members if name != header])
            content = change_sizes(source, members[name], (16, 24))
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
        checkpoint.check_versions({"nstrt": "0.2.0"})
        # Other identities are refused in a sentence of their own.
        with suppress(CheckpointError):
            checkpoint.check_identity({"pictures": {"photo": "0a"}, "options": {"size": 32}})
        return 0


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
