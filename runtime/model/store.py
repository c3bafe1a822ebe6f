"""Store of model files in the user's cache folder; damaged files are rebuilt."""

from __future__ import annotations

import json
import mmap
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

from nstrt.runtime.errors import ModelBuilderMissingError, ModelFileError
from nstrt.runtime.model.spec import FORMAT, ModelSpec
from nstrt.runtime.system.cancellation import check_interrupt
from nstrt.runtime.system.files import (
    atomic_write,
    cache_folder,
    remove_stale_temporaries,
    sha256_of,
    write_atomically,
)
from nstrt.runtime.system.json_file import read_json
from nstrt.runtime.system.memory import (
    BUILDING_BYTES,
    check_building,
    is_out_of_memory,
    too_large,
)
from nstrt.runtime.system.own_settings import restored_globals
from nstrt.runtime.system.trust import distrust_reason, make_folder

__all__ = [
    "BUILDER_GROUP",
    "LITE_EXPORT",
    "ModelBuilder",
    "ModelStore",
    "StoredModel",
]

BUILDER_GROUP = "nstrt.model_builders"
"""Entry-point group under which an exporter registers its :class:`ModelBuilder`."""

LITE_EXPORT = "nstrt export --for lite --folder models"
"""Command that exports models for a machine without the exporter."""

_LARGEST_RECORD = 1 << 16
"""Bytes of a model's record."""

_MODE = 0o644
"""Permissions of the store's files, which no other user may write, whatever the umask is."""

Notify = Callable[[str], None]


class ModelBuilder(Protocol):
    """Function that writes the checked model file of ``spec`` to ``target``."""

    def __call__(self, spec: ModelSpec, target: Path, store: ModelStore) -> object: ...


@dataclass(frozen=True, kw_only=True)
class StoredModel:
    """Model file of the store."""

    path: Path
    """ONNX file."""

    sha256: str
    """Checksum, as recorded beside the file."""

    nstrt: str
    """Version of nstrt that wrote the file."""


