"""Colours of transparent pixels: continued from visible ones, and weighted by opacity."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.pictures.resize import resize

__all__ = ["continue_colors", "resize_visible", "smooth_faint_colors"]

_FAINT = 1 / 16
"""Opacity below which colours are imprecise, since editors round them at that opacity."""

_LEAST_SHARE = 1 / 4
"""Share below which a quotient of two small sums counts as rounding."""

_TINY = np.float32(1e-30)
"""Smallest divisor; it replaces an opacity of 0."""


def continue_colors(rgb: NDArray[np.float32], alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """Replace the colours where ``alpha`` is 0 by colours that continue the visible ones.

    A push-pull pyramid (Gortler, Grzeszczuk, Szeliski, Cohen, "The Lumigraph", 1996, section
    3.4) averages visible colours by opacity over ever larger squares. Returns ``rgb`` itself if
    no pixel is transparent. Colours that nobody sees do not affect the result; a picture without
    a visible pixel becomes black.
    """
    hidden = alpha == 0
    if not hidden.any():
        return rgb
    continued = rgb.copy()
    for channel, plane in enumerate(_continuation(rgb, alpha)):
        np.copyto(continued[..., channel], np.clip(plane, 0, 1), where=hidden)
    return continued


def smooth_faint_colors(
    rgb: NDArray[np.float32], alpha: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Blend the colours of nearly transparent pixels into the continuation of visible ones.

    The share of a pixel's own colour is its opacity divided by 1/16, at most 1.
    """
    if alpha is None:
        return rgb
    faint = (alpha > 0) & (alpha < _FAINT)
    if not faint.any():
        return rgb
    share = alpha[faint] / np.float32(_FAINT)
    smooth = rgb.copy()
    for channel, plane in enumerate(_continuation(rgb, alpha)):
        behind = plane[faint]
        smooth[faint, channel] = behind + share * (rgb[faint, channel] - behind)
    return smooth


def resize_visible(
    rgb: NDArray[np.float32],
    alpha: NDArray[np.float32] | None,
    width: int,
    height: int,
    *,
    clip: bool = True,
) -> NDArray[np.float32]:
    """Resize colours (height, width, 3) weighted by opacity, as they look over any background.

    With L the Lanczos filter, a pixel is L(rgb alpha) / L(alpha). Where L(alpha) is small or
    negative, L(rgb) replaces the quotient, so colours at ``alpha`` 0 must continue the visible ones
    (:func:`continue_colors`).
    """
    plain = resize(rgb, width, height, clip=clip)
    if alpha is None or alpha.shape == (height, width) or alpha.min() == 1:
        return plain
    opacity = resize(alpha, width, height, clip=False)
    share = np.clip(opacity / np.float32(_FAINT), 0, 1)
    share[share < _LEAST_SHARE] = 0
    np.maximum(opacity, np.float32(_FAINT * _LEAST_SHARE), out=opacity)
    for channel in range(3):
        weighted = resize(rgb[..., channel] * alpha, width, height, clip=False)
        weighted /= opacity
        np.clip(weighted, 0, 1, out=weighted)
        plain[..., channel] += share * (weighted - plain[..., channel])
    return plain


def _continuation(
    rgb: NDArray[np.float32], alpha: NDArray[np.float32]
) -> Iterator[NDArray[np.float32]]:
    """Yield a smooth plane of each channel that continues the colours, averaged by opacity."""
    # Invisible values may be NaN, which a product with 0 keeps.
    zero, seen = np.float32(0), alpha > 0
    planes = [_halved(np.where(seen, rgb[..., channel], zero) * alpha) for channel in range(3)]
    size = alpha.shape
    for plane in _pull(planes, _halved(alpha)):
        yield _enlarged(plane, size)


def _pull(
    weighted: list[NDArray[np.float32]], alpha: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    """Divide colours by their opacity, and blend them with the next coarser level."""
    opacity: NDArray[np.float32] = np.maximum(alpha, _TINY)
    colors: list[NDArray[np.float32]] = [plane / opacity for plane in weighted]
    if alpha.size == 1:
        return colors
    coarse = _pull([_halved(plane) for plane in weighted], _halved(alpha))
    for color, plane in zip(colors, coarse, strict=True):
        behind = _enlarged(plane, alpha.shape)
        color -= behind
        color *= alpha
        color += behind
    return colors


def _halved(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return means of 2 x 2 squares, of fewer pixels at the right and lower border."""
    from PIL import Image

    return np.asarray(Image.fromarray(plane).reduce(2))


def _enlarged(plane: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return linear interpolation at twice the width and height, cut off at ``shape``."""
    from PIL import Image

    height, width = shape
    return np.asarray(
        Image.fromarray(plane).resize(
            (width, height), Image.Resampling.BILINEAR, box=(0, 0, width / 2, height / 2)
        )
    )
