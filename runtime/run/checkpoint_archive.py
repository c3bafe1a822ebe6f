"""Archive of a checkpoint: an uncompressed zip of a JSON header and arrays in single precision.

A file may be damaged or made by hand, so reading takes no more memory than the file has bytes.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np

if TYPE_CHECKING:
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

    Damage raises many types of errors.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._zip = zipfile.ZipFile(cast("BinaryIO", _BoundedFile(file)))
        self._members = self._zip.infolist()
        self._check_members(os.fstat(file.fileno()).st_size)

    @property
    def arrays(self) -> int:
        """Number of arrays."""
        return len(self._members) - 1

    def header(self) -> bytes:
        """The header's JSON."""
        return self._zip.read(HEADER)

    def array(
        self, number: int, shape: Sequence[int], least: float, most: float
    ) -> NDArray[np.float32]:
        """An array, which must have ``shape`` and numbers from ``least`` to ``most``."""
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
        # Neither comparison holds for NaN.
        if not (least <= values.min() and values.max() <= most):
            raise ValueError("numbers that cannot be")
        return values.reshape(shape)

    def _check_members(self, size: int) -> None:
        names = [HEADER, *map(array_name, range(len(self._members) - 1))]
        if [member.filename for member in self._members] != names:
            raise ValueError("other members")
        for member in self._members:
            if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & _UNREADABLE:
                raise ValueError("a compressed or encrypted member")
            if member.file_size > size:
                raise ValueError("a member larger than the file")


class _BoundedFile:
    """A file that is read in small parts: the zip's directory states sizes that may lie."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        part = self._file.read(_LARGEST_READ + 1 if size < 0 else min(size, _LARGEST_READ + 1))
        if len(part) > _LARGEST_READ:
            raise ValueError("a part of that size")
        return part


def _npy_start(shape: Sequence[int]) -> bytes:
    """First bytes of the .npy file of an array of ``shape``."""
    file = io.BytesIO()
    facts = {"descr": "<f4", "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(file, facts)
    return file.getvalue()
