"""Comparison of two pictures: pixel differences, and the style transfer loss of each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.arrays import PlainArrays
from nstrt.runtime.errors import OptionError, TooLargeError
from nstrt.runtime.loss.content_and_style import ContentObserver
from nstrt.runtime.loss.objective import Objective, moment_observer, style_target
from nstrt.runtime.loss.style_statistics import StyleObserver
from nstrt.runtime.loss.total_variation import total_variation
from nstrt.runtime.model import ModelStore
from nstrt.runtime.model.layers import shape_of
from nstrt.runtime.network.border import Border
from nstrt.runtime.network.feature_observer import FeatureObserver, ObserverGroup
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.ort.features import feature_session
from nstrt.runtime.pictures import Picture, PictureSource, as_picture, resize
from nstrt.runtime.pictures.colors.delta_e import delta_e
from nstrt.runtime.planning.loss_weights import loss_weights
from nstrt.runtime.planning.plan import Scale, plan_scales
from nstrt.runtime.planning.weights_choice import choose_weights
from nstrt.runtime.run.color import ColorMode
from nstrt.runtime.run.inputs import resized
from nstrt.runtime.run.painting import read_painting, visible_part
from nstrt.runtime.system.memory import available_memory
from nstrt.runtime.system.words import spelled

__all__ = ["ChannelDifference", "Difference", "PictureLosses", "compare", "losses_of"]

CHANNELS = ("red", "green", "blue")


@dataclass(frozen=True, kw_only=True)
class ChannelDifference:
    """Difference of one channel of two pictures with values in 0..1."""

    max: float
    """Largest absolute difference."""

    mean: float
    """Mean absolute difference."""

    psnr: float
    """Peak signal-to-noise ratio, 10 log10(1 / mean squared difference), in dB; infinite for equal
    channels."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Difference of two pictures with values in 0..1; transparent parts count as white."""

    equal: bool
    """True if all values are equal, transparency included."""

    width: int
    """Width of the compared pictures in pixels."""

    height: int
    """Height of the compared pictures in pixels."""

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
    """Difference of each channel, by the names ``red``, ``green`` and ``blue``."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with None for an infinite PSNR."""
        facts = asdict(self)
        for part in (facts, *facts["channels"].values()):
            part["psnr"] = part["psnr"] if math.isfinite(part["psnr"]) else None
        return facts


def compare(a: PictureSource, b: PictureSource, *, size: int | None = None) -> Difference:
    """The difference of two pictures, at their own size or with ``size`` for the long side.

    Raises :class:`OptionError` if they differ in size, or in shape when ``size`` is given.
    """
    first, second = as_picture(a), as_picture(b)
    equal = first.size == second.size and _equal(first, second)
    x, y = (_resized(picture.opaque(), size).rgb for picture in (first, second))
    if x.shape != y.shape:
        sizes = " and ".join(f"{rgb.shape[1]}x{rgb.shape[0]}" for rgb in (x, y))
        advice = (
            "pictures of one shape can be compared"
            if size
            else f"name a {spelled('size')} to compare them at, if they have one shape"
        )
        raise OptionError(f"The pictures have {sizes} pixels; {advice}.")
    absolute = np.abs(x - y)
    squares = np.square(absolute, dtype=np.float64).mean(axis=(0, 1))
    color_difference = delta_e(x, y)
    return Difference(
        equal=equal,
        width=x.shape[1],
        height=x.shape[0],
        max=float(absolute.max()),
        mean=float(absolute.mean(dtype=np.float64)),
        psnr=_psnr(float(squares.mean())),
        delta_e=float(color_difference.mean(dtype=np.float64)),
        delta_e_max=float(color_difference.max()),
        channels={
            name: ChannelDifference(
                max=float(absolute[..., channel].max()),
                mean=float(absolute[..., channel].mean(dtype=np.float64)),
                psnr=_psnr(float(squares[channel])),
            )
            for channel, name in enumerate(CHANNELS)
        },
    )


