"""SIMD for loops that Numba compiles: vectors of floats as LLVM IR.

A compiled loop is Python in Numba's subset. It calls intrinsics, functions that emit LLVM IR for
several floats at a time, one instruction for each operation on a :class:`Vector`. Intrinsics take
memory as addresses and strides in bytes, so that one compilation serves every array. They check no
bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from nstrt.runtime.kernels.code_cache import enable_cache

__all__ = [
    "FLOAT_BYTES",
    "INT64",
    "LANES",
    "REGISTER_LANES",
    "Vector",
    "broadcast",
    "constant",
    "copy_bytes",
    "counted_loop",
    "jit",
    "llvm_intrinsic",
    "load_broadcast",
    "load_vector",
    "multiply_panel",
    "offset",
    "offset_floats",
    "store_vector",
    "vector_type",
]

LANES = 8
"""Floats of a vector, by default."""

FLOAT_BYTES = 4
"""Size of a float, in bytes."""

FLOAT, INT64 = ir.FloatType(), ir.IntType(64)


def _register_lanes() -> int:
    """Float lanes of the widest SIMD registers of the processor that Numba compiles for.

    Numba's cache key contains that processor's features.
    """
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    return 2 * LANES if "+avx512vl" in features.split(",") else LANES


REGISTER_LANES = _register_lanes()
"""Float lanes of one SIMD register: 16 with AVX-512, which has 32 registers, else 8, with about 16
registers."""


def jit(loop: Callable[..., Any]) -> Any:
    """Compile a function with Numba, without the GIL.

    The compiled code is cached on disk until one of the kernels' sources changes.
    """
    compiled = numba.njit(nogil=True)(loop)
    enable_cache(compiled)
    return compiled


def vector_type(lanes: int) -> Any:
    """LLVM type of a vector of floats."""
    return ir.VectorType(FLOAT, lanes)


_FAST_MATH = ("contract",)
"""Permits LLVM to fuse a product and a sum into one instruction, with one rounding."""


class Vector:
    """A vector of floats as an LLVM value, with the arithmetic that kernels use."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder = builder
        self.value = value

    def __add__(self, other: Vector) -> Vector:
        return Vector(self.builder, self.builder.fadd(self.value, other.value, flags=_FAST_MATH))

    def __sub__(self, other: Vector) -> Vector:
        return Vector(self.builder, self.builder.fsub(self.value, other.value, flags=_FAST_MATH))

    def __mul__(self, other: Vector) -> Vector:
        return Vector(self.builder, self.builder.fmul(self.value, other.value, flags=_FAST_MATH))

    def __rmul__(self, factor: float) -> Vector:
        return self * constant(self.builder, factor, self.value.type.count)

    def compare(self, operator: str, other: Vector) -> Any:
        """Compare lane by lane by "<", "<=" or ">"; false where either is NaN."""
        return self.builder.fcmp_ordered(operator, self.value, other.value)

    def maximum(self, other: Vector) -> Vector:
        """Maximum lane by lane; keeps NaN of this vector."""
        lower = self.compare("<", other)
        return Vector(self.builder, self.builder.select(lower, other.value, self.value))

    def shuffle(self, other: Vector, lanes: Sequence[int]) -> Vector:
        """Select lanes of this vector and of ``other``, which are numbered after this one's."""
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes))
        return Vector(self.builder, self.builder.shuffle_vector(self.value, other.value, mask))

    def add_halves(self) -> Vector:
        """Sum of the lower and the upper half of the lanes."""
        half = self.value.type.count // 2
        return self.shuffle(self, range(half)) + self.shuffle(self, range(half, 2 * half))


def constant(builder: Any, value: float, lanes: int = LANES) -> Vector:
    """Vector with a compile-time constant in all lanes."""
    return Vector(builder, ir.Constant(vector_type(lanes), [value] * lanes))


def offset(builder: Any, base: Any, count: int, stride: Any = 1) -> Any:
    """Address ``count`` strides, in bytes, after ``base``."""
    stride = ir.Constant(INT64, stride) if isinstance(stride, int) else stride
    return builder.add(base, builder.mul(ir.Constant(INT64, count), stride))


def offset_floats(builder: Any, base: Any, count: Any, floats: int) -> Any:
    """Address ``count`` times so many floats after ``base``, for a count known at run time."""
    return builder.add(base, builder.mul(count, ir.Constant(INT64, floats * FLOAT_BYTES)))


