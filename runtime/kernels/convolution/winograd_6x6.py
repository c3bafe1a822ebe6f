"""Winograd convolution F(6x6, 3x3), compiled by Numba, on a few tiles at a time.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016, arXiv:1509.09308): 64
products for 36 pixels, where the definition has 324. Transformed tiles hold 1.8 times as many
floats as the input, and memory traffic would dominate if they left the cache. So each thread
transforms some tiles, multiplies, and transforms back while they are in its cache. Between many
channels, weights are transformed on the fly. There, threads share more tiles, and complete each of
the three phases before the next one.

The points are 0, 1, -1, 2, -2, 1/2, -1/2 and infinity.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nstrt.runtime.kernels.buffers import BufferPool
from nstrt.runtime.kernels.convolution import winograd_6x6_layout as layout
from nstrt.runtime.kernels.convolution import winograd_6x6_loops as loops
from nstrt.runtime.kernels.convolution.filter import Filter
from nstrt.runtime.kernels.convolution.winograd_4x4 import Point, weight_matrix
from nstrt.runtime.kernels.parallel import guided_chunks, run_tasks

__all__ = ["FACTORS", "POINTS", "Winograd6x6", "self_test", "transform_weight"]

POINTS: tuple[Point, ...] = (
    Fraction(0),
    Fraction(1),
    Fraction(-1),
    Fraction(2),
    Fraction(-2),
    Fraction(1, 2),
    Fraction(-1, 2),
    None,
)

FACTORS = (-1, 1, 1, 1, 1, Fraction(1, 16), Fraction(1, 16), 1)
"""Factor of the transformed weights at each point.

The inverse is part of the input transform at 0 and of the output transform at 1/2 and -1/2, which
then need fewer constants.
"""

_MAX_PAIRS = 1 << 14
"""Most pairs of channels whose transformed weights stay in a processor's cache between tiles."""

_MAX_BLOCKS = 16
"""Most blocks of tiles for one pass over the weights that are transformed on the fly."""

_ZERO, _NO_BOUND = torch.zeros(1), torch.full((1,), -torch.inf)


