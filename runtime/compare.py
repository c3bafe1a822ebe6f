"""Two pictures side by side: how far apart they are, and what each one's loss is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.colours import Colours
from nstrt.runtime.extraction import feature_session
from nstrt.runtime.machine import available_memory
from nstrt.runtime.model import ModelSpec, ModelStore, OptionError, TooLargeError, WeightsError
from nstrt.runtime.model.layers import shape_of
from nstrt.runtime.options import LayerWeights, StylizeOptions
from nstrt.runtime.pictures import Picture, PictureSource, as_picture, resize
from nstrt.runtime.pictures.delta_e import delta_e
from nstrt.runtime.plan import Scale, plan_scales

__all__ = ["ChannelDifference", "Difference", "PictureLosses", "compare", "losses_of"]

CHANNELS = ("red", "green", "blue")

_EPSILON = 1e-12
"""Smallest denominator of a relative loss."""


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

    Raises :class:`~nstrt.runtime.model.OptionError` where they differ in size or shape.
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
    :class:`~nstrt.runtime.model.TooLargeError` where memory does not suffice.
    """
    options = options or StylizeOptions.of()
    store = store or ModelStore()
    colours = Colours(options, as_picture(content), as_picture(style).opaque())
    photo, painting = colours.content, colours.style
    spec = _spec(options, store)
    found: list[PictureLosses] = []
    targets: dict[Scale, _Targets] = {}
    for source in pictures:
        picture = colours.as_painted(as_picture(source).opaque())
        scale = _scale(picture, painting, options)
        if scale not in targets:
            # Most often all pictures have one size; others' targets are of no use any more.
            targets = {scale: _targets(photo, painting, scale, options, spec, store)}
        found.append(_losses(picture, scale, targets[scale], options, spec, store))
    return found


@dataclass(frozen=True)
class _Targets:
    contents: Mapping[str, NDArray[np.float32]]
    grams: Mapping[str, NDArray[np.float32]]


def _targets(
    photo: Picture,
    painting: Picture,
    scale: Scale,
    options: StylizeOptions,
    spec: ModelSpec,
    store: ModelStore,
) -> _Targets:
    look = _Looking(options, spec, store)
    contents = look(photo, scale.width, scale.height, options.content_layers)
    styles = look(painting, scale.style_width, scale.style_height, options.style_layers)
    return _Targets(contents, {name: _gram(values, options) for name, values in styles.items()})


def _losses(
    picture: Picture,
    scale: Scale,
    targets: _Targets,
    options: StylizeOptions,
    spec: ModelSpec,
    store: ModelStore,
) -> PictureLosses:
    layers = tuple((name, 1.0) for name in options.layers)
    features = _Looking(options, spec, store)(picture, scale.width, scale.height, layers)
    contents = {
        name: _distance(features[name], target, options)
        for name, target in targets.contents.items()
    }
    styles = {
        name: _distance(_gram(features[name], options), target, options)
        for name, target in targets.grams.items()
    }
    content = _weighted(contents, options.content_layers, options)
    style = _weighted(styles, options.style_layers, options)
    tv = _variation(resize(picture.rgb, scale.width, scale.height))
    return PictureLosses(
        width=scale.width,
        height=scale.height,
        loss=options.hold * content + options.style_weight * style + options.tv_weight * tv,
        content=content,
        style=style,
        tv=tv,
        content_layers=contents,
        style_layers=styles,
    )


@dataclass(frozen=True)
class _Looking:
    """Features of pictures: channels x height x width by layer."""

    options: StylizeOptions
    spec: ModelSpec
    store: ModelStore

    def __call__(
        self, picture: Picture, width: int, height: int, layers: LayerWeights
    ) -> dict[str, NDArray[np.float32]]:
        names = [name for name, _ in layers]
        if not names:
            return {}
        _check_memory(width, height, names)
        session = feature_session(
            self.spec, provider=self.options.provider, shape=(height, width), store=self.store
        )
        values = resize(picture.rgb, width, height)
        found = session.features(np.ascontiguousarray(values.transpose(2, 0, 1)[None]), names)
        return {name: found[name][0] for name in names}


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


def _gram(features: NDArray[np.float32], options: StylizeOptions) -> NDArray[np.float32]:
    flat = features.reshape(features.shape[0], -1)
    product: NDArray[np.float32] = flat @ flat.T
    if options.gram_mean:
        product /= flat.shape[1]
    return product


def _distance(
    values: NDArray[np.float32], target: NDArray[np.float32], options: StylizeOptions
) -> float:
    """mean((F - P)^2), over mean(P^2) for relative losses."""
    difference = float(np.square(values - target).mean(dtype=np.float64))
    if not options.relative:
        return difference
    return difference / max(_EPSILON, float(np.square(target).mean(dtype=np.float64)))


def _weighted(terms: Mapping[str, float], layers: LayerWeights, options: StylizeOptions) -> float:
    total = sum(weight for _, weight in layers) if options.relative else 1.0
    return sum(weight / total * terms[name] for name, weight in layers)


def _variation(rgb: NDArray[np.float32]) -> float:
    steps = [np.diff(rgb, axis=axis) for axis in (0, 1)]
    squares = sum(float(np.square(step).sum(dtype=np.float64)) for step in steps)
    return squares / sum(step.size for step in steps)


def _scale(picture: Picture, painting: Picture, options: StylizeOptions) -> Scale:
    """The size to measure a picture at, and the painting's size with it."""
    alone = replace(options, size=options.size or max(picture.size), scales=1, iterations=(1,))
    (scale,) = plan_scales(
        alone, photo=picture.size, painting=painting.size, default=max(picture.size)
    )
    return scale


def _spec(options: StylizeOptions, store: ModelStore) -> ModelSpec:
    if options.weights != "auto":
        return options.spec
    try:
        spec = replace(options, weights="torchvision").spec
        store.obtain(spec)
    except WeightsError:
        spec = replace(options, weights="oxford").spec
    return spec


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
