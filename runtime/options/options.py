"""The options of a run: one frozen, validated dataclass, and the specification of each option.

Command line, tables, worker and GIMP's dialog read :data:`OPTIONS`; no default is stated twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

from nstrt.runtime.errors import OptionError
from nstrt.runtime.model import PADDINGS, POOLINGS, ModelSpec
from nstrt.runtime.options import choices
from nstrt.runtime.options.presets import PRESETS
from nstrt.runtime.options.spec import MAX_WEIGHT, LayerWeights, OptionSpec, option_field, specs_of
from nstrt.runtime.ort.providers import PRECISIONS, PROVIDERS
from nstrt.runtime.system.words import spelled

__all__ = ["MACHINE", "OPTIONS", "StylizeOptions"]

PICTURE, LOOK, EFFORT = "Picture", "Look", "Effort"
MACHINE, RECIPE = "Machine", "Published recipes"


@dataclass(frozen=True, kw_only=True, repr=False)
class StylizeOptions:
    """All options of a run. Make one with :meth:`of`, which starts from a preset."""

    preset: str = option_field(
        "balanced",
        "Where the other options start from: fast, balanced, best, or classic (the simplest "
        "published recipe).",
        group=PICTURE,
        choices=tuple(PRESETS),
    )
    """Preset that the other values started from."""

    size: int | None = option_field(
        None,
        "Long side of the result in pixels; more than the photo has enlarges it first. Default: "
        "what suits this machine, never more than the photo has.",
        group=PICTURE,
        minimum=16,
        maximum=1 << 16,
    )
    """Long side of the finest scale in pixels; None for the machine's default."""

    original_size: bool = option_field(
        False, "Enlarge the result to the photo's own size, with crisp strokes.", group=PICTURE
    )
    """Enlarge the result to the photo's size."""

    strength: float = option_field(
        0.5,
        "How strongly the painting takes hold, from 0 (barely touched) to 1 (all painting).",
        group=LOOK,
        minimum=0,
        maximum=1,
    )
    """Multiplies the content weight by 40^(1 - 2 strength): 40 at 0, 1 at 0.5, 1/40 at 1."""

    color: str = option_field(
        "style",
        "Whose colours the result has: the style's, or the content's (painted in lightness alone). "
        "match-style first gives the photo the painting's palette, for all of it even at a low "
        "strength; match-content gives the painting the photo's.",
        group=LOOK,
        choices=choices.COLORS,
    )
    """Picture that the result takes its colours from, or that is matched to the other before."""

    color_match: str = option_field(
        "covariance",
        "With --color match-style or match-content: match the colours' mean and covariance "
        "(gentle), or their whole histogram (closer, with more contrast and grain).",
        group=LOOK,
        choices=choices.MATCHES,
    )
    """Statistics of the colours that are matched: ``covariance`` or ``histogram``."""

    style_blend: tuple[float, ...] = option_field(
        (),
        "How much each of several paintings counts, such as 2,1,1: STYLE first, then each "
        "--add-style. Default: all the same.",
        group=LOOK,
        minimum=0,
        maximum=MAX_WEIGHT,
        flag_advice="give a weight for each painting, such as 2,1,1",
    )
    """Weight of each blended painting; empty for equal weights."""

    rest: str = option_field(
        "style",
        "What is where no --region is: the main painting's style, or the untouched photo.",
        group=LOOK,
        choices=choices.RESTS,
    )
    """Content outside all regions: ``style`` or ``photo``."""

    content_weight: float = option_field(
        0.1,
        "How much the photo counts; with style weight 1, from 0.002 (nearly all painting) to 3 "
        "(barely touched).",
        group=LOOK,
        minimum=0,
        maximum=MAX_WEIGHT,
    )
    """Weight of the content loss."""

    style_weight: float = option_field(
        1.0, "How much the painting counts.", group=LOOK, minimum=0, maximum=MAX_WEIGHT
    )
    """Weight of the style loss."""

    tv_weight: float = option_field(
        1.0,
        "How much smoothness counts (total variation).",
        group=LOOK,
        minimum=0,
        maximum=MAX_WEIGHT,
    )
    """Weight of the total variation."""

    temporal_weight: float = option_field(
        10.0,
        "How much a film's frame keeps of the one before (nstrt batch --frames).",
        group=LOOK,
        minimum=0,
        maximum=MAX_WEIGHT,
    )
    """Weight of the temporal loss; only film frames have one."""

    style_scale: float = option_field(
        1.0,
        "Size of the painting's strokes against the photo: 0.5 finer, 2 coarser.",
        group=LOOK,
        minimum=0.1,
        maximum=10,
    )
    """Scale of the style picture: its area is the content's area times the square."""

    style_margin: str = option_field(
        "keep",
        "A plain margin or frame around a painting: keep it as a part of the style, or crop it.",
        group=LOOK,
        choices=choices.MARGINS,
    )
    """What becomes of a painting's margin: ``keep`` or ``crop``."""

    content_layers: LayerWeights = option_field(
        choices.CONTENT_LAYERS,
        "Layers that hold the photo, with optional weights: relu4_2 or relu3_1,relu4_2:0.5.",
        group=LOOK,
    )
    """Layers of the content loss and their weights."""

    style_loss: str = option_field(
        "w2",
        "How styles are compared: by w2, the Wasserstein distance of means and covariances, which "
        "takes the painting's whole palette, or by Gatys' Gram matrices.",
        group=LOOK,
        choices=choices.STYLE_LOSSES,
    )
    """Loss of a style layer: ``w2`` or ``gram``."""

    style_layers: LayerWeights = option_field(
        choices.STYLE_LAYERS,
        "Layers that hold the painting, with optional weights. Deep ones hold its figures.",
        group=LOOK,
    )
    """Layers of the style loss and their weights."""

    pooling: str = option_field(
        "avg", "Pooling of the network: max weaves a fine grid.", group=LOOK, choices=POOLINGS
    )
    """Pooling of the network: :attr:`ModelSpec.pooling`."""

    padding: str = option_field(
        "replicate",
        "Beyond the picture's border: its own edge (no frames) or zeros, as VGG was trained.",
        group=LOOK,
        choices=PADDINGS,
    )
    """Padding of the picture: :attr:`ModelSpec.padding`."""

    init: str = option_field(
        "content",
        "What the painting starts from: content, noise, gray, or a picture file.",
        group=LOOK,
        file_words=choices.INITS,
    )
    """Start of the optimisation: ``content``, ``noise``, ``gray`` or the path of a picture."""

    seed: int = option_field(
        0, "Same seed, same picture, on the same machine.", group=LOOK, minimum=0, maximum=2**63 - 1
    )
    """Seed of the noise."""

    iterations: tuple[int, ...] = option_field(
        (),
        "Steps at each scale: one number, or a list from coarse to fine such as 100,50,25. "
        "Default: the preset's.",
        group=EFFORT,
        minimum=1,
        maximum=100_000,
        flag_advice="give one number, or a list such as 100,50,25",
    )
    """Steps of each scale from coarse to fine, or one number for all; empty for the preset's."""

    tolerance: float = option_field(
        2e-3,
        "Leave a scale when ten steps lower its loss by less than this share; 0 takes every step.",
        group=EFFORT,
        minimum=0,
        maximum=1,
    )
    """A scale ends once ten steps lower its loss by less than this share; 0 for never."""

    scales: int | None = option_field(
        None,
        "How many scales, each the square root of 2 finer than the last; 1 for none. Default: "
        "from about 128 pixels up.",
        group=EFFORT,
        minimum=1,
        maximum=32,
    )
    """Number of scales; None for a coarsest scale of about 128 pixels."""

    optimizer: str = option_field(
        "lbfgs", "How the picture is improved.", group=EFFORT, choices=choices.OPTIMIZERS
    )
    """``lbfgs`` or ``adam``."""

    learning_rate: float = option_field(
        0.02, "Adam's step, for pictures in 0..1.", group=EFFORT, exclusive_minimum=0, maximum=10
    )
    """Adam's learning rate, for images in 0..1."""

    adam_beta2: float = option_field(
        0.99,
        "How long Adam remembers the size of gradients.",
        group=RECIPE,
        exclusive_minimum=0,
        maximum=0.99999,
    )
    """Adam's decay rate of the second moment."""

    history: int = option_field(
        20,
        "Steps that L-BFGS remembers; each takes two pictures of memory.",
        group=EFFORT,
        minimum=1,
        maximum=200,
    )
    """Pairs of vectors in the history of L-BFGS."""

    engine: str = option_field(
        "auto",
        "What computes: auto measures once and takes the fastest; graph needs no torch.",
        group=MACHINE,
        choices=choices.ENGINES,
    )
    """Engine: ``onnx``, ``torch``, ``graph``, or ``auto`` for the fastest."""

    provider: str = option_field(
        "auto",
        "Where it computes: auto takes the best that is there.",
        group=MACHINE,
        choices=PROVIDERS,
    )
    """ONNX Runtime's execution provider; ``auto`` for the first that runs."""

    precision: str = option_field(
        "auto",
        "Number format of products: fp32; bf16 where the processor has it; tf32, bf16 and fp16 on "
        "NVIDIA cards.",
        group=MACHINE,
        choices=PRECISIONS,
    )
    """Number format of products. Sums, losses and the optimiser use single precision."""

    max_memory: float | None = option_field(
        None,
        "Most memory to take, in GB; what does not fit is painted in tiles, with the same result. "
        "Default: a safe share of what is free.",
        group=MACHINE,
        exclusive_minimum=0,
        maximum=1e6,
    )
    """Limit of memory in units of 10^9 bytes; the planner uses 95 % of it.

    None for a safe share of the free memory, on a card of the card's.
    """

    threads: int = option_field(
        0, "Processor threads; 0 for one per core.", group=MACHINE, minimum=0, maximum=1024
    )
    """Processor threads; 0 for one per physical core."""

    weights: str = option_field(
        "oxford",
        "VGG19's weights: oxford (the original ones, 8-bit quantised), torchvision (a download), "
        "auto (torchvision where it can be had, else oxford), or a .pth, .safetensors or .h5 file.",
        group=RECIPE,
        file_words=choices.NAMED_WEIGHTS,
    )
    """VGG19's weights: :attr:`ModelSpec.weights`; ``auto`` for torchvision's if available."""

    normalize: bool = option_field(
        True, "Normalise the picture as the weights were trained.", group=RECIPE
    )
    """Normalise the picture: :attr:`ModelSpec.normalize`."""

    relative: bool = option_field(
        True,
        "Divide each loss by its target's energy, so that weights mean the same everywhere.",
        group=RECIPE,
    )
    """Relative losses, with layer weights that sum to 1; False for raw sums."""

    gram_mean: bool = option_field(
        True, "Divide Gram matrices by the number of positions.", group=RECIPE
    )
    """Divide Gram matrices by the number of positions."""

    square: bool = option_field(
        False, "Squash photo and painting to squares of --size.", group=RECIPE
    )
    """Resize both pictures to ``size`` x ``size`` pixels."""

    clamp: bool = option_field(
        True, "Keep the picture in range at every step, not only when saved.", group=RECIPE
    )
    """Clamp the picture to 0..1 at every step."""

    keep: str = option_field(
        "best",
        "The picture of lowest loss, or the last one whatever its loss.",
        group=RECIPE,
        choices=("best", "last"),
    )
    """Picture that a scale returns: ``best`` for the lowest loss, or ``last``."""

    average: bool = option_field(
        True, "With Adam: the result is the average of the last iterates.", group=RECIPE
    )
    """Average Adam's last iterates."""

    def __post_init__(self) -> None:
        for name, spec in OPTIONS.items():
            spec.validate(getattr(self, name))
        if not self.content_layers and not self.style_layers:
            raise OptionError("There is nothing to paint for: name a content or a style layer.")
        if not self.content_layers and self.content_weight:
            raise OptionError("Without content layers the content weight must be 0.")
        if not self.style_layers and self.style_weight:
            raise OptionError("Without style layers the style weight must be 0.")
        if not (self.content_weight or self.style_weight):
            raise OptionError("Content weight and style weight cannot both be 0.")
        if self.style_blend and not sum(self.style_blend) > 0:
            raise OptionError(f"{spelled('style_blend')} must name at least one weight above 0.")
        if self.scales and len(self.iterations) > 1 and len(self.iterations) != self.scales:
            raise OptionError(
                f"{spelled('iterations')} lists {len(self.iterations)} scales and "
                f"{spelled('scales')} asks for {self.scales}; give one number of steps, or one "
                "for each scale."
            )

    def __repr__(self) -> str:
        defaults = StylizeOptions.of(self.preset).as_dict()
        changed = [
            f", {name}={value!r}"
            for name, value in self.as_dict().items()
            if value != defaults[name]
        ]
        return f"StylizeOptions.of({self.preset!r}{''.join(changed)})"

    @classmethod
    def of(cls, preset: str = "balanced", **values: Any) -> StylizeOptions:
        """The options of a preset, with ``values`` in place of the preset's.

        Raises :class:`OptionError` for an unknown name or a bad value.
        """
        if preset not in PRESETS:
            raise OptionError(f"There is no preset '{preset}'; choose {', '.join(PRESETS)}.")
        for name in values:
            if name not in OPTIONS:
                near = get_close_matches(name, OPTIONS, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else "."
                raise OptionError(f"There is no option '{name}'{hint}")
        converted = {
            name: spec.convert(values[name]) for name, spec in OPTIONS.items() if name in values
        }
        return cls(**{**PRESETS[preset].values, "preset": preset, **converted})

    @property
    def spec(self) -> ModelSpec:
        """The model of the features that the losses need."""
        return ModelSpec.for_losses(
            [name for name, _ in (*self.content_layers, *self.style_layers)], **self._network
        )

    @property
    def step_spec(self) -> ModelSpec:
        """The model that computes the loss and its gradient."""
        return ModelSpec.for_step(
            [name for name, _ in self.content_layers],
            [name for name, _ in self.style_layers],
            **self._network,
        )

    @property
    def _network(self) -> dict[str, Any]:
        names = ("weights", "pooling", "padding", "normalize")
        return {name: getattr(self, name) for name in names}

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers of the losses, each once."""
        return tuple(dict.fromkeys(name for name, _ in (*self.content_layers, *self.style_layers)))

    @property
    def effective_content_weight(self) -> float:
        """The content weight after ``strength``."""
        return float(self.content_weight * 40 ** (1 - 2 * self.strength))

    @property
    def schedule(self) -> tuple[int, ...]:
        """Steps from coarse to fine: ``iterations``, or the preset's."""
        return self.iterations or PRESETS[self.preset].schedule_of(self.optimizer)

    @property
    def frame_steps(self) -> int:
        """Steps of a film's frames after the first: the last of ``iterations``, or the preset's."""
        return (self.iterations or PRESETS[self.preset].frame_schedule_of(self.optimizer))[-1]

    def as_dict(self) -> dict[str, Any]:
        """Plain values by name, for a result's recipe."""
        return asdict(self)


OPTIONS: Mapping[str, OptionSpec] = specs_of(StylizeOptions)
"""The specification of each option by its name, in the order of the help."""
