"""pastiche's objective as options of nstrt.

pastiche 1.6.0 feeds the network with BGR in 0..255 minus the mean, pads with zeros and uses max
pooling. It minimises::

    0.01 * mse(F, P) at relu4_2  +  sum over relu1_1 ... relu5_1 of 10 / C^2 * mse(G, A)

with C channels and Gram matrices G = F F' / positions. These are nstrt's raw losses with these
weights.
"""

from __future__ import annotations

from typing import Any

__all__ = ["CONTENT_LAYERS", "STYLE_LAYERS", "objective"]

CONTENT_LAYERS = {"relu4_2": 0.01}

STYLE_LAYERS = {
    f"relu{block}_1": 10 / channels**2
    for block, channels in ((1, 64), (2, 128), (3, 256), (4, 512), (5, 512))
}


def objective() -> dict[str, Any]:
    """Return the options for which nstrt's loss equals pastiche's."""
    return {
        "weights": "oxford",
        "normalize": True,
        "pooling": "max",
        "padding": "zero",
        "style_loss": "gram",
        "relative": False,
        "gram_mean": True,
        "content_layers": dict(CONTENT_LAYERS),
        "style_layers": dict(STYLE_LAYERS),
        "content_weight": 1.0,
        "style_weight": 1.0,
        "strength": 0.5,
        "tv_weight": 0.0,
        "tolerance": 0.0,
        "color": "style",
        "init": "content",
        "optimizer": "lbfgs",
    }