class ModelStore:
    """Folder of model files, each with a record of its checksum beside it.

    A file is invalid without a record, with another checksum or of another :data:`FORMAT`.
    """

    def __init__(self, folder: Path | None = None, *, notify: Notify | None = None) -> None:
        self.folder = folder or cache_folder() / "models"
        self._notify: Notify = notify or (lambda line: None)
        self._prepares = False
        self._checked: dict[tuple[Path, int, int], StoredModel] = {}

    def path(self, spec: ModelSpec) -> Path:
        """Return the path of the model of ``spec``; the file may not exist."""
        return self.folder / spec.file_name

    def check_replaceable(self, specs: Iterable[ModelSpec]) -> None:
        """Raise :class:`ModelFileError` if a model would replace another file than a model.

        Models of any version and damaged ones have a record beside them.
        """
        for path in map(self.path, specs):
            for each in (path, _record_path(path)):
                if os.path.lexists(each) and _read_record(path) is None:
                    raise ModelFileError(
                        f"'{each}' exists and is no model of nstrt; choose another folder, or "
                        "move it."
                    )

    def find(self, spec: ModelSpec) -> StoredModel | None:
        """Return the model of ``spec``, or ``None`` if its file is missing or invalid."""
        return self._check(self.path(spec))[0]

    def list(self) -> list[StoredModel]:
        """Return all valid models in the folder."""
        models = (self._check(path)[0] for path in sorted(self.folder.glob("*.onnx")))
        return [model for model in models if model]

    def obtain(self, spec: ModelSpec) -> StoredModel:
        """Return the model of ``spec``; build it if its file is missing or invalid.

        Raises :class:`ModelBuilderMissingError` where no exporter is installed, and
        :class:`ModelFileError` where the folder cannot be written.
        """
        path = self.path(spec)
        self._check_trust(path)
        model, fault = self._check(path)
        if model:
            return model
        check_interrupt()
        check_building()
        builder = _builder(path)
        if fault:
            self._notify(f"The model {path.name} {fault}; building it again.")
        elif not self._prepares:
            # A run may need several files.
            self._prepares = True
            self._notify("Preparing the network for this machine (about a minute, once).")
        self.build(spec, builder)
        model, fault = self._check(path)
        if not model:
            raise ModelFileError(f"The model {path} {fault or 'is missing'} right after building.")
        return model

    def build(self, spec: ModelSpec, builder: ModelBuilder) -> object:
        """Build the model of ``spec``, replace an existing file and return the builder's result."""
        result: object = None

        def write_model(target: Path) -> dict[str, object]:
            nonlocal result
            result = builder(spec, target, self)
            return _record(target)

        self._write(self.path(spec), write_model)
        return result

    def import_folder(self, folder: Path) -> dict[str, bool]:
        """Copy all models of another folder and their records into the store.

        Returns by file name if the model was copied (true) or already present (false). Raises
        :class:`ModelFileError` and copies nothing for a folder without models or with an invalid
        one.
        """
        self._check_trust(self.folder)
        other = ModelStore(folder)
        paths = sorted(folder.glob("*.onnx"))
        if not paths:
            raise ModelFileError(
                f"There are no models in '{folder}'; make them on a machine with nstrt[full]: "
                f"{LITE_EXPORT}"
            )
        models: list[StoredModel] = []
        for path in paths:
            model, fault = other._check(path)
            if model is None:
                raise ModelFileError(
                    f"The model {path} {fault}; nothing was copied, carry the whole folder here "
                    f"again or make it anew with: {LITE_EXPORT}"
                )
            models.append(model)
        return {model.path.name: self._copy(model) for model in models}

    def _copy(self, model: StoredModel) -> bool:
        """Copy a model unless the store has it; return if it was copied."""
        path = self.folder / model.path.name
        present = self._check(path)[0]
        if present is not None and present.sha256 == model.sha256:
            return False

        def write_model(target: Path) -> dict[str, object]:
            shutil.copyfile(model.path, target)
            if sha256_of(target) != model.sha256:
                raise ModelFileError(f"The model {model.path} changed while it was copied.")
            record = _read_record(model.path)
            if record is None:
                raise ModelFileError(f"The model {model.path} changed while it was copied.")
            return record

        self._write(path, write_model)
        return True

    def _write(self, path: Path, write_model: Callable[[Path], dict[str, object]]) -> None:
        """Write a model file and its record atomically.

        ``write_model`` writes the model to the path it gets and returns the record's content.
        """
        try:
            make_folder(self.folder)
            remove_stale_temporaries(self.folder)
            with atomic_write(path, mode=_MODE) as target:
                try:
                    record = write_model(target)
                except OSError as error:
                    # Only an error on the target itself concerns this folder.
                    if error.filename not in (str(target), None):
                        raise ModelFileError(
                            f"The model {path.name} cannot be made: {error.filename}: "
                            f"{error.strerror}."
                        ) from error
                    raise
                content = json.dumps(record, indent=1).encode()
                record_path = _record_path(path)
                if not (record_path.is_file() and record_path.read_bytes() == content):
                    # The new model must not pass for valid beside the record of an earlier one.
                    _remove(record_path)
                if path.is_dir():
                    _remove(path)
            write_atomically(record_path, content, mode=_MODE)
        except OSError as error:
            raise ModelFileError(
                f"The model folder {self.folder} cannot be written ({error.strerror or error}); "
                "free some space there, or set NSTRT_CACHE to another folder."
            ) from error

    def _check(self, path: Path) -> tuple[StoredModel | None, str]:
        """Return the model at ``path``, or ``None`` and its fault: "" for a missing file."""
        if not path.is_file():
            return None, "is no file" if os.path.lexists(path) else ""
        record = _read_record(path)
        if record is None:
            return None, "is incomplete"
        expected, version, written_by = record["sha256"], record["format"], record["nstrt"]
        if version != FORMAT:
            return None, "is of an older version"
        try:
            # A file is hashed once for each modification time, not at each use.
            stat = path.stat()
            state = (path, stat.st_mtime_ns, stat.st_size)
            if state not in self._checked:
                if sha256_of(path) != expected:
                    return None, "is damaged"
                if _has_external_weights(path):
                    return None, "keeps its weights in another file"
                self._checked[state] = StoredModel(path=path, sha256=expected, nstrt=written_by)
        except OSError as error:
            return None, f"cannot be read ({error.strerror or error})"
        return self._checked[state], ""

    def _check_trust(self, path: Path) -> None:
        """Raise :class:`ModelFileError` if other users can write into the cache folder."""
        for each in (path, _record_path(path)):
            if reason := distrust_reason(each):
                raise ModelFileError(reason)


def _builder(path: Path) -> ModelBuilder:
    for entry in entry_points(group=BUILDER_GROUP):
        try:
            with restored_globals():
                builder: ModelBuilder = entry.load()
        except (ImportError, OSError, MemoryError) as error:
            if is_out_of_memory(error):
                raise too_large("Building the network's model", BUILDING_BYTES) from error
            if not isinstance(error, ImportError):
                raise
            continue
        return builder
    raise ModelBuilderMissingError(
        f"The model {path.name} is not there and this installation cannot build it; on a machine "
        f"with nstrt[full] run '{LITE_EXPORT}', with the same pooling, padding and weights "
        "if you set them, carry the folder here and run 'nstrt import models', or install the "
        'exporter here with: pip install "nstrt[full]"'
    )


def _has_external_weights(path: Path) -> bool:
    """True if an ONNX file names another one for its weights (``TensorProto.external_data``)."""
    if not path.stat().st_size:
        return False
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(_EXTERNAL) >= 0


_EXTERNAL = b"\x0a\x08location"
"""Key of the entry that names the other file: field 1 of its message, eight characters."""


def _remove(path: Path) -> None:
    """Delete what stands in the way of a file of the store, if anything does."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _record_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _read_record(path: Path) -> dict[str, Any] | None:
    """The record of a model; None if it is missing or damaged."""
    try:
        record = read_json(_record_path(path), limit=_LARGEST_RECORD)
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or not {"sha256", "format", "nstrt"} <= record.keys():
        return None
    texts = record["sha256"], record["nstrt"]
    return record if all(isinstance(text, str) for text in texts) else None


def _record(path: Path) -> dict[str, object]:
    from importlib.metadata import version

    return {"sha256": sha256_of(path), "format": FORMAT, "nstrt": version("nstrt")}
