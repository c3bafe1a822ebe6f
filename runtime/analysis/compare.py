"""Two pictures side by side: how far apart they are, and what each one's loss is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.arrays import PlainArrays
from nstrt.runtime.errors import OptionError, TooLargeError
from nstrt.runtime.loss.accumulate import ContentObserver, GramObserver
from nstrt.runtime.loss.objective import Objective, StyleTarget
from nstrt.runtime.loss.total_variation import total_variation
from nstrt.runtime.model import ModelStore
from nstrt.runtime.model.layers import shape_of
from nstrt.runtime.network.observer import FeatureObserver, ObserverGroup
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.ort.features import feature_session
from nstrt.runtime.pictures import Picture, PictureSource, as_picture, resize
from nstrt.runtime.pictures.delta_e import delta_e
from nstrt.runtime.planning.loss_weights import loss_weights
from nstrt.runtime.planning.network import choose_weights
from nstrt.runtime.planning.plan import Scale, plan_scales
from nstrt.runtime.run.color import ColorMode
from nstrt.runtime.run.inputs import resized
from nstrt.runtime.system.host import available_memory

__all__ = ["ChannelDifference", "Difference", "PictureLosses", "compare", "losses_of"]

CHANNELS = ("red", "green", "blue")


@dataclass(frozen=True, kw_only=True)
class ChannelDifference:
    """How far apart one channel of two pictures is; values are in 0..1."""

    max: float
    """Largest absolute difference."""

    mean: float
    """Mean absolute difference."""

    psnr: float
    """Peak signal-to-noise ratio, 10 log10(1 / mean squared difference), in dB; infinite for equal
    channels."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far apart two pictures are; values are in 0..1, transparent parts count as white."""

    equal: bool
    """Whether every value is the same, transparency too."""

    width: int
    """At which they were compared, in pixels."""

    height: int
    """At which they were compared, in pixels."""

    max: float
    """Largest absolute difference of any channel."""

    mean: float
    """Mean absolute difference over all channels."""

    psnr: float
    """Peak signal-to-noise ratio over all channels, in dB; infinite where there is no
    difference."""

    delta_e: float
    """Mean CIE76 colour difference; 2.3 is just noticeable."""

    delta_e_max: float
    """Largest CIE76 colour difference of any pixel."""

    channels: Mapping[str, ChannelDifference]
    """The same for ``red``, ``green`` and ``blue`` alone."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, which has no infinity: None stands for it."""
        found = asdict(self)
        for part in (found, *found["channels"].values()):
            part["psnr"] = part["psnr"] if math.isfinite(part["psnr"]) else None
        return found


def compare(a: PictureSource, b: PictureSource, *, size: int | None = None) -> Difference:
    """How far apart two pictures are, at their own size or with ``size`` for the long side.

    Raises :class:`OptionError` where they differ in size or shape.
    """
    first, second = as_picture(a), as_picture(b)
    equal = first.size == second.size and _equal(first, second)
    x, y = (_sized(picture.opaque(), size).rgb for picture in (first, second))
    if x.shape != y.shape:
        sizes = " and ".join(f"{rgb.shape[1]}x{rgb.shape[0]}" for rgb in (x, y))
        advice = (
            "pictures of one shape can be compared"
            if size
            else "name a --size to compare them at, if they have one shape"
        )
        raise OptionError(f"The pictures have {sizes} pixels; {advice}.")
    apart = np.abs(x - y)
    squares = np.square(apart, dtype=np.float64).mean(axis=(0, 1))
    colours = delta_e(x, y)
    return Difference(
        equal=equal,
        width=x.shape[1],
        height=x.shape[0],
        max=float(apart.max()),
        mean=float(apart.mean(dtype=np.float64)),
        psnr=_psnr(float(squares.mean())),
        delta_e=float(colours.mean(dtype=np.float64)),
        delta_e_max=float(colours.max()),
        channels={
            name: ChannelDifference(
                max=float(apart[..., channel].max()),
                mean=float(apart[..., channel].mean(dtype=np.float64)),
                psnr=_psnr(float(squares[channel])),
            )
            for channel, name in enumerate(CHANNELS)
        },
    )


