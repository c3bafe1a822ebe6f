"""Archive of a checkpoint: an uncompressed zip of a JSON header and arrays in single precision.

A file may be damaged or made by hand, so reading takes no more memory than the file has bytes.
"""

from __future__ import annotations

import io
import math
import os
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray

__all__ = ["HEADER", "CheckpointArchive", "array_name"]

HEADER = "checkpoint.json"
"""First member of the archive; the arrays follow by number."""

_LARGEST_READ = 1 << 20
"""Bytes of the largest honest header, and of one read."""

_UNREADABLE = 0x2061
"""Flags of members that are encrypted, patched or hidden."""


def array_name(number: int) -> str:
    """Name of an array's member."""
    return f"{number}.npy"


class CheckpointArchive:
    """A checkpoint file that is open for reading.

    Raises :class:`OSError` if there is no plain file to open. Damage raises many types of errors.
    """

    def __init__(self, path: Path) -> None:
        file = _BoundedFile(path)
        try:
            self._zip = zipfile.ZipFile(file)
            self._members = self._zip.infolist()
            self._check_members(file.size)
        except BaseException:
            file.close()
            raise
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._zip.close()
        self._file.close()

    @property
    def arrays(self) -> int:
        """Number of arrays."""
        return len(self._members) - 1

    def header(self) -> bytes:
        """The header's JSON."""
        if self._members[0].file_size > _LARGEST_READ:
            raise ValueError("a header of that size")
        return self._zip.read(HEADER)

    def array(
        self, number: int, shape: Sequence[int], least: float, most: float
    ) -> NDArray[np.float32]:
        """An array, which must have ``shape`` and finite numbers from ``least`` to ``most``."""
        start, count = _npy_start(shape), math.prod(shape)
        if self._members[number + 1].file_size != len(start) + 4 * count:
            raise ValueError("an array of another size")
        values = np.empty(count, np.float32)
        rest = values.data.cast("B")
        with self._zip.open(array_name(number)) as member:
            if member.read(len(start)) != start:
                raise ValueError("an array of another type or shape")
            while rest:
                part = member.read(min(len(rest), _LARGEST_READ))
                rest[: len(part)] = part
                rest = rest[len(part) :]
                if not part:
                    raise EOFError
            # The archive compares checksums at the member's end.
            member.read(1)
        lowest, highest = values.min(), values.max()
        if not (least <= lowest and highest <= most and np.isfinite([lowest, highest]).all()):
            raise ValueError("numbers that cannot be")
        return values.reshape(shape)

    def _check_members(self, size: int) -> None:
        names = [HEADER, *map(array_name, range(len(self._members) - 1))]
        if [member.filename for member in self._members] != names:
            raise ValueError("other members")
        for member in self._members:
            if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & _UNREADABLE:
                raise ValueError("a compressed or encrypted member")
            if member.file_size != member.compress_size or member.file_size > size:
                raise ValueError("a member larger than the file")


class _BoundedFile(io.FileIO):
    """A plain file that is read in small parts: the zip's directory states sizes that may lie."""

    def __init__(self, path: Path) -> None:
        # A FIFO without a writer would block the open.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
        super().__init__(descriptor)
        status = os.fstat(descriptor)
        self.size = status.st_size
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise OSError("it is no plain file")

    def read(self, size: int | None = -1, /) -> Any:
        most = _LARGEST_READ + 1
        part = super().read(most if size is None or size < 0 else min(size, most))
        if part is not None and len(part) == most:
            raise ValueError("a part of that size")
        return part


_BINARY = getattr(os, "O_BINARY", 0)


def _npy_start(shape: Sequence[int]) -> bytes:
    """First bytes of the .npy file of an array of ``shape``."""
    file = io.BytesIO()
    facts = {"descr": "<f4", "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(file, facts)
    return file.getvalue()