@dataclass(frozen=True, kw_only=True)
class PictureLosses:
    """Loss of a finished picture, by layer; docs/method.md has the formulas."""

    width: int
    """Width of the measured picture in pixels."""

    height: int
    """Height of the measured picture in pixels."""

    loss: float
    """Weighted sum of the content, style and total variation losses."""

    content: float
    """Content loss: the sum of c_l C_l over the layers."""

    style: float
    """Style loss: the sum of s_l S_l over the layers."""

    tv: float
    """Total variation."""

    content_layers: Mapping[str, float]
    """Content term C_l of each layer."""

    style_layers: Mapping[str, float]
    """Style term S_l of each layer."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def losses_of(
    pictures: Iterable[PictureSource],
    content: PictureSource,
    style: PictureSource,
    options: StylizeOptions | None = None,
    *,
    style_mask: PictureSource | None = None,
    store: ModelStore | None = None,
) -> list[PictureLosses]:
    """The losses of ``pictures`` for the photo ``content`` and the painting ``style``.

    Each picture is measured at its own size, or with ``options.size`` for the long side. Photo and
    painting get the sizes that a run at that size gives them. ONNX Runtime computes the features of
    whole pictures, with the network of ``options``. ``style_mask`` is white on the part of the
    painting that counts.

    Raises :class:`TooLargeError` if the features do not fit into memory.
    """
    store = store or ModelStore()
    options, _ = choose_weights(options or StylizeOptions.of(), store)
    painting = read_painting(style, style_mask, margin=options.style_margin).picture
    color = ColorMode(options, as_picture(content), painting)
    losses: list[PictureLosses] = []
    meters: dict[Scale, _LossMeter] = {}
    for source in pictures:
        picture = color.as_seen(as_picture(source).opaque())
        scale = _scale(picture, color.style, options)
        if scale not in meters:
            # Holds the targets of one scale only: most often all pictures have one size.
            meters = {scale: _LossMeter(color.content, color.style, scale, options, store)}
        losses.append(meters[scale].measure(picture))
    return losses


class _LossMeter:
    """Measures losses at one scale; holds the targets of a photo and a painting."""

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
        self._border = Border(options.spec.border)
        shapes = [size[::-1] for size in scale.seen(self._border.width)]
        for height, width in shapes:
            _check_memory(width, height, options.layers)
        self._session = feature_session(
            options.spec, provider=options.provider, shapes=shapes, store=store
        )
        contents = ContentObserver(self._weights.content_layers, *shapes[0])
        self._observe(self._seen(photo, *self._size), contents)
        part = visible_part(painting, *scale.styles[0])
        seen = StyleObserver.of_part(self._weights, part, self._border, PlainArrays())
        self._observe(self._seen(painting, *scale.styles[0]), seen)
        style = seen.statistics()
        self._objective = Objective(
            weights=self._weights,
            contents=contents.values,
            energies=style.energies,
            styles=(style_target(self._weights, style.moments),),
        )

    def measure(self, picture: Picture) -> PictureLosses:
        """The losses of a picture, resized to the scale."""
        weights, image = self._weights, self._seen(picture, *self._size)
        contents = ContentObserver(weights.content_layers, *image.shape[2:])
        observer = moment_observer(weights)
        self._observe(image, ObserverGroup(contents, observer))
        content_terms = self._objective.content_terms(contents.values)
        moments = observer.moments()
        (style_terms,) = self._objective.style_terms(moments)
        shares = weights.normalized(weights.content_layers)
        content = sum(share * content_terms[layer] for layer, share in shares.items())
        style, tv = self._objective.style_loss(moments), float(total_variation(image))
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

    def _seen(self, picture: Picture, width: int, height: int) -> NDArray[np.float32]:
        """A picture at a size, as the network sees it; valid until the next call."""
        seen: NDArray[np.float32] = self._border.around(_batch(picture, width, height))
        return seen

    def _observe(self, image: NDArray[np.float32], observer: FeatureObserver) -> None:
        """Pass the features of an image to the observer."""
        if observer.layers:
            features = self._session.features(image, observer.layers)
            for layer, values in features.items():
                observer.observe(layer, values[0], 0)


def _batch(picture: Picture, width: int, height: int) -> NDArray[np.float32]:
    """The picture at a size, as 1 x 3 x height x width."""
    batch: NDArray[np.float32] = resized(picture, width, height, PlainArrays())
    return batch


def _check_memory(width: int, height: int, layers: Iterable[str]) -> None:
    """Raise :class:`TooLargeError` if the features of an image do not fit into memory."""
    # Fitted to a measurement: 2.2 GB for 1024 x 670 pixels, with 0.35 GB of libraries.
    numbers = 6 * 64 * width * height
    for name in layers:
        channels, rows, columns = shape_of(name, height, width)
        numbers += 2 * channels * rows * columns
    share = available_memory() / (4 * numbers)
    if share < 1:
        size = int(max(width, height) * math.sqrt(0.95 * share))
        raise TooLargeError(
            f"This machine's memory does not suffice for the features of {width}x{height} pixels; "
            f"make {spelled('size')} at most {size}."
        )


def _scale(picture: Picture, painting: Picture, options: StylizeOptions) -> Scale:
    """The scale to measure a picture at, with the size of the painting."""
    single = replace(options, size=options.size or max(picture.size), scales=1, iterations=(1,))
    (scale,) = plan_scales(
        single, photo=picture.size, painting=painting.size, default=max(picture.size)
    )
    return scale


def _resized(picture: Picture, size: int | None) -> Picture:
    """The picture with ``size`` pixels along the long side; as it is for None."""
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


def _psnr(mean_square: float) -> float:
    """PSNR in dB from the mean squared difference."""
    return -10 * math.log10(mean_square) if mean_square else math.inf
