"""What a model file is: everything that shapes it, and the key that follows from that."""

from __future__ import annotations

import hashlib
import json
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
    "weights_of",
]

FORMAT = 1
"""Version of the model files' layout. A file of another format is rebuilt when it is met."""

Pooling = Literal["max", "avg", "avg-unscaled"]
Padding = Literal["zero", "replicate"]
FeatureVariant = Literal["plain", "optimized", "fp16"]
StepVariant = Literal["step", "step-fp16", "step-bf16", "tile", "tile-fp16", "tile-bf16"]
Variant = FeatureVariant | StepVariant

POOLINGS: tuple[str, ...] = get_args(Pooling)
PADDINGS: tuple[str, ...] = get_args(Padding)
VARIANTS: tuple[FeatureVariant, ...] = get_args(FeatureVariant)
"""Kinds of file that give out features."""
STEP_VARIANTS: tuple[StepVariant, ...] = get_args(StepVariant)
"""Kinds of file that give out a gradient: see ``model.step_io``."""

WEIGHT_NAMES = ("oxford", "torchvision")
"""Weights known by name; anything else is the path of a file."""


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A VGG19 feature model: equal specifications mean byte-identical files."""

    taps: tuple[str, ...]
    """Layers that the model gives out, in network order; the model ends at the deepest."""

    weights: str = "oxford"
    """``oxford``, ``torchvision``, or the path of a ``.pth``, ``.safetensors`` or ``.h5`` file."""

    pooling: Pooling = "max"
    """2x2 with stride 2: ``max`` as VGG was trained; ``avg`` as Gatys et al. (2016) suggest, times
    sqrt(2), which keeps activations at the size the later layers were trained for; or
    ``avg-unscaled``, the plain mean, which published recipes use."""

    padding: Padding = "replicate"
    """What lies beyond the picture for conv1_1: ``zero`` as VGG was trained, or ``replicate``,
    the picture's own edge, against frames. All later layers pad with zeros."""

    normalize: bool = True
    """Subtract the mean and divide by the deviation that the weights were trained with. Without
    it the picture is only brought to the weights' own range of values."""

    variant: Variant = "plain"
    """``plain`` as traced (the mirrored graph reads it), ``optimized`` by ONNX Runtime, or
    ``fp16``, traced in half precision for GPUs; or one of :data:`STEP_VARIANTS`, which compute
    a ``step``'s loss and gradient or a ``tile``'s gradient, with convolutions in single or half
    precision."""

    content_layers: tuple[str, ...] = ()
    """Layers of the content loss inside a step or tile; empty for other variants."""

    style_layers: tuple[str, ...] = ()
    """Layers of the style loss inside a step or tile; empty for other variants."""

    def __post_init__(self) -> None:
        if not self.taps:
            raise OptionError("A model needs at least one layer to give out.")
        for name in ("taps", "content_layers", "style_layers"):
            layers: tuple[str, ...] = getattr(self, name)
            object.__setattr__(self, name, in_network_order(layers))
        for value, known, what in (
            (self.pooling, POOLINGS, "pooling"),
            (self.padding, PADDINGS, "padding"),
            (self.variant, (*VARIANTS, *STEP_VARIANTS), "variant"),
        ):
            if value not in known:
                raise OptionError(f"There is no {what} '{value}'; choose {', '.join(known)}.")
        losses = {*self.content_layers, *self.style_layers}
        if losses != (set(self.taps) if self.is_step else set()):
            raise OptionError(
                f"The layers of a model's losses are its taps in the variants "
                f"{', '.join(STEP_VARIANTS)}, and none in others."
            )

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
        """The model that serves losses on ``layers`` and their gradient, whatever the engine."""
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
        """The model that computes a loss on these layers and its gradient by itself.

        ``spec.as_variant("tile")`` is its companion for tiles, ``spec.as_variant("optimized")``
        gives out the features of its loss layers.
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
        """The model that gives out features for the same losses, as :meth:`for_losses` has it."""
        return type(self).for_losses(
            self.taps,
            weights=self.weights,
            pooling=self.pooling,
            padding=self.padding,
            normalize=self.normalize,
        )

    def as_variant(self, variant: Variant) -> ModelSpec:
        """The same network as another kind of file.

        What only gives out features forgets which loss looks at which layer, so the way from
        there to a step is :meth:`for_step`.
        """
        if variant in STEP_VARIANTS:
            return replace(self, variant=variant)
        return replace(self, variant=variant, content_layers=(), style_layers=())

    @property
    def is_step(self) -> bool:
        """Whether it is one of :data:`STEP_VARIANTS`."""
        return self.variant in STEP_VARIANTS

    @property
    def layers(self) -> tuple[str, ...]:
        """All layers inside the model, given out or not."""
        return layers_through(self.taps)

    @property
    def weights_id(self) -> str:
        """The weights' name, or the SHA-256 of their file: the same wherever the file lies."""
        return self.weights if self.weights in WEIGHT_NAMES else file_sha256(self.weights)

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that stand for everything that shapes the file."""
        shape: dict[str, object] = {
            "taps": self.taps,
            "weights": self.weights_id,
            "pooling": self.pooling,
            "padding": self.padding,
            "normalize": self.normalize,
            "variant": self.variant,
        }
        if self.is_step:
            # Only there: the keys of other files are as old as those.
            shape |= {"content_layers": self.content_layers, "style_layers": self.style_layers}
        return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def file_name(self) -> str:
        """``vgg19-WEIGHTS-POOLING-PADDING-DEEPEST-VARIANT-KEY.onnx``."""
        weights = self.weights if self.weights in WEIGHT_NAMES else "file"
        words = ("vgg19", weights, self.pooling, self.padding, self.taps[-1], self.variant)
        return "-".join((*words, self.key)) + ".onnx"


def weights_of(metadata: Mapping[str, str]) -> dict[str, str]:
    """What a model file's metadata says of its weights: description, licence, origin, SHA-256."""
    found = {"description": metadata.get("nstrt.weights", "")}
    for name in ("licence", "origin", "sha256"):
        found[name] = metadata.get(f"nstrt.weights.{name}", "")
    return found


def file_sha256(path: str) -> str:
    """SHA-256 of a weights file; :class:`WeightsError` if it cannot be read."""
    try:
        path = str(Path(path).expanduser())
        stat = Path(path).stat()
        return _hashed(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise WeightsError(
            f"The weights '{path}' cannot be read ({error.strerror}); give 'oxford', "
            "'torchvision' or the path of a .pth, .safetensors or .h5 file."
        ) from error


@lru_cache(maxsize=16)
def _hashed(path: str, size: int, changed: int) -> str:
    return sha256_of(Path(path))
