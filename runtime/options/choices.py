"""The values that options can be chosen from."""

from __future__ import annotations

__all__ = [
    "COLORS",
    "ENGINES",
    "INITS",
    "MARGINS",
    "MATCHES",
    "NAMED_WEIGHTS",
    "OPTIMIZERS",
    "RESTS",
    "STYLE_LOSSES",
]

ENGINES = ("auto", "onnx", "torch", "graph")
OPTIMIZERS = ("adam", "lbfgs")
STYLE_LOSSES = ("gram", "w2")
INITS = ("content", "noise", "gray")
COLORS = ("style", "content", "match-style", "match-content")
MATCHES = ("covariance", "histogram")
NAMED_WEIGHTS = ("oxford", "torchvision", "auto")
RESTS = ("style", "photo")
MARGINS = ("keep", "crop")
