"""Files of the cache folder, changed: measurements, records of models and models."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

from nstrt.runtime.engines.benchmark import fastest_engine
from nstrt.runtime.errors import NstrtError
from nstrt.runtime.loss.objective import LossWeights
from nstrt.runtime.model import ModelSpec, ModelStore
from nstrt.runtime.model.spec import FORMAT
from nstrt.runtime.planning.estimate import known_pace, learn_pace
from nstrt.runtime.system.files import cache_folder, sha256_of
from nstrt.runtime.system.measurements import load_measurements, store_measurement

from fuzz.mutation import change_bytes, change_json

__all__ = ["Cases"]

_KEY = "a machine"
_SPEC = ModelSpec.for_losses(("relu1_1",))


class _MeasuredAgainError(NstrtError):
    """Stored times are not usable, and would be measured again."""


class Cases:
    """Changed files, read by their own readers; a second reading follows what the first stored."""

    refusals = (NstrtError,)

    def __init__(self, folder: Path) -> None:
        self._store = ModelStore()
        times = {"torch": 0.5, "onnx": 1.5}
        self._seeds = {
            "paces": {_KEY: 1e-5, "another": 2e-5},
            "steps": {_KEY: times, "another": times},
            "kernels": {_KEY: {"im2col": 0.5, "direct": 0.25}},
            "record": {"sha256": "a" * 64, "format": FORMAT, "nstrt": "1"},
        }
        self._store.folder.mkdir(parents=True, exist_ok=True)
        model = self._store.path(_SPEC)
        model.write_bytes(bytes(100))
        self._seeds["record"]["sha256"] = sha256_of(model)

    def case(self, source: random.Random) -> tuple[str, bytes]:
        kind = source.choice(list(self._seeds))
        document = self._seeds[kind]
        if source.random() < 0.5:
            document = change_json(source, document)
        try:
            content = json.dumps(document).encode()
        except RecursionError:
            content = b"[" * 100_000
        if source.random() < 0.6:
            content = change_bytes(source, content, [content])
        return kind, kind.encode() + b"\n" + content

    def read(self, content: bytes) -> int:
        kind, _, stored = content.partition(b"\n")
        name = kind.decode()
        if name == "record":
            model = self._store.path(_SPEC)
            _replace(model.with_name(model.name + ".json"), stored)
            self._store.find(_SPEC)
            self._store.list()
            return 0
        _replace(cache_folder() / f"{name}.json", stored)
        for _ in range(2):
            if name == "paces":
                known_pace(_KEY)
                learn_pace(_KEY, 1e-5)
            elif name == "steps":
                self._choose_engine()
            else:
                load_measurements(name)
            store_measurement(name, "new", 1.0)
        return 0

    def _choose_engine(self) -> None:
        def measure() -> object:
            raise _MeasuredAgainError("The stored times are not usable.")

        engines = dict.fromkeys(("torch", "onnx"), measure)
        layers = {"relu1_1": 1.0}
        weights = LossWeights(content=1, style=1, tv=0, content_layers=layers, style_layers=layers)
        name, seconds = fastest_engine(_KEY, engines, weights)  # type: ignore[arg-type]
        if name not in engines or not all(value > 0 for value in seconds.values()):
            raise AssertionError(f"{name} {seconds}")


def _replace(path: Path, content: bytes) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.write_bytes(content)
