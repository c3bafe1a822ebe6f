"""Memory layout of :mod:`.winograd_6x6`: tiles, strips, blocks and panels, and their structs.

A tile is 8x8 input pixels that give 6x6 output pixels. A strip is eight consecutive tiles, and may
continue in the next row of tiles; a block is two strips. A panel holds the weights of
:data:`PANEL_ROWS` output channels, beside each other for each input channel.
"""

from __future__ import annotations

from typing import NamedTuple

from nstrt.runtime.kernels.simd import LANES, REGISTER_LANES

__all__ = [
    "ADDRESS_BYTES",
    "BLOCK",
    "PANELS_PER_GROUP",
    "PANEL_ROWS",
    "SIDE",
    "STRIP_COLUMNS",
    "STRIP_INPUT_COLUMNS",
    "TILE",
    "Plane",
    "Task",
    "Weights",
    "Workspace",
    "count_panel_groups",
    "count_strips",
    "panel_starts",
    "panel_stride",
    "point_stride",
    "strip_floats",
]

TILE = 6
"""Rows and columns of an output tile."""

SIDE = TILE + 2
"""Rows and columns of an input tile, and points along each axis."""

BLOCK = 2 * LANES
"""Tiles that one call of the micro-kernel multiplies."""

PANEL_ROWS = 6 if REGISTER_LANES == LANES else 16
"""Output channels that one call of the micro-kernel computes, limited by the registers."""

PANELS_PER_GROUP = 8 if REGISTER_LANES == LANES else 2
"""Panels that are transformed together at one row of points, and stay in the cache meanwhile."""

ADDRESS_BYTES = 8
"""Size of an address, in bytes."""

STRIP_COLUMNS = TILE * LANES
"""Output columns of a strip."""

STRIP_INPUT_COLUMNS = SIDE * LANES
"""Input columns of a strip, at most: each of its tiles may be in a row of its own."""


def count_strips(rows: int, columns: int) -> int:
    """Strips that cover so many output pixels."""
    tiles = ((rows + TILE - 1) // TILE) * ((columns + TILE - 1) // TILE)
    return (tiles + LANES - 1) // LANES


def strip_floats(channels: int, outputs: int = 0) -> int:
    """Floats of one thread's buffer.

    It holds a strip of tiles, or the weights of a group of panels if weights are transformed
    on the fly for so many ``outputs``.
    """
    input_floats = 2 * SIDE * STRIP_INPUT_COLUMNS + 2 * LANES
    output_floats = (SIDE + 2 * TILE) * STRIP_COLUMNS
    panels = min(PANELS_PER_GROUP, len(panel_starts(outputs)))
    return max(input_floats, output_floats, SIDE * panels * panel_stride(channels))


def panel_stride(channels: int) -> int:
    """Floats from one panel of transformed weights to the next.

    The padding avoids power-of-two strides, whose addresses map to few cache sets, and has room
    for a last vector that extends beyond the panel.
    """
    return channels * PANEL_ROWS + REGISTER_LANES


def point_stride(blocks: int, channels: int) -> int:
    """Floats from one point to the next in a buffer for so many blocks of tiles.

    The padding avoids power-of-two strides, whose addresses map to few cache sets. It has room for
    a whole panel's output if there are fewer channels.
    """
    return BLOCK * (blocks * channels + PANEL_ROWS + 1)


def panel_starts(outputs: int) -> list[int]:
    """First output channel of each panel.

    The last panel overlaps the one before and writes the same values again. If there are fewer
    channels than rows of a panel, zeros fill it.
    """
    return [max(0, min(row, outputs - PANEL_ROWS)) for row in range(0, outputs, PANEL_ROWS)]


def count_panel_groups(outputs: int) -> int:
    """Groups of panels, each multiplied as a task of its own."""
    rows = PANEL_ROWS * PANELS_PER_GROUP
    return (outputs + rows - 1) // rows


class Plane(NamedTuple):
    """Channels x rows x columns of floats in memory."""

    start: int
    """Address of the first float."""

    channel: int
    """Bytes from one channel to the next."""

    row: int
    """Bytes from one row to the next."""

    channels: int
    rows: int
    columns: int


class Weights(NamedTuple):
    """Packed weights, in panels.

    There are panels of transformed weights for each point. Between many channels there are panels
    with the nine original weights of each input channel, transformed on the fly.
    """

    start: int
    """Address of the first float."""

    point: int
    """Bytes from the panels of one point to those of the next; 0 if transformed on the fly."""

    factors: int
    """Address of the weight transform's matrix, 8 x 3, for its first axis; 0 if transformed
    already."""


class Workspace(NamedTuple):
    """Buffers of one thread, or shared by all threads."""

    inputs: int
    """Address of the transformed input tiles of ``blocks``, see :func:`point_stride`."""

    products: int
    """Address of their products, see :func:`point_stride`."""

    strip: int
    """Address of :func:`strip_floats` floats, which no other thread uses."""

    blocks: int
    """Blocks of tiles that are multiplied for one pass over the weights."""


class Task(NamedTuple):
    """Part of a convolution, as ranges whose last number is excluded.

    For each group of ``blocks`` blocks of tiles, a task transforms some input channels, multiplies
    some parts, and transforms some output channels. A part is a row of eight points of one group
    of panels.
    """

    first_group: int
    last_group: int
    first_input: int
    last_input: int
    first_part: int
    last_part: int
    first_output: int
    last_output: int
