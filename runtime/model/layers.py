"""VGG19's feature layers by the names of the literature (Simonyan and Zisserman, 2014).

The convolutional part is five blocks of 3x3 convolutions, each followed by a ReLU, with a 2x2
pooling after each block. ``conv3_2`` is the second convolution of the third block, ``relu3_2``
its rectified output, ``pool3`` the pooling that ends the block.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from nstrt.runtime.errors import LayerNameError

__all__ = [
    "BLOCKS",
    "CHANNELS",
    "LAYERS",
    "check_layer",
    "conv_shapes",
    "in_network_order",
    "layers_between",
    "layers_through",
    "shape_of",
    "stride_of",
    "taps_for_gradient",
]

BLOCKS = (2, 2, 4, 4, 4)
"""Convolutions in each block."""

CHANNELS = (64, 128, 256, 512, 512)
"""Output channels of each block's convolutions."""


def _names() -> tuple[str, ...]:
    names: list[str] = []
    for block, convolutions in enumerate(BLOCKS, start=1):
        for index in range(1, convolutions + 1):
            names += [f"conv{block}_{index}", f"relu{block}_{index}"]
        names.append(f"pool{block}")
    return tuple(names[:-1])


LAYERS = _names()
"""Every layer, ``conv1_1`` to ``relu5_4``, in the order they are computed."""

_POSITION = {name: position for position, name in enumerate(LAYERS)}


def check_layer(name: str) -> str:
    """Return ``name`` if the network has it; raise :class:`LayerNameError` with a suggestion."""
    if name in _POSITION:
        return name
    near = difflib.get_close_matches(name.lower(), LAYERS, n=1, cutoff=0.0)
    raise LayerNameError(
        f"VGG19 has no layer called '{name}'; did you mean '{near[0]}'? "
        "Layers run from conv1_1, relu1_1 to relu5_4, with pool1 to pool4 between the blocks."
    )


def in_network_order(names: Iterable[str]) -> tuple[str, ...]:
    """The given layers once each, in the order the network computes them."""
    return tuple(sorted({check_layer(name) for name in names}, key=_POSITION.__getitem__))


def layers_through(names: Iterable[str]) -> tuple[str, ...]:
    """All layers up to the deepest of ``names``: what has to be computed to have them."""
    deepest = in_network_order(names)[-1]
    return LAYERS[: _POSITION[deepest] + 1]


def layers_between(after: str | None, names: Iterable[str]) -> tuple[str, ...]:
    """The same without what lies before, and the layer ``after`` itself; None for the picture."""
    through = layers_through(names)
    return through if after is None else through[_POSITION[check_layer(after)] + 1 :]


def taps_for_gradient(names: Iterable[str]) -> tuple[str, ...]:
    """The outputs from which the gradient through ``names`` follows with no forward pass.

    The backward pass needs the sign of every ReLU (its output holds it) and, for max pooling,
    each window's winner (input and output hold it); a convolution's own output is needed only
    where a loss asks for it.
    """
    asked = in_network_order(names)
    through = layers_through(asked)
    return tuple(name for name in through if name in asked or not name.startswith("conv"))


def stride_of(name: str) -> int:
    """Picture pixels per position of a layer, along each side: 1, 2, 4, 8 or 16."""
    block = int(check_layer(name)[4])  # conv3_1, relu3_1, pool3
    return 1 << (block if name.startswith("pool") else block - 1)


def channels_of(name: str) -> int:
    """Channels of a layer."""
    return CHANNELS[int(check_layer(name)[4]) - 1]


def shape_of(name: str, height: int, width: int) -> tuple[int, int, int]:
    """Channels, height and width of a layer for a picture of the given sides."""
    stride = stride_of(name)
    return channels_of(name), height // stride, width // stride


def conv_shapes() -> dict[str, tuple[int, ...]]:
    """Weight shapes by layer, output channels x input channels x 3 x 3."""
    shapes: dict[str, tuple[int, ...]] = {}
    inputs = 3
    for name in LAYERS:
        if name.startswith("conv"):
            outputs = channels_of(name)
            shapes[name] = (outputs, inputs, 3, 3)
            inputs = outputs
    return shapes
