"""Loops of :mod:`.winograd_6x6`, which Numba compiles for the processor that runs them.

They take memory as addresses and strides in bytes, so that one compilation serves every array. They
check no bounds.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from nstrt.runtime.kernels.convolution.winograd_6x6_layout import (
    ADDRESS_BYTES,
    BLOCK,
    PANEL_ROWS,
    PANELS_PER_GROUP,
    SIDE,
    STRIP_COLUMNS,
    STRIP_INPUT_COLUMNS,
    TILE,
    count_panel_groups,
    count_strips,
    panel_stride,
    point_stride,
)
from nstrt.runtime.kernels.convolution.winograd_6x6_transforms import (
    store_address,
    transform_input_columns,
    transform_input_rows,
    transform_output,
    transform_panel,
    write_output_row,
)
from nstrt.runtime.kernels.simd import (
    FLOAT_BYTES,
    LANES,
    REGISTER_LANES,
    constant,
    copy_bytes,
    jit,
    llvm_intrinsic,
    multiply_panel,
    offset,
    store_vector,
)

__all__ = ["convolve"]


@llvm_intrinsic(2)
def _clear_bytes(builder: Any, target: Any, count: Any) -> None:
    """Write ``count`` zero bytes."""
    clear: Any = cgutils.memset
    clear(builder, builder.inttoptr(target, ir.IntType(8).as_pointer()), count, 0)


def _micro_kernel(columns: int) -> Any:
    """Micro-kernel that multiplies a panel by so many tiles of a block."""
    lanes = min(REGISTER_LANES, columns)

    @llvm_intrinsic(4)
    def multiply(builder: Any, panel: Any, block: Any, inputs: Any, target: Any) -> None:
        """Write the products, summed over ``inputs`` channels, with the stride of a block."""
        zeros = [[constant(builder, 0.0, lanes)] * (columns // lanes)] * PANEL_ROWS
        for i, row in enumerate(multiply_panel(builder, panel, block, BLOCK, inputs, zeros)):
            address = offset(builder, target, i, BLOCK * FLOAT_BYTES)
            for part, value in enumerate(row):
                store_vector(value, offset(builder, address, part, lanes * FLOAT_BYTES))

    return multiply


_multiply_block, _multiply_half_block = _micro_kernel(BLOCK), _micro_kernel(LANES)

_point_stride = jit(point_stride)
_count_strips = jit(count_strips)
_count_panel_groups = jit(count_panel_groups)
_panel_stride = jit(panel_stride)


@jit
def _transform_inputs(  # type: ignore[no-untyped-def]
    source, top, left, width, first, strips, begin, end, inputs, stride, strip_buffer
):
    """Transform the input tiles of some strips, for channels ``begin`` to ``end``.

    Pixels outside of the source are zeros.
    """
    tiles_per_row = (width + TILE - 1) // TILE
    at_points, line_bytes = strip_buffer, STRIP_INPUT_COLUMNS * FLOAT_BYTES
    patch = at_points + SIDE * line_bytes
    offsets = patch + SIDE * line_bytes
    for channel in range(begin, end):
        plane = source.start + channel * source.channel
        down, tile = first * LANES // tiles_per_row * TILE, first * LANES % tiles_per_row
        for strip in range(strips):
            # Tiles beyond the last one read arbitrary memory of the buffer; no output uses them.
            filled = used = 0
            while filled < LANES:
                count = min(LANES - filled, tiles_per_row - tile)
                columns = TILE * count + 2
                y, x = top + down, left + TILE * tile
                rows, row = plane + y * source.row + x * FLOAT_BYTES, source.row
                if y < 0 or x < 0 or y + SIDE > source.rows or x + columns > source.columns:
                    _clear_bytes(patch, SIDE * line_bytes)
                    start, stop = max(x, 0), min(x + columns, source.columns)
                    for line in range(max(y, 0), min(y + SIDE, source.rows)):
                        if stop > start:
                            copy_bytes(
                                plane + line * source.row + start * FLOAT_BYTES,
                                patch + (line - y) * line_bytes + (start - x) * FLOAT_BYTES,
                                (stop - start) * FLOAT_BYTES,
                            )
                    rows, row = patch, line_bytes
                for column in range(0, columns - LANES, LANES):
                    target = at_points + (used + column) * FLOAT_BYTES
                    transform_input_columns(rows + column * FLOAT_BYTES, row, target, line_bytes)
                # The last vector overlaps the one before, so that nothing is read beyond the row.
                column = columns - LANES
                target = at_points + (used + column) * FLOAT_BYTES
                transform_input_columns(rows + column * FLOAT_BYTES, row, target, line_bytes)
                for number in range(count):
                    store_address(
                        offsets + (filled + number) * ADDRESS_BYTES,
                        (used + TILE * number) * FLOAT_BYTES,
                    )
                filled, used, tile = filled + count, used + columns, tile + count
                if tile == tiles_per_row:
                    down, tile = down + TILE, 0
            block = (strip // 2 * source.channels + channel) * BLOCK + strip % 2 * LANES
            for number in range(SIDE):
                transform_input_rows(
                    at_points + number * line_bytes,
                    offsets,
                    inputs + block * FLOAT_BYTES + number * SIDE * stride,
                    stride,
                )


@jit
def _multiply_tiles(  # type: ignore[no-untyped-def]
    weights,
    channels,
    outputs,
    strips,
    begin,
    end,
    inputs,
    input_stride,
    products,
    product_stride,
    strip_buffer,
):
    """Multiply the weights by the transformed tiles, for parts ``begin`` to ``end``."""
    panel_bytes = channels * PANEL_ROWS * FLOAT_BYTES
    transformed_bytes = _panel_stride(channels) * FLOAT_BYTES
    panels, groups = (outputs + PANEL_ROWS - 1) // PANEL_ROWS, _count_panel_groups(outputs)
    for part in range(begin, end):
        line, first = part // groups, part % groups * PANELS_PER_GROUP
        last = min(first + PANELS_PER_GROUP, panels)
        if weights.factors:
            for number in range(first, last):
                transform_panel(
                    weights.start + 9 * number * panel_bytes,
                    channels,
                    weights.factors + 3 * line * FLOAT_BYTES,
                    strip_buffer + (number - first) * SIDE * transformed_bytes,
                    transformed_bytes,
                )
        for column in range(SIDE):
            point = SIDE * line + column
            tiles, results = inputs + point * input_stride, products + point * product_stride
            for number in range(first, last):
                if weights.factors:
                    panel = strip_buffer + ((number - first) * SIDE + column) * transformed_bytes
                else:
                    panel = weights.start + point * weights.point + number * panel_bytes
                row = max(0, min(number * PANEL_ROWS, outputs - PANEL_ROWS))
                for block in range((strips + 1) // 2):
                    source = tiles + block * channels * BLOCK * FLOAT_BYTES
                    target = results + (block * outputs + row) * BLOCK * FLOAT_BYTES
                    if 2 * block + 1 < strips:
                        _multiply_block(panel, source, channels, target)
                    else:
                        _multiply_half_block(panel, source, channels, target)


@jit
def _transform_outputs(  # type: ignore[no-untyped-def]
    products, stride, target, bias, least, first, strips, begin, end, strip_buffer
):
    """Transform the products of some strips to pixels, for output channels ``begin`` to ``end``.

    Adds the bias and raises pixels to at least ``least``.
    """
    tiles_per_row = (target.columns + TILE - 1) // TILE
    line_bytes = STRIP_COLUMNS * FLOAT_BYTES
    pixels = strip_buffer + SIDE * line_bytes
    partial = pixels + TILE * line_bytes
    for channel in range(begin, end):
        plane, bias_address = target.start + channel * target.channel, bias + channel * FLOAT_BYTES
        down, tile = first * LANES // tiles_per_row * TILE, first * LANES % tiles_per_row
        for strip in range(strips):
            block = (strip // 2 * target.channels + channel) * BLOCK + strip % 2 * LANES
            for number in range(SIDE):
                transform_output(
                    products + block * FLOAT_BYTES + number * SIDE * stride,
                    stride,
                    strip_buffer + number * line_bytes,
                    LANES * FLOAT_BYTES,
                )
            for pixel in range(TILE):
                column = pixel * LANES * FLOAT_BYTES
                transform_output(strip_buffer + column, line_bytes, pixels + column, line_bytes)
            right = TILE * tile
            if right + STRIP_COLUMNS <= target.columns:
                corner = plane + down * target.row + right * FLOAT_BYTES
                for line in range(min(TILE, target.rows - down)):
                    write_output_row(
                        pixels + line * line_bytes, bias_address, least, corner + line * target.row
                    )
                tile += LANES
                if tile == tiles_per_row:
                    down, tile = down + TILE, 0
                continue
            for line in range(TILE):
                write_output_row(
                    pixels + line * line_bytes, bias_address, least, partial + line * line_bytes
                )
            filled = 0
            while filled < LANES and down < target.rows:
                count = min(LANES - filled, tiles_per_row - tile)
                right = TILE * tile
                corner = plane + down * target.row + right * FLOAT_BYTES
                for line in range(min(TILE, target.rows - down)):
                    copy_bytes(
                        partial + line * line_bytes + filled * TILE * FLOAT_BYTES,
                        corner + line * target.row,
                        min(TILE * count, target.columns - right) * FLOAT_BYTES,
                    )
                filled, tile = filled + count, tile + count
                if tile == tiles_per_row:
                    down, tile = down + TILE, 0


@jit
def convolve(  # type: ignore[no-untyped-def]
    source, top, left, weights, bias, least, target, workspace, task
):
    """Run a :class:`Task` of a convolution from one :class:`Plane` to another.

    The first output pixel comes from the source's 3x3 at row ``top`` and column ``left``; pixels
    outside of the source are zeros. ``bias`` and ``least``, the lower bound of pixels, are
    addresses of floats.
    """
    strips = _count_strips(target.rows, target.columns)
    blocks, inputs, products = workspace.blocks, workspace.inputs, workspace.products
    input_stride = _point_stride(blocks, source.channels) * FLOAT_BYTES
    product_stride = _point_stride(blocks, target.channels) * FLOAT_BYTES
    for group in range(task.first_group, task.last_group):
        start = 2 * blocks * group
        count = min(2 * blocks, strips - start)
        _transform_inputs(
            source,
            top,
            left,
            target.columns,
            start,
            count,
            task.first_input,
            task.last_input,
            inputs,
            input_stride,
            workspace.strip,
        )
        _multiply_tiles(
            weights,
            source.channels,
            target.channels,
            count,
            task.first_part,
            task.last_part,
            inputs,
            input_stride,
            products,
            product_stride,
            workspace.strip,
        )
        _transform_outputs(
            products,
            product_stride,
            target,
            bias,
            least,
            start,
            count,
            task.first_output,
            task.last_output,
            workspace.strip,
        )
