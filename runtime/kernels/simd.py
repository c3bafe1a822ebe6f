"""Vectors of eight numbers, or of as many as a register holds, for loops that Numba compiles.

A loop is Python that Numba understands; what it does with eight numbers at a time are functions
that write LLVM's instructions, one for each operation on a :class:`Vector`. Memory is given as
addresses and distances in bytes, so that one compilation serves every array; nothing here checks
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

__all__ = [
    "BYTES",
    "INT",
    "LANES",
    "WIDE",
    "Vector",
    "at",
    "at_number",
    "compiled",
    "constant",
    "copy_bytes",
    "everywhere",
    "loaded",
    "multiplied",
    "repeat",
    "repeated",
    "stored",
    "vectors_of",
    "written",
]

LANES = 8
"""Numbers of a vector, where nothing else is said."""

BYTES = 4
"""Of a number."""


def _widest() -> int:
    """Numbers of the widest registers of the processor that Numba compiles for, which is a part of
    the key under which it keeps what it compiled."""
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    return 2 * LANES if "+avx512vl" in features.split(",") else LANES


WIDE = _widest()
"""Numbers of a register. There are thirty-two where it is sixteen, otherwise sixteen or so."""

_STAMP = blake2b(Path(__file__).read_bytes(), digest_size=4).hexdigest()


def compiled(loop: Callable[..., Any]) -> Any:
    """A function as a compiled one, which lets go of Python's lock.

    What was compiled is kept until the file of the function changes, or this one.
    """
    # Numba looks at the first alone.
    loop.__qualname__ += f"_{_STAMP}"
    return numba.njit(cache=True, nogil=True)(loop)


FLOAT, INT = ir.FloatType(), ir.IntType(64)


def vectors_of(lanes: int) -> Any:
    """The type of vectors of so many numbers."""
    return ir.VectorType(FLOAT, lanes)


_FLAGS = ("contract",)
"""A product and a sum may be computed as one, rounded once."""


class Vector:
    """Eight numbers in a register, or some others, with the arithmetic that the formulas use."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder = builder
        self.value = value

    def __add__(self, other: Vector) -> Vector:
        return Vector(self.builder, self.builder.fadd(self.value, other.value, flags=_FLAGS))

    def __sub__(self, other: Vector) -> Vector:
        return Vector(self.builder, self.builder.fsub(self.value, other.value, flags=_FLAGS))

    def __mul__(self, other: Vector) -> Vector:
        return Vector(self.builder, self.builder.fmul(self.value, other.value, flags=_FLAGS))

    def __rmul__(self, factor: float) -> Vector:
        return self * constant(self.builder, factor, self.value.type.count)

    def compared(self, how: str, other: Vector) -> Any:
        """Where this is "<", "<=" or ">" than the other; what is not a number is not."""
        return self.builder.fcmp_ordered(how, self.value, other.value)

    def at_least(self, other: Vector) -> Vector:
        """The larger ones of two; what is not a number in this one stays so."""
        lower = self.compared("<", other)
        return Vector(self.builder, self.builder.select(lower, other.value, self.value))

    def mixed(self, other: Vector, numbers: Sequence[int]) -> Vector:
        """Of this one's numbers and the other's, which are counted on after them, as many as are
        named."""
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(numbers)), list(numbers))
        return Vector(self.builder, self.builder.shuffle_vector(self.value, other.value, mask))

    def halved(self) -> Vector:
        """The sums of the numbers of its first half and those of its second."""
        half = self.value.type.count // 2
        return self.mixed(self, range(half)) + self.mixed(self, range(half, 2 * half))


def constant(builder: Any, value: float, lanes: int = LANES) -> Vector:
    return Vector(builder, ir.Constant(vectors_of(lanes), [value] * lanes))


def at(builder: Any, start: Any, count: int, step: Any = 1) -> Any:
    """The address ``count`` steps, of so many bytes, after another."""
    step = ir.Constant(INT, step) if isinstance(step, int) else step
    return builder.add(start, builder.mul(ir.Constant(INT, count), step))


def at_number(builder: Any, start: Any, number: Any, size: int) -> Any:
    """The address ``number`` times so many numbers after another."""
    return builder.add(start, builder.mul(number, ir.Constant(INT, size * BYTES)))


