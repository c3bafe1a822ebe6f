"""Names and shapes of the inputs and outputs of step graphs, shared by exporter and runtime.

A ``step`` graph computes the loss of a whole picture and its gradient. With F the features of a
layer (channels x positions), P and A its targets, G = F F' / positions::

    content = sum over content layers of content_shares[l] * sum((F - P)^2)
    style   = sum over style layers of style_shares[l] * sum((G - A)^2)
    tv      = mean squared difference of neighbours, right and below, image in 0..1
    loss    = weights . (content, style, tv)

====================  =========================  ==================================================
input                 shape                      content
====================  =========================  ==================================================
``image``             1 x 3 x height x width     RGB in 0..1
``target_LAYER``      1 x channels x h x w       P of each content layer
``gram_LAYER``        channels x channels        A of each style layer
``content_shares``    content layers             their factors, in network order; absent if none
``style_shares``      style layers               their factors, in network order; absent if none
``weights``           3                          of content, style and tv
====================  =========================  ==================================================

Outputs: ``terms``, the four numbers of :data:`TERM_NAMES`, and ``gradient``, in the image's shape.

A ``tile`` graph computes a tile's share of the gradient, without tv, from statistics of the whole
picture. At a loss layer the gradient with respect to the features is ``pull_LAYER @ F + shift_LAYER
+ content_factors[l] * (F - P)`` inside the tile's core and zero outside.

====================  =========================  ==================================================
input                 shape                      content
====================  =========================  ==================================================
``image``             1 x 3 x height x width     the tile, margins included
``target_LAYER``      1 x channels x h x w       the tile's part of P for each content layer; values
                                                 outside the core are ignored
``pull_LAYER``        channels x channels        factor of F in the style gradient, by style layer
``shift_LAYER``       1 x channels x 1 x 1       what the style gradient adds to that
``content_factors``   content layers             factors in network order; absent if none
``core_LAYER``        4 (int64)                  top, bottom, left, right of the core in positions
                                                 of each loss layer; bottom and right are exclusive
====================  =========================  ==================================================

All inputs and outputs but the cores are float32 in every variant.
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
    "shift_input",
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
"""Names of the four values of ``terms``."""


def target_input(layer: str) -> str:
    """Name of the input for the content target of a layer."""
    return f"target_{layer}"


def gram_input(layer: str) -> str:
    """Name of the input for the target Gram matrix of a layer."""
    return f"gram_{layer}"


def pull_input(layer: str) -> str:
    """Name of the input for the matrix that maps features to their style gradient."""
    return f"pull_{layer}"


def shift_input(layer: str) -> str:
    """Name of the input for the part of the style gradient that does not depend on features."""
    return f"shift_{layer}"


def core_input(layer: str) -> str:
    """Name of the input for the bounds of the tile's core in a layer."""
    return f"core_{layer}"
