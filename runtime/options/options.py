"""The options of a run: one frozen, validated dataclass, from which every host takes its own.

The command line's flags, a worker's messages and a dialog are made from :class:`StylizeOptions`
or checked by it, so each default stands in one place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from nstrt.runtime.errors import OptionError
from nstrt.runtime.model import PADDINGS, POOLINGS, ModelSpec, check_layer
from nstrt.runtime.ort.providers import PRECISIONS, PROVIDERS

__all__ = [
    "COLORS",
    "ENGINES",
    "INITS",
    "MATCHES",
    "OPTIMIZERS",
    "PRESETS",
    "RESTS",
    "LayerWeights",
    "Preset",
    "StylizeOptions",
    "parse_layers",
]

ENGINES = ("auto", "onnx", "torch", "graph")
OPTIMIZERS = ("adam", "lbfgs")
INITS = ("content", "noise", "gray")
COLORS = ("style", "content", "match-style", "match-content")
MATCHES = ("covariance", "histogram")
RESTS = ("style", "photo")

LayerWeights = tuple[tuple[str, float], ...]
"""Layers with the weight of each."""


def parse_layers(text: str) -> LayerWeights:
    """Read ``relu1_1,relu2_1:0.5``; a layer without a weight has 1."""
    found: dict[str, float] = {}
    for part in (part.strip() for part in text.split(",") if part.strip()):
        name, _, weight = part.partition(":")
        try:
            found[check_layer(name.strip())] = float(weight or 1)
        except ValueError as error:
            if isinstance(error, OptionError):
                raise
            raise OptionError(
                f"'{weight}' is not a weight for {name}; write layers as relu1_1 or relu1_1:0.5, "
                "separated by commas."
            ) from error
    return tuple(found.items())


def _option(
    default: Any,
    help: str,
    *,
    group: str,
    choices: tuple[str, ...] = (),
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
) -> Any:
    """A field with what a host needs to offer it: its words, its group and its range."""
    metadata = {
        "help": help,
        "group": group,
        "choices": choices,
        "least": least,
        "most": most,
        "above": above,
    }
    return field(default=default, metadata=metadata)


HEAVIEST = 1e6
"""Largest weight: beyond it single precision has no room for the rest of the loss."""

LAYER_RANGE: Mapping[str, float | None] = {"least": None, "most": HEAVIEST, "above": 0.0}

PICTURE, LOOK, EFFORT, MACHINE, RECIPE = (
    "Picture",
    "Look",
    "Effort",
    "Machine",
    "Published recipes",
)


@dataclass(frozen=True, kw_only=True)
class StylizeOptions:
    """Everything that shapes a result. Make one with :meth:`of`, which starts from a preset."""

    preset: str = _option(
        "balanced",
        "Where the other options start from: fast, balanced, best, or classic (the simplest "
        "published recipe).",
        group=PICTURE,
        choices=("fast", "balanced", "best", "classic"),
    )
    """The preset that the other values started from."""

    size: int | None = _option(
        None,
        "Long side of the result in pixels; more than the photo has enlarges it first. Default: "
        "what suits this machine, never more than the photo has.",
        group=PICTURE,
        least=16,
        most=1 << 16,
    )
    """Long side in pixels of the finest scale; None for this machine's default."""

    original_size: bool = _option(
        False, "Bring the result up to the photo's own size.", group=PICTURE
    )
    """Enlarge the result to the photo's own size."""

    strength: float = _option(
        0.5,
        "How strongly the painting takes hold, from 0 (barely touched) to 1 (all painting).",
        group=LOOK,
        least=0,
        most=1,
    )
    """The content weight is multiplied by 10^(1 - 2 strength): tenfold at 0, as it is at a half,
    a tenth at 1."""

    color: str = _option(
        "style",
        "Whose colours the result has: the style's, or the content's (painted in lightness alone). "
        "match-style first gives the photo the painting's palette, for all of it even at a low "
        "strength; match-content gives the painting the photo's.",
        group=LOOK,
        choices=COLORS,
    )
    """``style``; ``content``: see :func:`gray_pair`;
    ``match-style`` or ``match-content``: see
    :func:`match_colours`."""

    color_match: str = _option(
        "covariance",
        "With --color match-style or match-content: match the colours' mean and covariance "
        "(gentle), or their whole histogram (closer, with more contrast and grain).",
        group=LOOK,
        choices=MATCHES,
    )
    """Which statistics of the colours are matched: ``covariance`` or ``histogram``."""

    style_blend: tuple[float, ...] = _option(
        (),
        "How much each of several paintings counts, such as 2,1,1: STYLE first, then each "
        "--add-style. Default: all the same.",
        group=LOOK,
        least=0,
        most=HEAVIEST,
    )
    """Weight of each painting that is blended; empty for equal ones."""

    rest: str = _option(
        "style",
        "What is where no --region is: the main painting's style, or the untouched photo.",
        group=LOOK,
        choices=RESTS,
    )
    """``style`` or ``photo``: what becomes of the picture outside of all regions."""

    content_weight: float = _option(
        0.15,
        "How much the photo counts; with style weight 1, from 0.03 (nearly all painting) to 1 "
        "(barely touched).",
        group=LOOK,
        least=0,
        most=HEAVIEST,
    )
    """Weight of the content loss."""

    style_weight: float = _option(
        1.0, "How much the painting counts.", group=LOOK, least=0, most=HEAVIEST
    )
    """Weight of the style loss."""

    tv_weight: float = _option(
        1.0, "How much smoothness counts (total variation).", group=LOOK, least=0, most=HEAVIEST
    )
    """Weight of the total variation."""

    temporal_weight: float = _option(
        10.0,
        "How much a film's frame keeps of the one before (nstrt batch --frames).",
        group=LOOK,
        least=0,
        most=HEAVIEST,
    )
    """Weight of the temporal loss, of a film's frames alone."""

    style_scale: float = _option(
        1.0,
        "Size of the painting's strokes against the photo: 0.5 finer, 2 coarser.",
        group=LOOK,
        least=0.1,
        most=10,
    )
    """The style picture's area is the content's times the square of this."""

    content_layers: LayerWeights = _option(
        (("relu3_2", 1.0), ("relu4_2", 1.0)),
        "Layers that hold the photo, with optional weights: relu4_2 or relu3_1,relu4_2:0.5.",
        group=LOOK,
    )
    """Layers of the content loss and their weights."""

    style_layers: LayerWeights = _option(
        tuple((f"relu{block}_1", 1.0) for block in range(1, 6)),
        "Layers that hold the painting, with optional weights.",
        group=LOOK,
    )
    """Layers of the style loss and their weights."""

    pooling: str = _option("max", "Pooling of the network.", group=LOOK, choices=POOLINGS)
    """See :attr:`ModelSpec.pooling`."""

    padding: str = _option(
        "replicate",
        "Beyond the picture's border: its own edge (no frames) or zeros, as VGG was trained.",
        group=LOOK,
        choices=PADDINGS,
    )
    """See :attr:`ModelSpec.padding`."""

    init: str = _option(
        "content",
        "What the painting starts from: content, noise, gray, or a picture file.",
        group=LOOK,
    )
    """``content``, ``noise``, ``gray`` or the path of a picture."""

    seed: int = _option(
        0, "Same seed, same picture, on the same machine.", group=LOOK, least=0, most=2**63 - 1
    )
    """Seed of the noise."""

    iterations: tuple[int, ...] = _option(
        (),
        "Steps at each scale: one number, or a list from coarse to fine such as 100,50,25. "
        "Default: the preset's.",
        group=EFFORT,
        least=1,
        most=100_000,
    )
    """Steps at each scale, one number or one for each from coarse to fine; empty for the
    preset's."""

    tolerance: float = _option(
        2e-3,
        "Leave a scale when ten steps lower its loss by less than this share; 0 takes every step.",
        group=EFFORT,
        least=0,
        most=1,
    )
    """Share of the loss that ten steps have to gain for a scale to go on."""

    scales: int | None = _option(
        None,
        "How many scales, each the square root of 2 finer than the last; 1 for none. Default: "
        "from about 128 pixels up.",
        group=EFFORT,
        least=1,
        most=32,
    )
    """Number of scales; None for as many as lead from about 128 pixels up."""

    optimizer: str = _option(
        "lbfgs", "How the picture is improved.", group=EFFORT, choices=OPTIMIZERS
    )
    """``lbfgs`` or ``adam``."""

    learning_rate: float = _option(
        0.02, "Adam's step, for pictures in 0..1.", group=EFFORT, above=0, most=10
    )
    """Adam's learning rate for images in 0..1."""

    adam_beta2: float = _option(
        0.99,
        "How long Adam remembers the size of gradients.",
        group=RECIPE,
        above=0,
        most=0.99999,
    )
    """Adam's decay of the second moment."""

    history: int = _option(
        20,
        "Steps that L-BFGS remembers; each takes two pictures of memory.",
        group=EFFORT,
        least=1,
        most=200,
    )
    """Pairs in the history of L-BFGS."""

    engine: str = _option(
        "auto",
        "What computes: auto measures once and takes the fastest; graph needs no torch.",
        group=MACHINE,
        choices=ENGINES,
    )
    """``onnx``, ``torch``, ``graph`` or ``auto``."""

    provider: str = _option(
        "auto",
        "Where it computes: auto takes the best that is there.",
        group=MACHINE,
        choices=PROVIDERS,
    )
    """ONNX Runtime's provider."""

    precision: str = _option(
        "auto",
        "Number format of products: fp32; bf16 where the processor has it; tf32, bf16 and fp16 on "
        "NVIDIA cards.",
        group=MACHINE,
        choices=PRECISIONS,
    )
    """``fp32``, ``tf32``, ``bf16``, ``fp16`` or ``auto``. Sums, losses and the optimiser are in
    single precision with each."""

    max_memory: float | None = _option(
        None,
        "Most memory to take, in GB; what does not fit is painted in tiles, with the same result. "
        "Default: a safe share of what is free.",
        group=MACHINE,
        above=0,
        most=1e6,
    )
    """Bytes of memory to take at most, in units of 10^9, 5 % of which are kept back; None for a
    safe share of what is free, of the card's where the network runs there."""

    threads: int = _option(
        0, "Processor threads; 0 for one per core.", group=MACHINE, least=0, most=1024
    )
    """Threads; 0 for one per physical core."""

    weights: str = _option(
        "oxford",
        "VGG19's weights: oxford (the original ones, 8-bit quantised), torchvision (a download), "
        "auto (torchvision where it can be had, else oxford), or a .pth, .safetensors or .h5 file.",
        group=RECIPE,
    )
    """See :attr:`ModelSpec.weights`; ``auto`` takes torchvision's where they
    can be had, and oxford's elsewhere."""

    normalize: bool = _option(
        True, "Normalise the picture as the weights were trained.", group=RECIPE
    )
    """See :attr:`ModelSpec.normalize`."""

    relative: bool = _option(
        True,
        "Divide each loss by its target's energy, so that weights mean the same everywhere.",
        group=RECIPE,
    )
    """Relative losses and layer weights with sum 1, or the raw sums."""

    gram_mean: bool = _option(
        True, "Divide Gram matrices by the number of positions.", group=RECIPE
    )
    """Whether Gram matrices are divided by the number of positions."""

    square: bool = _option(False, "Squash photo and painting to squares of --size.", group=RECIPE)
    """Squash both pictures to ``size`` x ``size``."""

    clamp: bool = _option(
        True, "Keep the picture in range at every step, not only when saved.", group=RECIPE
    )
    """Clamp the picture to 0..1 at every step."""

    keep: str = _option(
        "best",
        "The picture of lowest loss, or the last one whatever its loss.",
        group=RECIPE,
        choices=("best", "last"),
    )
    """Which picture a scale leaves: that of lowest loss, or the last."""

    average: bool = _option(
        True, "With Adam: the result is the average of the last iterates.", group=RECIPE
    )
    """Average Adam's last iterates."""

    def __post_init__(self) -> None:
        for item in fields(self):
            _check(item.name, getattr(self, item.name), str(item.type), item.metadata)
        if not self.content_layers and not self.style_layers:
            raise OptionError("There is nothing to paint for: name a content or a style layer.")
        if not self.content_layers and self.content_weight:
            raise OptionError("Without content layers the content weight must be 0.")
        if not self.style_layers and self.style_weight:
            raise OptionError("Without style layers the style weight must be 0.")
        if not (self.content_weight or self.style_weight):
            raise OptionError("Content weight and style weight cannot both be 0.")
        if self.style_blend and not sum(self.style_blend) > 0:
            raise OptionError("--style-blend must name at least one weight above 0.")
        if self.scales and len(self.iterations) > 1 and len(self.iterations) != self.scales:
            raise OptionError(
                f"--iterations lists {len(self.iterations)} scales and --scales asks for "
                f"{self.scales}; give one number of steps, or one for each scale."
            )

    @classmethod
    def of(cls, preset: str = "balanced", **given: Any) -> StylizeOptions:
        """The options of a preset with those ``given`` in place of its own.

        Raises :class:`OptionError` for an unknown name or a bad value.
        """
        if preset not in PRESETS:
            raise OptionError(f"There is no preset '{preset}'; choose {', '.join(PRESETS)}.")
        known = {item.name for item in fields(cls)}
        for name in given:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else "."
                raise OptionError(f"There is no option '{name}'{hint}")
        return cls(**{**PRESETS[preset].values, "preset": preset, **_as_fields(given)})

    @property
    def spec(self) -> ModelSpec:
        """The model that these options need."""
        return ModelSpec.for_losses(
            [name for name, _ in (*self.content_layers, *self.style_layers)],
            weights=self.weights,
            pooling=self.pooling,  # type: ignore[arg-type]
            padding=self.padding,  # type: ignore[arg-type]
            normalize=self.normalize,
        )

    @property
    def step_spec(self) -> ModelSpec:
        """The model that computes the loss of these options, and its gradient, by itself."""
        return ModelSpec.for_step(
            [name for name, _ in self.content_layers],
            [name for name, _ in self.style_layers],
            weights=self.weights,
            pooling=self.pooling,  # type: ignore[arg-type]
            padding=self.padding,  # type: ignore[arg-type]
            normalize=self.normalize,
        )

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that the loss looks at."""
        return tuple(dict.fromkeys(name for name, _ in (*self.content_layers, *self.style_layers)))

    @property
    def effective_content_weight(self) -> float:
        """The weight of the content loss: the content weight as ``strength`` changes it."""
        return self.content_weight * 10 ** (1 - 2 * self.strength)

    @property
    def schedule(self) -> tuple[int, ...]:
        """Steps from coarse to fine: those asked for, or the preset's."""
        if self.iterations:
            return self.iterations
        schedule, own = PRESETS[self.preset].schedule, PRESETS[self.preset].values
        if self.optimizer == "adam" and own.get("optimizer") != "adam":
            # The preset counts in steps of L-BFGS.
            return tuple(ADAM_STEPS * steps for steps in schedule)
        return schedule

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as they are recorded in a result."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named starting point."""

    schedule: tuple[int, ...]
    """Steps at the finest scales, the last number for the finest; coarser ones take the first."""

    values: Mapping[str, Any]
    """Options that differ from the defaults."""


