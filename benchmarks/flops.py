"""Count the operations of a step by direct convolution from VGG19's layer shapes.

A convolution of 3 x 3 takes 2 * 9 * Cin * Cout * H * W operations forwards and equally many for
the gradient of its input. The frozen weights have no gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["convolutions", "floor_seconds", "step_flops"]

BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Channels and number of convolutions of VGG19's blocks, separated by 2x2 poolings."""


def convolutions(deepest: str) -> Iterator[tuple[str, int, int, int]]:
    """Yield the convolutions up to ``deepest``, such as relu5_1, conv4_2 or pool3.

    Each item is a name, input channels, output channels and the number of poolings before it.
    """
    last = _last_convolution(deepest)
    before = 3
    for block, (channels, count) in enumerate(BLOCKS, start=1):
        for index in range(1, count + 1):
            if (block, index) > last:
                return
            yield f"conv{block}_{index}", before, channels, block - 1
            before = channels


def step_flops(width: int, height: int, layers: Sequence[str]) -> int:
    """Return the operations of one step: all convolutions, forwards and backwards."""
    deepest = max(layers, key=_last_convolution)
    total = 0
    for _, before, after, halvings in convolutions(deepest):
        positions = (width >> halvings) * (height >> halvings)
        total += 2 * 9 * before * after * positions
    return 2 * total


def floor_seconds(flops: int, gflops: float) -> float:
    """Return the seconds for these operations at ``gflops`` GFLOP/s."""
    return flops / (gflops * 1e9)


def _last_convolution(layer: str) -> tuple[int, int]:
    """Return block and index of the last convolution up to a layer."""
    kind = layer.rstrip("0123456789_")
    numbers = layer[len(kind) :]
    if kind == "pool":
        block = int(numbers)
        return block, BLOCKS[block - 1][1]
    block, index = (int(part) for part in numbers.split("_"))
    return block, index
