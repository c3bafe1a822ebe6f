"""A run's state as one file, from which the run can be gone on with to the bit.

An ordinary ``.zip`` without compression, checksums included: ``checkpoint.json`` with everything
that is no array, and each array as a ``.npy`` file. No pickles.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nstrt.runtime.arrays import Array, Arrays, arrays_of
from nstrt.runtime.errors import CheckpointError
from nstrt.runtime.optim.state import State
from nstrt.runtime.planning.plan import Plan
from nstrt.runtime.system.files import written_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Checkpoint", "read_checkpoint", "size_of", "write_checkpoint"]


_FORMAT = 4
_HEADER = "checkpoint.json"
_ARRAY = "array"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a checkpoint file holds, its arrays apart, which stay in the file until asked for."""

    path: Path
    """The file."""

    asked: Mapping[str, Any]
    """What was asked for: ``pictures``, checksums by what they are to the run, and ``options``."""

    plan: Plan
    """How it was carried out."""

    algorithms: Mapping[str, str]
    """See :attr:`Engine.algorithms`."""

    versions: Mapping[str, str]
    """Of what decides about pixels."""

    step: int
    """Steps done over the whole run."""

    iteration: int
    """Steps done at its scale."""

    scale: int
    """Index of its scale, from 0."""

    def state(self, arrays: Arrays) -> State:
        """The loop's state, its arrays placed by ``arrays`` one after the other.

        Raises :class:`CheckpointError` if the file is damaged.
        """
        with _readable(self.path) as archive:
            tree = json.loads(archive.read(_HEADER))["state"]
            found: State = _placed(tree, lambda name: arrays.place(_array(archive, name)))
            return found

    def check_asked(self, asked: Mapping[str, Any]) -> None:
        """Raise :class:`CheckpointError`, naming what differs, if something else is asked for."""
        differing = [*_differing(self.asked, json.loads(json.dumps(asked)))]
        if differing:
            raise CheckpointError(
                f"The checkpoint '{self.path}' is of a run with {_listed(differing)}; ask for the "
                "same to go on from it, or start again without --resume."
            )

    def check_versions(self, versions: Mapping[str, str]) -> None:
        """Raise :class:`CheckpointError`, naming what differs, if the software is another."""
        for name in sorted({*self.versions, *versions}):
            before, now = self.versions.get(name), versions.get(name)
            if before != now:
                raise CheckpointError(
                    f"The checkpoint '{self.path}' was made with {_version(name, before)} and here "
                    f"is {_version(name, now)}, which may paint other pixels; start again without "
                    "--resume."
                )


def write_checkpoint(
    path: Path,
    state: State,
    *,
    asked: Mapping[str, Any],
    plan: Plan,
    algorithms: Mapping[str, str],
    versions: Mapping[str, str],
) -> None:
    """Write a run's state, whole or not at all; arrays are fetched one after the other."""
    arrays: list[Array] = []
    header = {
        "nstrt-checkpoint": _FORMAT,
        "asked": asked,
        "plan": plan.as_dict(),
        "algorithms": algorithms,
        "versions": versions,
        "state": _without(state, arrays),
    }
    with written_whole(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr(_HEADER, json.dumps(header))
        for number, array in enumerate(arrays):
            values = arrays_of(array).fetch(array)
            with archive.open(f"{number}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, values, allow_pickle=False)


def read_checkpoint(path: Path) -> Checkpoint:
    """What a file holds.

    Raises :class:`CheckpointError` if it is damaged, or no checkpoint of this version.
    """
    with _readable(path) as archive:
        header = json.loads(archive.read(_HEADER))
        if header["nstrt-checkpoint"] != _FORMAT:
            raise ValueError("another format")
        place = {name: int(header["state"][name]) for name in ("step", "iteration", "scale")}
        return Checkpoint(
            path=path,
            asked=header["asked"],
            plan=Plan.from_dict(header["plan"]),
            algorithms=header["algorithms"],
            versions=header["versions"],
            **place,
        )


def size_of(state: State) -> int:
    """Bytes of a state's arrays."""
    arrays: list[Array] = []
    _without(state, arrays)
    return sum(int(array.nbytes) for array in arrays)


@contextmanager
def _readable(path: Path) -> Iterator[zipfile.ZipFile]:
    """A checkpoint file, opened; whatever goes wrong in reading it says the same."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _UNREADABLE as error:
        raise CheckpointError(
            f"The checkpoint '{path}' is damaged, or of another version of nstrt; delete it and "
            "start again without --resume."
        ) from error


_UNREADABLE = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
)


def _without(tree: Any, arrays: list[Array]) -> Any:
    """The same with numbers in place of its arrays, which are added to ``arrays``."""
    if isinstance(tree, Mapping):
        return {name: _without(value, arrays) for name, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_without(value, arrays) for value in tree]
    # NumPy's own numbers among them: their precision is part of the state.
    if isinstance(tree, np.generic) or not isinstance(tree, (bool, int, float, str, type(None))):
        arrays.append(tree)
        return {_ARRAY: len(arrays) - 1}
    return tree


def _placed(tree: Any, array: Callable[[int], Array]) -> Any:
    """The other way round."""
    if isinstance(tree, list):
        return [_placed(value, array) for value in tree]
    if not isinstance(tree, dict):
        return tree
    if tree.keys() == {_ARRAY}:
        return array(tree[_ARRAY])
    return {name: _placed(value, array) for name, value in tree.items()}


def _array(archive: zipfile.ZipFile, number: int) -> NDArray[Any]:
    with archive.open(f"{number}.npy") as file:
        # Read to its end, the archive checks the sum.
        values: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        if file.read(1):
            raise ValueError("more than an array")
    return values


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What was asked for before and not now, in words."""
    for name in sorted({*before["pictures"], *now["pictures"]}):
        if before["pictures"].get(name) != now["pictures"].get(name):
            yield f"another {name}"
    for name in sorted({*before["options"], *now["options"]}):
        value = before["options"].get(name)
        if value != now["options"].get(name):
            yield _flag(name, value)


def _flag(name: str, value: Any) -> str:
    flag = "--" + name.replace("_", "-")
    if value is None or value is False:
        return f"no {flag}"
    if value is True:
        return flag
    if isinstance(value, list):
        pairs = all(isinstance(item, list) for item in value)
        parts = [f"{item[0]}:{item[1]:g}" if pairs else str(item) for item in value]
        value = ",".join(parts) or "left out"
    return f"{flag} {value:g}" if isinstance(value, float) else f"{flag} {value}"


def _listed(words: list[str]) -> str:
    *others, last = words if len(words) <= 4 else [*words[:3], f"{len(words) - 3} more differences"]
    return f"{', '.join(others)} and {last}" if others else last


def _version(name: str, version: str | None) -> str:
    return f"no {name}" if version is None else f"{name} {version}"
