"""Specification of a model file, with the key and the file name derived from it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from nstrt.runtime.errors import OptionError, WeightsError
from nstrt.runtime.model.layers import in_network_order, layers_through, taps_for_gradient
from nstrt.runtime.system.files import sha256_of

__all__ = [
    "FORMAT",
    "MAX_WEIGHTS_BYTES",
    "PADDINGS",
    "POOLINGS",
    "STEP_VARIANTS",
    "VARIANTS",
    "WEIGHT_NAMES",
    "ModelSpec",
    "Padding",
    "Pooling",
    "StepVariant",
    "Variant",
    "weights_metadata",
]

FORMAT = 2
"""Version of the model files' layout; files of another version are rebuilt."""

_BORDER = 4
"""A picture's discoloured border was three to four pixels wide without."""

MAX_WEIGHTS_BYTES = 4_000_000_000
"""Largest weights file in bytes: VGG19 with its classifier has 0.6 GB in single precision."""

Pooling = Literal["max", "avg", "avg-unscaled"]
Padding = Literal["zero", "replicate"]
FeatureVariant = Literal["plain", "optimized", "fp16"]
StepVariant = Literal["step", "step-fp16", "tile", "tile-fp16"]
Variant = FeatureVariant | StepVariant

POOLINGS: tuple[str, ...] = get_args(Pooling)
PADDINGS: tuple[str, ...] = get_args(Padding)
VARIANTS: tuple[FeatureVariant, ...] = get_args(FeatureVariant)
"""Variants whose outputs are features."""
STEP_VARIANTS: tuple[StepVariant, ...] = get_args(StepVariant)
"""Variants whose output is a gradient; see ``model.step_io``."""

