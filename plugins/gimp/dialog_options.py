"""The arguments of the filter's dialog: options of the runtime with labels and help.

Defaults, ranges and choices come from :data:`~nstrt.runtime.options.options.OPTIONS`. The plug-in
reads the list from ``nstrt.json``, because GIMP's own Python cannot import nstrt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nstrt.runtime.options.options import OPTIONS
from nstrt.runtime.options.presets import PRESETS
from nstrt.runtime.options.spec import Integer
from nstrt.runtime.planning.plan import default_size

__all__ = ["Argument", "arguments"]

LARGEST_INT = 2**31 - 1
"""GIMP's integers have 32 bits."""


@dataclass(frozen=True, kw_only=True)
class Argument:
    """One argument of the procedure ``plug-in-nstrt-stylize``."""

    name: str
    """Name in GIMP's procedure browser, with dashes."""

    option: str | None
    """Option that it sets; None if the plug-in derives options from it."""

    kind: str
    """``double``, ``int`` or ``choice``."""

    label: str
    """Label in the dialog, with an underscore before its mnemonic."""

    help: str
    """Tooltip."""

    default: float | int | str
    """Initial value."""

    least: float | None = None
    """Smallest value of a number."""

    most: float | None = None
    """Largest value of a number."""

    choices: tuple[tuple[str, str], ...] = ()
    """Values of a choice, each with its label."""

    unset: int | None = None
    """Value at which the option is not sent to the worker."""

    advanced: bool = False
    """True if it is in the fold Advanced."""


def arguments() -> list[dict[str, Any]]:
    """All arguments but image, layer and painting, in the dialog's order."""
    return [asdict(item) for item in _ARGUMENTS]


def _number(option: str, label: str, help: str, **more: Any) -> Argument:
    spec = OPTIONS[option]
    kind, maximum = "double", spec.range.maximum
    if isinstance(spec.kind, Integer):
        kind, maximum = "int", min(maximum or LARGEST_INT, LARGEST_INT)
    return Argument(
        name=spec.dashed_name,
        option=option,
        kind=kind,
        label=label,
        help=help,
        default=spec.default,
        least=spec.range.minimum,
        most=maximum,
        **more,
    )


def _choice(option: str, label: str, help: str, words: Mapping[str, str], **more: Any) -> Argument:
    spec = OPTIONS[option]
    return Argument(
        name=spec.dashed_name,
        option=option,
        kind="choice",
        label=label,
        help=help,
        default=spec.default,
        choices=tuple(words.items()),
        **more,
    )


def _steps(preset: str) -> str:
    return f"{PRESETS[preset].schedule[0]} steps at the coarsest scale"


_ARGUMENTS = (
    _number(
        "strength",
        "S_trength",
        "How strongly the painting takes hold: 0 barely touches the photo, 1 is all painting.",
    ),
    Argument(
        name="detail",
        option=None,
        kind="choice",
        label="_Detail",
        help="The size at which the picture is painted before it is brought up to the layer's "
        "size. More detail takes longer; the time is shown below.",
        default="normal",
        choices=(
            ("draft", "Draft (256 pixels)"),
            ("normal", f"Normal ({default_size('cpu')} pixels, more with a graphics card)"),
            ("fine", "Fine (768 pixels)"),
            ("full", "Full size of the layer"),
        ),
    ),
    _number(
        "style_scale",
        "Stro_ke size",
        "Size of the painting's strokes against the photo: 0.5 is finer, 2 is coarser.",
    ),
    _choice(
        "color",
        "Colo_urs of",
        "The painting's colours, or the photo's own with the painting's strokes. Matched before: "
        "one is first given the other's palette, so that the result has it whole, even at a low "
        "strength.",
        {
            "style": "The painting",
            "content": "The photo",
            "match-style": "The painting, matched before",
            "match-content": "The photo, matched before",
        },
    ),
    _choice(
        "preset",
        "_Quality",
        "How long the picture is worked on.",
        {
            "fast": f"Fast ({_steps('fast')})",
            "balanced": f"Balanced ({_steps('balanced')})",
            "best": f"Best ({_steps('best')})",
        },
    ),
    _number(
        "seed",
        "S_eed",
        "Only for pictures that start from noise: each number gives another picture, the same "
        "number the same one.",
    ),
    Argument(
        name="size",
        option="size",
        kind="int",
        label="_Work at (pixels)",
        help="Long side in pixels at which the picture is painted; 0 leaves it to Detail.",
        default=0,
        least=0,
        most=LARGEST_INT,
        unset=0,
        advanced=True,
    ),
    Argument(
        name="iterations",
        option="iterations",
        kind="int",
        label="_Iterations",
        help="Steps at each scale; 0 leaves them to Quality.",
        default=0,
        least=0,
        most=OPTIONS["iterations"].range.maximum,
        unset=0,
        advanced=True,
    ),
    _choice(
        "color_match",
        "Match colours _by",
        "Where colours are matched before: how closely. The histogram comes closer, with more "
        "contrast and grain.",
        {"covariance": "Mean and spread", "histogram": "Histogram"},
        advanced=True,
    ),
    _choice(
        "style_loss",
        "Compare st_yles by",
        "How the picture's style is compared with the painting's: by Gatys' Gram matrices, or by "
        "means and covariances (Wasserstein), which take more of the painting's palette.",
        {"gram": "Gram matrices", "w2": "Means and covariances"},
        advanced=True,
    ),
    _choice(
        "style_margin",
        "Margin of paintin_g",
        "A plain margin or frame around the painting: part of its style, or left out.",
        {"keep": "Part of the style", "crop": "Left out"},
        advanced=True,
    ),
    _number(
        "tv_weight",
        "S_moothness",
        "How smooth the paint is (total variation); 0 leaves all grain.",
        advanced=True,
    ),
    _choice(
        "init",
        "Start _from",
        "What the painting starts from.",
        {"content": "The photo", "noise": "Noise", "gray": "Plain gray"},
        advanced=True,
    ),
)