@contextmanager
def counted_loop(builder: Any, count: Any) -> Iterator[Any]:
    """Emit a loop from 0 to ``count``, which is at least 1; yields the loop variable."""
    before = builder.block
    body, after = builder.append_basic_block("body"), builder.append_basic_block("after")
    builder.branch(body)
    builder.position_at_end(body)
    number = builder.phi(INT64)
    yield number
    following = offset(builder, number, 1)
    number.add_incoming(ir.Constant(INT64, 0), before)
    number.add_incoming(following, body)
    builder.cbranch(builder.icmp_signed("<", following, count), body, after)
    builder.position_at_end(after)


def load_vector(builder: Any, address: Any, lanes: int = LANES) -> Vector:
    """Load a vector from an address that is aligned to floats."""
    pointer = builder.inttoptr(address, vector_type(lanes).as_pointer())
    return Vector(builder, builder.load(pointer, align=FLOAT_BYTES))


def store_vector(vector: Vector, address: Any) -> None:
    """Store a vector at an address that is aligned to floats."""
    builder = vector.builder
    pointer = builder.inttoptr(address, vector.value.type.as_pointer())
    builder.store(vector.value, pointer, align=FLOAT_BYTES)


def load_broadcast(builder: Any, address: Any, lanes: int = LANES) -> Vector:
    """Load one float into all lanes of a vector."""
    value = builder.load(builder.inttoptr(address, FLOAT.as_pointer()), align=FLOAT_BYTES)
    return Vector(builder, broadcast(builder, value, lanes))


def broadcast(builder: Any, value: Any, lanes: int = LANES) -> Any:
    """LLVM vector with one scalar, of any type, in all lanes."""
    vector = ir.VectorType(value.type, lanes)
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(first, undefined, zeros)


def multiply_panel(
    builder: Any,
    panel: Any,
    columns: Any,
    column_stride: int,
    depth: Any,
    start: Sequence[Sequence[Vector]],
) -> list[list[Vector]]:
    """Micro-kernel of a matrix product, with all sums in registers: ``start`` + panel · columns.

    ``panel`` holds the left matrix, the rows' floats beside each other for each step of
    ``depth``. ``columns`` holds the right one, with ``column_stride`` floats from step to step.
    ``start`` and the result have a few vectors for each row.
    """
    before, lanes = builder.block, start[0][0].value.type.count
    with counted_loop(builder, depth) as number:
        sums = [[builder.phi(vector.value.type) for vector in row] for row in start]
        row_address = offset_floats(builder, panel, number, len(start))
        column_address = offset_floats(builder, columns, number, column_stride)
        right = [
            load_vector(builder, offset(builder, column_address, i, lanes * FLOAT_BYTES), lanes)
            for i in range(len(start[0]))
        ]
        result = []
        for i, row in enumerate(sums):
            left = load_broadcast(builder, offset(builder, row_address, i, FLOAT_BYTES), lanes)
            result.append(
                [
                    Vector(builder, total) + left * part
                    for total, part in zip(row, right, strict=True)
                ]
            )
        for total, first, value in zip(chain(*sums), chain(*start), chain(*result), strict=True):
            total.add_incoming(first.value, before)
            total.add_incoming(value.value, builder.block)
    return result


_TYPING_FUNCTIONS: dict[int, Any] = {
    2: lambda *result: lambda _, a, b: result,
    3: lambda *result: lambda _, a, b, c: result,
    4: lambda *result: lambda _, a, b, c, d: result,
    5: lambda *result: lambda _, a, b, c, d, e: result,
    6: lambda *result: lambda _, a, b, c, d, e, f: result,
}
"""Numba reads the number of arguments from the typing function's signature."""


def llvm_intrinsic(arguments: int) -> Callable[[Callable[..., None]], Any]:
    """Decorate a function of an LLVM builder and integers, so that compiled loops can call it."""

    def decorate(emit: Callable[..., None]) -> Any:
        signature = types.void(*[types.intp] * arguments)

        def generate(context: Any, builder: Any, _: Any, values: Sequence[Any]) -> Any:
            emit(builder, *values)
            return context.get_dummy_value()

        return intrinsic(_TYPING_FUNCTIONS[arguments](signature, generate))

    return decorate


@llvm_intrinsic(3)
def copy_bytes(builder: Any, source: Any, target: Any, count: Any) -> None:
    """Copy ``count`` bytes."""
    byte = ir.IntType(8).as_pointer()
    source, target = (builder.inttoptr(address, byte) for address in (source, target))
    copy: Any = cgutils.raw_memcpy
    copy(builder, target, source, count, ir.Constant(INT64, 1))
