"""Checkpoint file: the state of a run, from which it resumes to the same bits.

The file is a ``.zip`` without compression, with checksums. ``checkpoint.json`` holds everything but
the arrays; each array is a ``.npy`` file. There are no pickles. All that is read from it is checked
first (:mod:`~nstrt.runtime.run.checkpoint_schema`), and no more is read than a run would write.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nstrt.runtime.arrays import Array, Arrays, arrays_of
from nstrt.runtime.errors import CheckpointError
from nstrt.runtime.optim.state import State
from nstrt.runtime.options.options import OPTIONS
from nstrt.runtime.planning.plan import Plan, Scale
from nstrt.runtime.run.checkpoint_archive import HEADER, CheckpointArchive, array_name
from nstrt.runtime.system.files import atomic_write
from nstrt.runtime.system.json_file import parse_json
from nstrt.runtime.system.regular_file import open_regular
from nstrt.runtime.system.words import spelled

if TYPE_CHECKING:
    from nstrt.runtime.run.checkpoint_schema import ArrayRule

__all__ = [
    "Checkpoint",
    "NotFiniteError",
    "is_checkpoint",
    "read_checkpoint",
    "size_of",
    "write_checkpoint",
]

_FORMAT = 7
_LOCAL_HEADER = 30
"""Bytes before the name of an archive's first file."""

_ARRAY = "array"


class NotFiniteError(ValueError):
    """A state has numbers that are not finite."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Content of a checkpoint file; arrays stay in the file until :meth:`state`."""

    path: Path
    """Path of the file."""

    identity: Mapping[str, Any]
    """Identity of the run: ``pictures``, checksums by role, and ``options``."""

    plan: Plan
    """Plan of the run."""

    algorithms: Mapping[str, str]
    """See :attr:`Engine.algorithms`."""

    versions: Mapping[str, str]
    """Versions of the packages that decide the pixels."""

    seconds: float
    """Time that the run had taken."""

    step: int
    """Steps done over the whole run."""

    iteration: int
    """Steps done at the scale."""

    scale: int
    """Index of the scale, from 0."""

    tree: Mapping[str, Any]
    """The loop's state with indices in place of arrays."""

    rules: Sequence[ArrayRule]
    """Shapes and ranges of the arrays."""

    def state(self, arrays: Arrays) -> State:
        """The loop's state; ``arrays`` places one array after the other.

        Raises :class:`CheckpointError` if the file is damaged.
        """
        with _open(self.path) as archive:

            def array(number: int) -> Array:
                with _damage(self.path):
                    values = archive.array(number, *self.rules[number])
                return arrays.from_numpy(values)

            state: State = _with_arrays(self.tree, array)
            return state

    def check_scales(self, scales: Sequence[Scale]) -> None:
        """Raise :class:`CheckpointError` if a run of this identity has other ``scales``.

        Tiles depend on the memory that was free, and may differ.
        """
        if [replace(scale, tile=None) for scale in self.plan.scales] != list(scales):
            raise _damaged(self.path)

    def check_identity(self, identity: Mapping[str, Any]) -> None:
        """Raise :class:`CheckpointError` with the differences if another run is requested."""
        differences = [*_differences(self.identity, _plain(identity))]
        if differences:
            raise CheckpointError(
                f"The checkpoint '{self.path}' is of a run with {_join(differences)}; ask for the "
                f"same to go on from it, or start again without {spelled('resume', True)}."
            )

    def check_versions(self, versions: Mapping[str, str]) -> None:
        """Raise :class:`CheckpointError` with the difference if a version differs."""
        for name in sorted({*self.versions, *versions}):
            before, now = self.versions.get(name), versions.get(name)
            if before != now:
                raise CheckpointError(
                    f"The checkpoint '{self.path}' was made with {_version(name, before)} and here "
                    f"is {_version(name, now)}, which may paint other pixels; start again without "
                    f"{spelled('resume', True)}."
                )


