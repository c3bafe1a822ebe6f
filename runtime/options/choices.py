"""The values that options can be chosen from, and the layers of the losses."""

from __future__ import annotations

__all__ = [
    "COLORS",
    "CONTENT_LAYERS",
    "ENGINES",
    "INITS",
    "MARGINS",
    "MATCHES",
    "NAMED_WEIGHTS",
    "OPTIMIZERS",
    "RESTS",
    "STYLE_LAYERS",
    "STYLE_LOSSES",
]

ENGINES = ("auto", "onnx", "torch", "graph")
OPTIMIZERS = ("adam", "lbfgs")
STYLE_LOSSES = ("w2", "gram")
INITS = ("content", "noise", "gray")
COLORS = ("style", "content", "match-style", "match-content")
MATCHES = ("covariance", "histogram")
NAMED_WEIGHTS = ("oxford", "torchvision", "auto")
RESTS = ("style", "photo")
MARGINS = ("keep", "crop")

CONTENT_LAYERS = (("relu3_2", 1.0), ("relu4_2", 1.0))
STYLE_LAYERS = tuple((f"relu{block}_1", 2.0 ** (3 - block)) for block in range(1, 6))
"""Each block counts half of the one before: shallow ones hold the palette, deep ones the painting's
figures, which would show as ghosts."""