ADAM_STEPS = 3
"""Steps of Adam that a preset takes for each step of L-BFGS: it gains less with each."""

PRESETS: Mapping[str, Preset] = {
    "fast": Preset(schedule=(60, 40, 25, 15), values={}),
    "balanced": Preset(schedule=(100, 70, 50, 35), values={}),
    "best": Preset(schedule=(200, 160, 120, 90), values={"history": 30}),
    "classic": Preset(
        schedule=(300,),
        values={
            "weights": "auto",
            "precision": "fp32",
            "normalize": False,
            "padding": "zero",
            "pooling": "avg-unscaled",
            "size": 512,
            "square": True,
            "scales": 1,
            "content_layers": tuple((f"relu{block}_1", 1.0) for block in range(2, 6)),
            "style_layers": tuple((f"relu{block}_1", 0.2) for block in range(2, 6)),
            "content_weight": 1.0,
            "tv_weight": 0.0,
            "style_weight": 3.0,
            "relative": False,
            "gram_mean": False,
            "optimizer": "adam",
            "learning_rate": 0.01,
            "adam_beta2": 0.999,
            "clamp": False,
            "average": False,
            "keep": "last",
            "tolerance": 0.0,
        },
    ),
}


def _as_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """Values as people write them in Python, turned into what the fields hold."""
    values = dict(given)
    for name in ("content_layers", "style_layers"):
        if name in values:
            values[name] = _layers(values[name])
    if "iterations" in values and not isinstance(values["iterations"], tuple):
        steps = values["iterations"]
        values["iterations"] = tuple(steps) if isinstance(steps, list) else (steps,)
    if isinstance(values.get("style_blend"), list):
        values["style_blend"] = tuple(values["style_blend"])
    return values


