"""Arithmetic of a step by direct convolution, counted from VGG19's layer shapes.

Each convolution of 3 x 3 takes 2 * 9 * Cin * Cout * H * W operations forwards, and as many
backwards with respect to its input. The weights are frozen: they have no gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["convolutions", "floor_seconds", "step_flops"]

BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Channels and convolutions of VGG19's blocks; a pooling that halves both sides lies between."""


def convolutions(deepest: str) -> Iterator[tuple[str, int, int, int]]:
    """Name, input channels, output channels and halvings before it of each convolution that a
    loss at the layer ``deepest`` (relu5_1, conv4_2, pool3) needs."""
    last = _place(deepest)
    before = 3
    for block, (channels, count) in enumerate(BLOCKS, start=1):
        for index in range(1, count + 1):
            if (block, index) > last:
                return
            yield f"conv{block}_{index}", before, channels, block - 1
            before = channels


def step_flops(width: int, height: int, layers: Sequence[str]) -> int:
    """Operations of one step on a picture: all convolutions, forwards and backwards."""
    deepest = max(layers, key=_place)
    total = 0
    for _, before, after, halvings in convolutions(deepest):
        positions = (width >> halvings) * (height >> halvings)
        total += 2 * 9 * before * after * positions
    return 2 * total


def floor_seconds(flops: int, gflops: float) -> float:
    """How long these operations take at a rate of ``gflops`` thousand million a second."""
    return flops / (gflops * 1e9)


def _place(layer: str) -> tuple[int, int]:
    """Block and number of the last convolution that a layer needs."""
    kind = layer.rstrip("0123456789_")
    numbers = layer[len(kind) :]
    if kind == "pool":
        block = int(numbers)
        return block, BLOCKS[block - 1][1]
    block, index = (int(part) for part in numbers.split("_"))
    return block, index
