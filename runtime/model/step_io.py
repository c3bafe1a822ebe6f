"""Step graphs by the names of their inputs and outputs: exporter and runtime agree on them here.

A ``step`` graph takes a whole picture and gives its loss and the gradient with respect to it. With
F the features of a layer (channels x positions), P and A its targets, G = F F' / positions::

    content = sum over content layers of content_shares[l] * sum((F - P)^2)
    style   = sum over style layers of style_shares[l] * sum((G - A)^2)
    tv      = mean squared difference of neighbours, right and below, image in 0..1
    loss    = weights . (content, style, tv)

====================  =========================  ==================================================
input                 shape                      what
====================  =========================  ==================================================
``image``             1 x 3 x height x width     RGB in 0..1
``target_LAYER``      1 x channels x h x w       P of each content layer
``gram_LAYER``        channels x channels        A of each style layer
``content_shares``    content layers             their factors, in network order; absent if none
``style_shares``      style layers               their factors, in network order; absent if none
``weights``           3                          of content, style and tv
====================  =========================  ==================================================

Outputs: ``terms``, the four numbers of :data:`TERM_NAMES`, and ``gradient``, shaped as the image.

A ``tile`` graph takes a part of a picture whose statistics are known, and gives the part's share of
the gradient, without that of tv. At a loss layer, inside the core alone, the gradient at the
features is ``pull_LAYER @ F + content_factors[l] * (F - P)``.

====================  =========================  ==================================================
input                 shape                      what
====================  =========================  ==================================================
``image``             1 x 3 x height x width     the tile, margins included
``target_LAYER``      1 x channels x h x w       P of each content layer, the tile's part; what lies
                                                 outside the core does not count
``pull_LAYER``        channels x channels        of each style layer
``content_factors``   content layers             in network order; absent if none
``core_LAYER``        4 (int64)                  top, bottom, left, right of the core in positions
                                                 of the layer, for each loss layer; bottom and
                                                 right lie one beyond it
====================  =========================  ==================================================

All but cores are float32 in every variant.
"""

from __future__ import annotations

__all__ = [
    "CONTENT_FACTORS",
    "CONTENT_SHARES",
    "GRADIENT",
    "IMAGE",
    "STYLE_SHARES",
    "TERMS",
    "TERM_NAMES",
    "WEIGHTS",
    "core_input",
    "gram_input",
    "pull_input",
    "target_input",
]

IMAGE = "image"
WEIGHTS = "weights"
CONTENT_SHARES = "content_shares"
STYLE_SHARES = "style_shares"
CONTENT_FACTORS = "content_factors"
TERMS = "terms"
GRADIENT = "gradient"

TERM_NAMES = ("loss", "content", "style", "tv")
"""What the numbers of ``terms`` are."""


def target_input(layer: str) -> str:
    """The input that takes the content target of a layer."""
    return f"target_{layer}"


def gram_input(layer: str) -> str:
    """The input that takes the Gram matrix to be reached at a layer."""
    return f"gram_{layer}"


def pull_input(layer: str) -> str:
    """The input that takes what the style loss multiplies a layer's features by."""
    return f"pull_{layer}"


def core_input(layer: str) -> str:
    """The input that says which positions of a layer belong to the tile."""
    return f"core_{layer}"