WEIGHT_NAMES = ("oxford", "torchvision")
"""Named weights; any other text is the path of a file."""


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Specification of a VGG19 model; equal specifications give byte-identical files."""

    taps: tuple[str, ...]
    """Output layers in network order; the model ends at the deepest."""

    weights: str = "oxford"
    """``oxford``, ``torchvision``, or the path of a ``.pth``, ``.safetensors`` or ``.h5`` file."""

    pooling: Pooling = "max"
    """Pooling of 2x2 windows with stride 2.

    VGG was trained with ``max``. ``avg`` is the mean that Gatys et al. (2016) suggest, times
    sqrt(2) to keep the later layers' activations in their trained range. ``avg-unscaled`` is the
    plain mean of published recipes."""

    padding: Padding = "replicate"
    """Padding of conv1_1: ``zero``, as VGG was trained, or ``replicate``, which prevents frames.

    All later layers pad with zeros. Runs with ``replicate`` extend pictures, see :attr:`border`."""

    normalize: bool = True
    """Subtract the mean and divide by the deviation of the weights' training.

    If false, the picture is only scaled to the weights' input range."""

    variant: Variant = "plain"
    """Kind of model file.

    ``plain`` is the traced graph, which :mod:`nstrt.runtime.network.vgg` reads. ``optimized`` is
    optimised by ONNX Runtime. ``fp16`` is traced in half precision for GPUs. :data:`STEP_VARIANTS`
    compute loss and gradient of a ``step`` or the gradient of a ``tile``, with convolutions in
    single or half precision."""

    content_layers: tuple[str, ...] = ()
    """Layers of the content loss in a step or tile; empty for other variants."""

    style_layers: tuple[str, ...] = ()
    """Layers of the style loss in a step or tile; empty for other variants."""

    def __post_init__(self) -> None:
        if not self.taps:
            raise OptionError("A model needs at least one layer to give out.")
        for name in ("taps", "content_layers", "style_layers"):
            layers: tuple[str, ...] = getattr(self, name)
            object.__setattr__(self, name, in_network_order(layers))
        for value, choices, what in (
            (self.pooling, POOLINGS, "pooling"),
            (self.padding, PADDINGS, "padding"),
            (self.variant, (*VARIANTS, *STEP_VARIANTS), "variant"),
        ):
            if value not in choices:
                raise OptionError(f"There is no {what} '{value}'; choose {', '.join(choices)}.")
        losses = {*self.content_layers, *self.style_layers}
        if losses != (set(self.taps) if self.is_step else set()):
            raise OptionError(
                f"The layers of a model's losses are its taps in the variants "
                f"{', '.join(STEP_VARIANTS)}, and none in others."
            )

    @property
    def border(self) -> int:
        """Mirrored pixels by which a run extends a picture: 4 with ``replicate``."""
        return _BORDER if self.padding == "replicate" else 0

    @classmethod
    def for_losses(
        cls,
        layers: Iterable[str],
        *,
        weights: str = "oxford",
        pooling: Pooling = "max",
        padding: Padding = "replicate",
        normalize: bool = True,
    ) -> ModelSpec:
        """Specify the model for losses on ``layers`` and their gradient, for any engine."""
        return cls(
            taps=taps_for_gradient(layers),
            weights=weights,
            pooling=pooling,
            padding=padding,
            normalize=normalize,
        )

    @classmethod
    def for_step(
        cls,
        content_layers: Iterable[str],
        style_layers: Iterable[str],
        *,
        variant: StepVariant = "step",
        weights: str = "oxford",
        pooling: Pooling = "max",
        padding: Padding = "replicate",
        normalize: bool = True,
    ) -> ModelSpec:
        """Specify the model that computes a loss on these layers and its gradient.

        ``spec.as_variant("tile")`` is its counterpart for tiles. ``spec.as_variant("optimized")``
        outputs the features of its loss layers.
        """
        content, style = tuple(content_layers), tuple(style_layers)
        return cls(
            taps=(*content, *style),
            content_layers=content,
            style_layers=style,
            variant=variant,
            weights=weights,
            pooling=pooling,
            padding=padding,
            normalize=normalize,
        )

    @property
    def features(self) -> ModelSpec:
        """Specification of the feature model for the same losses, as of :meth:`for_losses`."""
        return type(self).for_losses(
            self.taps,
            weights=self.weights,
            pooling=self.pooling,
            padding=self.padding,
            normalize=self.normalize,
        )

    def as_variant(self, variant: Variant) -> ModelSpec:
        """Return the specification of another variant of the network.

        Feature variants drop the loss layers; build a step from them with :meth:`for_step`.
        """
        if variant in STEP_VARIANTS:
            return replace(self, variant=variant)
        return replace(self, variant=variant, content_layers=(), style_layers=())

    @property
    def is_step(self) -> bool:
        """True for :data:`STEP_VARIANTS`."""
        return self.variant in STEP_VARIANTS

    @property
    def layers(self) -> tuple[str, ...]:
        """All layers of the model, outputs or not."""
        return layers_through(self.taps)

    @property
    def weights_id(self) -> str:
        """Name of the weights, or SHA-256 of their file."""
        return self.weights if self.weights in WEIGHT_NAMES else file_sha256(self.weights)

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of all fields."""
        fields: dict[str, object] = {
            "taps": self.taps,
            "weights": self.weights_id,
            "pooling": self.pooling,
            "padding": self.padding,
            "normalize": self.normalize,
            "variant": self.variant,
        }
        if self.is_step:
            # Feature variants omit the loss layers, so that the keys of existing files stay valid.
            fields |= {"content_layers": self.content_layers, "style_layers": self.style_layers}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def file_name(self) -> str:
        """``vgg19-WEIGHTS-POOLING-PADDING-DEEPEST-VARIANT-KEY.onnx``."""
        weights = self.weights if self.weights in WEIGHT_NAMES else "file"
        words = ("vgg19", weights, self.pooling, self.padding, self.taps[-1], self.variant)
        return "-".join((*words, self.key)) + ".onnx"


def weights_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return description, licence, origin and SHA-256 of the weights from a model's metadata."""
    facts = {"description": metadata.get("nstrt.weights", "")}
    for name in ("licence", "origin", "sha256"):
        facts[name] = metadata.get(f"nstrt.weights.{name}", "")
    return facts


def file_sha256(path: str) -> str:
    """Return the SHA-256 of a weights file; raise :class:`WeightsError` if it cannot be read.

    Only a regular file of at most :data:`MAX_WEIGHTS_BYTES` is read.
    """
    # Path.expanduser raises an error for a user that does not exist.
    path = os.path.expanduser(path)
    try:
        stat = Path(path).stat()
        return _cached_sha256(path, stat.st_size, stat.st_mtime_ns)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no file has such a name"
        raise WeightsError(
            f"The weights '{path}' cannot be read ({reason}); give 'oxford', 'torchvision' or the "
            "path of a .pth, .safetensors or .h5 file."
        ) from error


@lru_cache(maxsize=16)
def _cached_sha256(path: str, size: int, modified: int) -> str:
    return sha256_of(Path(path), limit=MAX_WEIGHTS_BYTES)