def write_checkpoint(
    path: Path,
    state: State,
    *,
    identity: Mapping[str, Any],
    plan: Plan,
    algorithms: Mapping[str, str],
    versions: Mapping[str, str],
    seconds: float,
) -> None:
    """Write a run's state, whole or not at all, one array after the other.

    Raises :class:`NotFiniteError` for a state that no run could resume from.
    """
    arrays: list[Array] = []
    header = {
        "nstrt-checkpoint": _FORMAT,
        "asked": identity,
        "plan": plan.as_dict(),
        "algorithms": algorithms,
        "versions": versions,
        "seconds": seconds,
        "state": _without_arrays(state, arrays),
    }
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr(HEADER, _finite_json(header))
        for number, array in enumerate(arrays):
            values = arrays_of(array).to_numpy(array)
            if not np.isfinite([values.min(), values.max()]).all():
                raise NotFiniteError
            with archive.open(array_name(number), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, values, allow_pickle=False)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, without its arrays.

    Raises :class:`CheckpointError` if it is damaged, or no checkpoint of this version.
    """
    with _open(path) as archive, _damage(path):
        content = archive.header()
        tree = parse_json(content)
        if tree["nstrt-checkpoint"] != _FORMAT:
            raise CheckpointError(
                f"The checkpoint '{path}' is of another version of nstrt; delete it and start "
                f"again without {spelled('resume', True)}."
            )
        # Importing pydantic takes a tenth of a second, which other runs save.
        from nstrt.runtime.run.checkpoint_schema import Header

        header = Header.model_validate_json(content)
        if archive.arrays != len(rules := header.arrays()):
            raise ValueError("arrays without a use")
        state = header.state
        return Checkpoint(
            path=path,
            identity=tree["asked"],
            plan=header.plan,
            algorithms=header.algorithms,
            versions=header.versions,
            seconds=header.seconds,
            step=state.step,
            iteration=state.iteration,
            scale=state.scale,
            tree=tree["state"],
            rules=rules,
        )


def is_checkpoint(path: Path) -> bool:
    """True for a file that begins as a checkpoint does, whole or not, and for an empty one."""
    try:
        with open_regular(path) as file:
            start = file.read(_LOCAL_HEADER + len(HEADER))
    except OSError:
        return False
    return not start or (start[:4], start[_LOCAL_HEADER:]) == (b"PK\3\4", HEADER.encode())


def size_of(state: State) -> int:
    """Bytes of a state's arrays."""
    arrays: list[Array] = []
    _without_arrays(state, arrays)
    return sum(int(array.nbytes) for array in arrays)


@contextmanager
def _open(path: Path) -> Iterator[CheckpointArchive]:
    """Open a checkpoint file for reading."""
    try:
        file = open_regular(path)
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint '{path}' cannot be read ({error.strerror or error}); mend that, or "
            f"start again without {spelled('resume', True)}."
        ) from error
    with file:
        with _damage(path):
            archive = CheckpointArchive(file)
        yield archive


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn the errors of reading damaged content into one."""
    try:
        yield
    except _DAMAGE as error:
        raise _damaged(path) from error


_DAMAGE = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, ArithmeticError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(
        f"The checkpoint '{path}' is damaged; delete it and start again without "
        f"{spelled('resume', True)}."
    )


def _finite_json(header: Mapping[str, Any]) -> str:
    try:
        return json.dumps(header, allow_nan=False)
    except ValueError as error:
        raise NotFiniteError from error


def _without_arrays(tree: Any, arrays: list[Array]) -> Any:
    """Copy ``tree`` with indices in place of its arrays, which are appended to ``arrays``."""
    if isinstance(tree, Mapping):
        return {name: _without_arrays(value, arrays) for name, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_without_arrays(value, arrays) for value in tree]
    # NumPy scalars count as arrays: their precision is part of the state.
    if isinstance(tree, np.generic) or not isinstance(tree, (bool, int, float, str, type(None))):
        arrays.append(tree)
        return {_ARRAY: len(arrays) - 1}
    return tree


def _with_arrays(tree: Any, array: Callable[[int], Array]) -> Any:
    """Copy ``tree`` with arrays in place of their indices."""
    if isinstance(tree, list):
        return [_with_arrays(value, array) for value in tree]
    if not isinstance(tree, dict):
        return tree
    if tree.keys() == {_ARRAY}:
        return array(tree[_ARRAY])
    return {name: _with_arrays(value, array) for name, value in tree.items()}


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Phrases for what the run had before and not now."""
    for name in sorted({*before["pictures"], *now["pictures"]}):
        if before["pictures"].get(name) != now["pictures"].get(name):
            yield f"another {name}"
    for name in sorted({*before["options"], *now["options"]}):
        # An option that the file's version did not have was at its default, which changes nothing.
        value = before["options"].get(name, _plain(OPTIONS[name].default))
        if value != now["options"].get(name):
            yield _phrase(name, value)


def _plain(value: Any) -> Any:
    """A value as JSON stores it: lists for tuples."""
    return json.loads(json.dumps(value))


def _phrase(name: str, value: Any) -> str:
    if value is None or value is False:
        return f"no {spelled(name)}"
    if isinstance(value, list):
        pairs = all(isinstance(item, list) for item in value)
        parts = [f"{item[0]}:{item[1]:g}" if pairs else str(item) for item in value]
        value = ",".join(parts) or "left out"
    return spelled(name, value)


def _join(words: list[str]) -> str:
    *others, last = words if len(words) <= 4 else [*words[:3], f"{len(words) - 3} more differences"]
    return f"{', '.join(others)} and {last}" if others else last


def _version(name: str, version: str | None) -> str:
    return f"no {name}" if version is None else f"{name} {version}"