@dataclass(frozen=True, kw_only=True)
class PictureLosses:
    """The loss of a finished picture, layer by layer; see docs/method.md for the formulas."""

    width: int
    """At which it was measured, in pixels."""

    height: int
    """At which it was measured, in pixels."""

    loss: float
    """The weighted sum that painting minimises."""

    content: float
    """Sum of c_l C_l."""

    style: float
    """Sum of s_l S_l."""

    tv: float
    """TV."""

    content_layers: Mapping[str, float]
    """C_l by layer."""

    style_layers: Mapping[str, float]
    """S_l by layer."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def losses_of(
    pictures: Iterable[PictureSource],
    content: PictureSource,
    style: PictureSource,
    options: StylizeOptions | None = None,
    *,
    store: ModelStore | None = None,
) -> list[PictureLosses]:
    """What the loss of ``options`` is at each of ``pictures``, against a photo and a painting.

    Each picture is measured at its own size, or with ``options.size`` for its long side; photo
    and painting are brought to the sizes that they would have while it is painted. ONNX Runtime
    computes the features, whole pictures at a time, with the network of the runs. Raises
    :class:`TooLargeError` where memory does not suffice.
    """
    store = store or ModelStore()
    options, _ = choose_weights(options or StylizeOptions.of(), store)
    colours = ColorMode(options, as_picture(content), as_picture(style).opaque())
    found: list[PictureLosses] = []
    against: dict[Scale, _Against] = {}
    for source in pictures:
        picture = colours.as_seen(as_picture(source).opaque())
        scale = _scale(picture, colours.style, options)
        if scale not in against:
            # Most often all pictures have one size; others' targets are of no use any more.
            against = {scale: _Against(colours.content, colours.style, scale, options, store)}
        found.append(against[scale].losses(picture))
    return found


class _Against:
    """A photo and a painting at one scale, to measure pictures against."""

    def __init__(
        self,
        photo: Picture,
        painting: Picture,
        scale: Scale,
        options: StylizeOptions,
        store: ModelStore,
    ) -> None:
        self._weights = loss_weights(options)
        self._size = scale.width, scale.height
        shapes = (scale.height, scale.width), scale.styles[0][::-1]
        for height, width in shapes:
            _check_memory(width, height, options.layers)
        self._session = feature_session(
            options.spec, provider=options.provider, shapes=shapes, store=store
        )
        contents = ContentObserver(self._weights.content_layers, scale.height, scale.width)
        self._look(_batch(photo, *self._size), contents)
        grams = GramObserver(self._weights.style_layers)
        self._look(_batch(painting, *scale.styles[0]), grams)
        self._objective = Objective(
            weights=self._weights,
            contents=contents.values,
            styles=(StyleTarget(grams=grams.matrices(mean=self._weights.gram_mean)),),
        )

    def losses(self, picture: Picture) -> PictureLosses:
        """The losses of a picture, which is brought to the scale's size."""
        weights, image = self._weights, _batch(picture, *self._size)
        contents = ContentObserver(weights.content_layers, *image.shape[2:])
        grams = GramObserver(weights.style_layers)
        self._look(image, ObserverGroup(contents, grams))
        content_terms = self._objective.content_terms(contents.values)
        own = grams.matrices(mean=weights.gram_mean)
        (style_terms,) = self._objective.style_terms(own)
        shares = weights.normalized(weights.content_layers)
        content = sum(share * content_terms[layer] for layer, share in shares.items())
        style, tv = self._objective.style_loss(own), float(total_variation(image))
        return PictureLosses(
            width=self._size[0],
            height=self._size[1],
            loss=weights.content * content + weights.style * style + weights.tv * tv,
            content=content,
            style=style,
            tv=tv,
            content_layers=content_terms,
            style_layers=style_terms,
        )

    def _look(self, image: NDArray[np.float32], observer: FeatureObserver) -> None:
        if observer.layers:
            features = self._session.features(image, observer.layers)
            for layer, values in features.items():
                observer.observe(layer, values[0], 0)


def _batch(picture: Picture, width: int, height: int) -> NDArray[np.float32]:
    """1 x 3 x height x width."""
    found: NDArray[np.float32] = resized(picture, width, height, PlainArrays())
    return found


def _check_memory(width: int, height: int, layers: Iterable[str]) -> None:
    # Fitted to what was measured: 2.2 GB for 1024 x 670 pixels, with 0.35 GB of libraries.
    numbers = 6 * 64 * width * height
    for name in layers:
        channels, rows, columns = shape_of(name, height, width)
        numbers += 2 * channels * rows * columns
    if 4 * numbers > available_memory():
        raise TooLargeError(
            f"This machine's memory does not suffice for the features of {width}x{height} pixels; "
            "use a smaller --size."
        )


def _scale(picture: Picture, painting: Picture, options: StylizeOptions) -> Scale:
    """The size to measure a picture at, and the painting's size with it."""
    alone = replace(options, size=options.size or max(picture.size), scales=1, iterations=(1,))
    (scale,) = plan_scales(
        alone, photo=picture.size, painting=painting.size, default=max(picture.size)
    )
    return scale


def _sized(picture: Picture, size: int | None) -> Picture:
    if size is None:
        return picture
    factor = size / max(picture.size)
    width, height = (max(1, round(side * factor)) for side in picture.size)
    return Picture(rgb=resize(picture.rgb, width, height))


def _equal(a: Picture, b: Picture) -> bool:
    if (a.alpha is None) != (b.alpha is None):
        return False
    if a.alpha is not None and b.alpha is not None and not np.array_equal(a.alpha, b.alpha):
        return False
    return np.array_equal(a.rgb, b.rgb)


def _psnr(squares: float) -> float:
    return -10 * math.log10(squares) if squares else math.inf
