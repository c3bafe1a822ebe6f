"""Model files in the user's cache folder: found, checked, and rebuilt when they are not whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from nstrt.runtime.errors import ModelBuilderMissingError, ModelFileError
from nstrt.runtime.model.spec import FORMAT, ModelSpec
from nstrt.runtime.system.files import (
    cache_folder,
    remove_leftovers,
    sha256_of,
    write_whole,
    written_whole,
)

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
"""The command that makes a folder of models for a machine that cannot build them."""

Notify = Callable[[str], None]


class ModelBuilder(Protocol):
    """Makes a model file: ``builder(spec, target, store)`` writes a checked file to ``target``."""

    def __call__(self, spec: ModelSpec, target: Path, store: ModelStore) -> object: ...


@dataclass(frozen=True, kw_only=True)
class StoredModel:
    """One model file of the store."""

    path: Path
    """The ONNX file."""

    sha256: str
    """Its checksum, as recorded beside it."""

    nstrt: str
    """The version of nstrt that wrote it."""


class ModelStore:
    """A folder of model files, each with a record beside it that holds its checksum.

    A file without its record, with another checksum or of another :data:`FORMAT` does not count:
    :meth:`obtain` builds it again.
    """

    def __init__(self, folder: Path | None = None, *, notify: Notify | None = None) -> None:
        self.folder = folder or cache_folder() / "models"
        self._notify: Notify = notify or (lambda line: None)
        self._checked: dict[tuple[Path, int, int], StoredModel] = {}

    def path(self, spec: ModelSpec) -> Path:
        """Where the model of ``spec`` is, or would be."""
        return self.folder / spec.file_name

    def find(self, spec: ModelSpec) -> StoredModel | None:
        """The model of ``spec`` if it is there and whole."""
        return self._check(self.path(spec))[0]

    def list(self) -> list[StoredModel]:
        """All whole models in the folder."""
        found = (self._check(path)[0] for path in sorted(self.folder.glob("*.onnx")))
        return [model for model in found if model]

    def obtain(self, spec: ModelSpec) -> StoredModel:
        """The model of ``spec``, built first if it is missing, damaged or old.

        Raises :class:`ModelBuilderMissingError` where no exporter is installed, and
        :class:`ModelFileError` where the folder cannot be written.
        """
        path = self.path(spec)
        model, fault = self._check(path)
        if model:
            return model
        builder = _builder(path)
        self._notify(
            f"The model {path.name} {fault}; building it again."
            if fault
            else f"Preparing the model {path.name} (once; later runs find it ready)."
        )
        self.build(spec, builder)
        model, fault = self._check(path)
        if not model:
            raise ModelFileError(f"The model {path} {fault or 'is missing'} right after building.")
        return model

    def build(self, spec: ModelSpec, builder: ModelBuilder) -> object:
        """Build the model of ``spec`` whether it is there or not; gives the builder's answer."""
        answer: object = None

        def fill(target: Path) -> dict[str, object]:
            nonlocal answer
            answer = builder(spec, target, self)
            return _record(target)

        self._keep(self.path(spec), fill)
        return answer

    def take(self, folder: Path) -> dict[str, bool]:
        """Copy all models of another folder, with their records, into the store: by file name,
        whether each had to be copied or was there already.

        Nothing is copied unless all are whole. Raises :class:`ModelFileError` for a folder
        without models, or with one that is not whole or of another :data:`FORMAT`.
        """
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
        """Copy one whole model, unless the same is there."""
        path = self.folder / model.path.name
        present = self._check(path)[0]
        if present is not None and present.sha256 == model.sha256:
            return False

        def fill(target: Path) -> dict[str, object]:
            shutil.copyfile(model.path, target)
            if sha256_of(target) != model.sha256:
                raise ModelFileError(f"The model {model.path} changed while it was copied.")
            record: dict[str, object] = json.loads(_record_path(model.path).read_text())
            return record

        self._keep(path, fill)
        return True

    def _keep(self, path: Path, fill: Callable[[Path], dict[str, object]]) -> None:
        """Write a model and its record: ``fill`` writes the file it is given, and says what the
        record holds."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.folder)
            with written_whole(path) as target:
                try:
                    record = fill(target)
                except OSError as error:
                    # Unless it names the file to be written, the folder is not to blame.
                    if error.filename not in (str(target), None):
                        raise ModelFileError(
                            f"The model {path.name} cannot be made: {error.filename}: "
                            f"{error.strerror}."
                        ) from error
                    raise
                content = json.dumps(record, indent=1).encode()
                note = _record_path(path)
                if not (note.is_file() and note.read_bytes() == content):
                    # A model beside the record of an earlier file must not pass for whole.
                    note.unlink(missing_ok=True)
            write_whole(note, content)
        except OSError as error:
            raise ModelFileError(
                f"The model folder {self.folder} cannot be written ({error.strerror or error}); "
                "free some space there, or set NSTRT_CACHE to another folder."
            ) from error

    def _check(self, path: Path) -> tuple[StoredModel | None, str]:
        """The model at ``path``, or what is wrong with it ("" when it is just not there)."""
        if not path.is_file():
            return None, ""
        try:
            record = json.loads(_record_path(path).read_text())
            expected, version, written_by = record["sha256"], record["format"], record["nstrt"]
        except (OSError, ValueError, KeyError, TypeError):
            return None, "is incomplete"
        if version != FORMAT:
            return None, "is of an older version"
        # A file is hashed once for each time it was written, not at each use.
        stat = path.stat()
        state = (path, stat.st_mtime_ns, stat.st_size)
        if state not in self._checked:
            if sha256_of(path) != expected:
                return None, "is damaged"
            self._checked[state] = StoredModel(path=path, sha256=expected, nstrt=written_by)
        return self._checked[state], ""


def _builder(path: Path) -> ModelBuilder:
    for entry in entry_points(group=BUILDER_GROUP):
        try:
            builder: ModelBuilder = entry.load()
        except ImportError:
            continue
        return builder
    raise ModelBuilderMissingError(
        f"The model {path.name} is not there and this installation cannot build it; on a machine "
        f"with nstrt[full] run '{LITE_EXPORT}', with the same --pooling, --padding and --weights "
        "if you set them, carry the folder here and run 'nstrt import models', or install the "
        'exporter here with: pip install "nstrt[full]"'
    )


def _record_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _record(path: Path) -> dict[str, object]:
    from importlib.metadata import version

    return {"sha256": sha256_of(path), "format": FORMAT, "nstrt": version("nstrt")}