@contextmanager
def repeated(builder: Any, count: Any) -> Iterator[Any]:
    """Code for each number up to ``count``, which is at least one."""
    before = builder.block
    body, after = builder.append_basic_block("body"), builder.append_basic_block("after")
    builder.branch(body)
    builder.position_at_end(body)
    number = builder.phi(INT)
    yield number
    following = at(builder, number, 1)
    number.add_incoming(ir.Constant(INT, 0), before)
    number.add_incoming(following, body)
    builder.cbranch(builder.icmp_signed("<", following, count), body, after)
    builder.position_at_end(after)


def loaded(builder: Any, address: Any, lanes: int = LANES) -> Vector:
    pointer = builder.inttoptr(address, vectors_of(lanes).as_pointer())
    return Vector(builder, builder.load(pointer, align=BYTES))


def stored(vector: Vector, address: Any) -> None:
    builder = vector.builder
    pointer = builder.inttoptr(address, vector.value.type.as_pointer())
    builder.store(vector.value, pointer, align=BYTES)


def everywhere(builder: Any, address: Any, lanes: int = LANES) -> Vector:
    """One number from memory, in all places of a vector."""
    number = builder.load(builder.inttoptr(address, FLOAT.as_pointer()), align=BYTES)
    return Vector(builder, repeat(builder, number, lanes))


def repeat(builder: Any, number: Any, lanes: int = LANES) -> Any:
    """One number of any kind, in all places of a vector."""
    kind = ir.VectorType(number.type, lanes)
    nothing = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(first, nothing, zeros)


def multiplied(
    builder: Any,
    panel: Any,
    columns: Any,
    apart: int,
    count: Any,
    start: Sequence[Sequence[Vector]],
) -> list[list[Vector]]:
    """Rows of a few vectors, which stay in registers: what ``count`` numbers of each row, those of
    all rows beside each other, make of as many columns of vectors, so many numbers ``apart``, is
    added to what they ``start`` from."""
    before, lanes = builder.block, start[0][0].value.type.count
    with repeated(builder, count) as number:
        sums = [[builder.phi(vector.value.type) for vector in line] for line in start]
        row = at_number(builder, panel, number, len(start))
        column = at_number(builder, columns, number, apart)
        right = [
            loaded(builder, at(builder, column, i, lanes * BYTES), lanes)
            for i in range(len(start[0]))
        ]
        found = []
        for i, line in enumerate(sums):
            left = everywhere(builder, at(builder, row, i, BYTES), lanes)
            found.append(
                [
                    Vector(builder, so_far) + left * part
                    for so_far, part in zip(line, right, strict=True)
                ]
            )
        for so_far, first, value in zip(chain(*sums), chain(*start), chain(*found), strict=True):
            so_far.add_incoming(first.value, before)
            so_far.add_incoming(value.value, builder.block)
    return found


_TYPED: dict[int, Any] = {
    2: lambda *found: lambda _, a, b: found,
    3: lambda *found: lambda _, a, b, c: found,
    4: lambda *found: lambda _, a, b, c, d: found,
    5: lambda *found: lambda _, a, b, c, d, e: found,
    6: lambda *found: lambda _, a, b, c, d, e, f: found,
}
"""Numba wants to see how many arguments there are."""


def written(arguments: int) -> Callable[[Callable[..., None]], Any]:
    """A function for compiled loops from one that writes its code for a builder and addresses."""

    def decorated(write: Callable[..., None]) -> Any:
        signature = types.void(*[types.intp] * arguments)

        def code(context: Any, builder: Any, _: Any, values: Sequence[Any]) -> Any:
            write(builder, *values)
            return context.get_dummy_value()

        return intrinsic(_TYPED[arguments](signature, code))

    return decorated


@written(3)
def copy_bytes(builder: Any, source: Any, target: Any, count: Any) -> None:
    """So many bytes, in compiled loops."""
    byte = ir.IntType(8).as_pointer()
    source, target = (builder.inttoptr(address, byte) for address in (source, target))
    copy: Any = cgutils.raw_memcpy
    copy(builder, target, source, count, ir.Constant(INT, 1))