def _layers(value: Any) -> LayerWeights:
    if isinstance(value, str):
        return parse_layers(value)
    if isinstance(value, Mapping):
        return tuple(value.items())
    return tuple((item, 1.0) if isinstance(item, str) else (item[0], item[1]) for item in value)


def _check(name: str, value: Any, kind: str, rule: Mapping[str, Any]) -> None:
    """Raise :class:`OptionError` if a value is not of its field's kind, choices and range."""
    flag = "--" + name.replace("_", "-")
    if value is None and kind.endswith("| None"):
        return
    if kind == "bool":
        if not isinstance(value, bool):
            raise OptionError(f"{flag} must be True or False, not {value!r}.")
    elif kind == "str":
        if not isinstance(value, str):
            raise OptionError(f"{flag} must be a word, not {value!r}.")
        if rule["choices"] and value not in rule["choices"]:
            raise OptionError(f"{flag} cannot be '{value}'; choose {', '.join(rule['choices'])}.")
    elif kind == "LayerWeights":
        for layer, weight in value:
            check_layer(layer)
            _check_number(f"The weight of {layer} in {flag}", weight, LAYER_RANGE)
    else:
        whole = "int" in kind
        several = kind.startswith("tuple")
        if several and not isinstance(value, tuple):
            raise OptionError(f"{flag} must be a list of numbers, not {value!r}.")
        for number in value if several else (value,):
            _check_number(flag, number, rule, whole=whole)


def _check_number(
    what: str, number: Any, rule: Mapping[str, float | None], *, whole: bool = False
) -> None:
    kinds = (int,) if whole else (int, float)
    if isinstance(number, bool) or not isinstance(number, kinds) or not math.isfinite(number):
        raise OptionError(f"{what} must be a {'whole ' * whole}number, not {number!r}.")
    least, most, above = rule["least"], rule["most"], rule["above"]
    if least is not None and number < least:
        raise OptionError(f"{what} must be at least {least:g}, not {number:g}.")
    if above is not None and number <= above:
        raise OptionError(f"{what} must be above {above:g}, not {number:g}.")
    if most is not None and number > most:
        raise OptionError(f"{what} must be at most {most:g}, not {number:g}.")