class Winograd6x6:
    """A 3x3 convolution by F(6x6, 3x3), with weights out x in x 3 x 3.

    The relative error is about 6e-6 in single precision.
    """

    tile_size = 1
    band_dtype = None
    windowed = True

    def __init__(self, weight: Tensor, buffers: BufferPool) -> None:
        self._buffers = buffers
        outputs, inputs = weight.shape[:2]
        self._pretransformed = outputs * inputs <= _MAX_PAIRS
        self._matrix = _weight_matrix().contiguous()
        if self._pretransformed:
            self._panels = _pack_panels(transform_weight(weight))
            point_and_factors = self._panels.element_size() * self._panels.stride(0), 0
        else:
            nine = weight.float().permute(2, 3, 0, 1).flatten(0, 1)
            self._panels = _pack_panels(nine, interleaved=True)
            point_and_factors = 0, self._matrix.data_ptr()
        self._weights = layout.Weights(self._panels.data_ptr(), *point_and_factors)
        self._no_bias = torch.zeros(outputs)

    def apply(self, band: Tensor, out: Tensor, bias: Tensor | None) -> None:
        self.window(band, 0, 0, out, bias)

    def window(
        self,
        source: Tensor,
        top: int,
        left: int,
        out: Tensor,
        bias: Tensor | None,
        *,
        rectified: bool = False,
    ) -> None:
        source_plane, target = _plane(source), _plane(out)
        bias = self._no_bias if bias is None else bias.float().contiguous()
        least = _ZERO if rectified else _NO_BOUND
        strips = layout.count_strips(target.rows, target.columns)
        if not strips:
            return
        blocks = -(-strips // 2)
        inputs, outputs = (0, source_plane.channels), (0, target.channels)
        parts, none = (0, layout.SIDE * layout.count_panel_groups(target.channels)), (0, 0)
        # Weights that are transformed on the fly serve as many tiles as the buffers hold, shared
        # by the threads; otherwise each thread has tiles of its own.
        group_blocks = 1 if self._pretransformed else -(-blocks // -(-blocks // _MAX_BLOCKS))
        groups = -(-blocks // group_blocks)
        workspaces, memory = self._workspaces(group_blocks, source_plane.channels, target.channels)

        def run(tasks: Sequence[layout.Task]) -> None:
            run_tasks(
                len(tasks),
                partial(
                    _convolve,
                    (self, source, out, bias, memory),
                    source_plane,
                    top,
                    left,
                    self._weights,
                    bias.data_ptr(),
                    least.data_ptr(),
                    target,
                    workspaces,
                    tasks,
                ),
            )

        if self._pretransformed:
            run([layout.Task(*chunk, *inputs, *parts, *outputs) for chunk in guided_chunks(groups)])
            return
        for number in range(groups):
            group = number, number + 1
            run([layout.Task(*group, *chunk, *none, *none) for chunk in guided_chunks(inputs[1])])
            run([layout.Task(*group, *none, n, n + 1, *none) for n in range(parts[1])])
            run([layout.Task(*group, *none, *none, *chunk) for chunk in guided_chunks(outputs[1])])

    def _workspaces(
        self, blocks: int, inputs: int, outputs: int
    ) -> tuple[list[layout.Workspace], tuple[Tensor, ...]]:
        """Return the workspace of each thread, and the tensors that own its memory."""
        points, get, threads = layout.SIDE**2, self._buffers.get, torch.get_num_threads()
        copies = threads if self._pretransformed else 1
        tiles = get("gathered", (copies, points * layout.point_stride(blocks, inputs)))
        products = get("transformed", (copies, points * layout.point_stride(blocks, outputs)))
        floats = layout.strip_floats(inputs, 0 if self._pretransformed else outputs)
        strips = get("strip", (threads, floats))
        workspaces = [
            layout.Workspace(
                tiles[number % copies].data_ptr(),
                products[number % copies].data_ptr(),
                strips[number].data_ptr(),
                blocks,
            )
            for number in range(threads)
        ]
        return workspaces, (tiles, products, strips)


def _convolve(owners: Sequence[object], *arguments: Any) -> None:
    """Run one task of :func:`loops.convolve` in the workspace of one thread.

    ``owners`` keeps the memory alive whose addresses the arguments hold.
    """
    *shared, workspaces, tasks, thread, number = arguments
    loops.convolve(*shared, workspaces[thread], tasks[number])


def _plane(values: Tensor) -> layout.Plane:
    if values.dtype != torch.float32 or values.device.type != "cpu" or values.stride(2) != 1:
        raise ValueError("Compiled loops take rows of single precision numbers in main memory.")
    channel, row, _ = (values.element_size() * stride for stride in values.stride())
    return layout.Plane(values.data_ptr(), channel, row, *values.shape)


def transform_weight(weight: Tensor) -> Tensor:
    """Transform weights, out x in x 3 x 3, to G w G', 64 x out x in."""
    g = _weight_matrix()
    return torch.einsum("ui,ocij,vj->uvoc", g, weight.float(), g).flatten(0, 1)


def _pack_panels(matrices: Tensor, *, interleaved: bool = False) -> Tensor:
    """Pack matrices, number x out x in, as number x panels x in x rows of a panel.

    If ``interleaved``, as panels x in x number x rows. Zeros fill a panel with too few outputs.
    """
    outputs = matrices.shape[1]
    rows = torch.tensor(layout.panel_starts(outputs))[:, None] + torch.arange(layout.PANEL_ROWS)
    padded = functional.pad(matrices, (0, 0, 0, max(0, layout.PANEL_ROWS - outputs)))
    panels = padded[:, rows].transpose(2, 3)
    if interleaved:
        panels = panels.permute(1, 2, 0, 3)
    # The last vector may extend beyond the last panel.
    memory = torch.zeros(panels.numel() + layout.BLOCK)
    return memory[: panels.numel()].view(panels.shape).copy_(panels)


@lru_cache(maxsize=1)
def _weight_matrix() -> Tensor:
    """Weight transform G, 8 x 3, with the factors."""
    exact = weight_matrix(POINTS) * np.array(FACTORS, dtype=object)[:, None]
    return torch.from_numpy(exact.astype(np.float32))


def self_test() -> bool:
    """Return True if the compiled convolution agrees with torch's on this processor."""
    return all(
        _agrees_with_torch(channels, transposed=transposed)
        for channels in (16, 136)
        for transposed in (False, True)
    )


def _agrees_with_torch(channels: int, *, transposed: bool) -> bool:
    """Compare one convolution, with whole and partial strips of tiles and zero padding."""
    source = torch.Generator().manual_seed(0)
    values = torch.rand((channels, 9, 130), generator=source)
    weight = torch.rand((channels, channels, 3, 3), generator=source) - 0.5
    out = torch.empty_like(values)
    directed = Filter(weight, torch.zeros(channels)).directed_weight(transposed=transposed)
    Winograd6x6(directed, BufferPool()).window(values, -1, -1, out, None, rectified=True)
    convolve = functional.conv_transpose2d if transposed else functional.conv2d
    expected = convolve(values[None], weight, padding=1)[0].relu()
    return bool(torch.allclose(out, expected, rtol=1e-3, atol=1e-3))
