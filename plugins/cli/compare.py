"""``nstrt compare``: differences of two pictures, and their losses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from nstrt.plugins.cli.console import print_out
from nstrt.plugins.cli.flags import given_options, with_option_flags
from nstrt.plugins.cli.parameters import AsJson, input_argument, input_option, takes
from nstrt.runtime.errors import OptionError

if TYPE_CHECKING:
    from nstrt.runtime.analysis.compare import Difference, PictureLosses

__all__ = ["EXAMPLES", "Arguments", "command"]

EXAMPLES = """
nstrt compare one.png other.png
nstrt compare one.png other.png --size 256
nstrt compare one.png other.png --content photo.jpg --style painting.jpg
nstrt compare one.png other.png --content photo.jpg --style painting.jpg --json
"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The command line, but for the flags of :class:`StylizeOptions`."""

    a: Annotated[Path, input_argument(metavar="A", help="A picture.")]
    b: Annotated[Path, input_argument(metavar="B", help="Another.")]
    content: Annotated[
        Path | None,
        input_option(
            metavar="FILE",
            help="The photo of both: with the painting, the losses of A and B are shown.",
        ),
    ] = None
    style: Annotated[Path | None, input_option(metavar="FILE", help="The painting of both.")] = None
    style_mask: Annotated[
        Path | None,
        input_option(metavar="MASK", help="Where the mask is white, the painting counts."),
    ] = None
    as_json: AsJson = False


@with_option_flags(
    helps={"size": "Long side in pixels at which both are compared. Default: their own size."}
)
@takes(Arguments)
def command(arguments: Arguments, *, given: dict[str, Any]) -> int:
    """Show how far apart the pictures A and B are, at their own size or at --size."""
    options = given_options(given)
    content, style = arguments.content, arguments.style
    if (content is None) != (style is None):
        raise OptionError("Losses need both a photo and a painting: --content and --style.")
    if arguments.style_mask is not None and style is None:
        raise OptionError("--style-mask is of a painting; name that, too: --content and --style.")
    from nstrt.runtime.analysis.compare import compare, losses_of
    from nstrt.runtime.pictures import read_picture

    pictures = [read_picture(path) for path in (arguments.a, arguments.b)]
    notes = list(dict.fromkeys(note for picture in pictures for note in picture.notes))
    difference = compare(*pictures, size=options.size)
    losses = None
    if content is not None and style is not None:
        losses = losses_of(pictures, content, style, options, style_mask=arguments.style_mask)
    if arguments.as_json:
        facts: dict[str, Any] = {
            "a": str(arguments.a),
            "b": str(arguments.b),
            **difference.as_dict(),
            "notes": notes,
        }
        if losses is not None:
            facts["losses"] = dict(zip("ab", (item.as_dict() for item in losses), strict=True))
        print_out(json.dumps(facts))
        return 0
    for line in _difference_lines(difference):
        print_out(line)
    if losses is not None:
        for line in _loss_lines(*losses):
            print_out(line)
    for note in notes:
        print_out(note)
    return 0


def _difference_lines(difference: Difference) -> list[str]:
    size = f"{difference.width}x{difference.height} pixels"
    if difference.equal:
        return [f"equal, {size}"]
    lines = [
        f"different, {size}",
        f"{'':8}{'largest':>9}{'mean':>9}{'PSNR':>12}",
    ]
    rows = [("all", difference.max, difference.mean, difference.psnr)]
    rows += [(name, part.max, part.mean, part.psnr) for name, part in difference.channels.items()]
    for name, largest, mean, psnr in rows:
        lines.append(f"{name:8}{255 * largest:>9.2f}{255 * mean:>9.3f}{psnr:>9.2f} dB")
    return [
        *lines,
        "differences are in levels of 255",
        f"Delta E (CIE76): {difference.delta_e:.2f} on average, "
        f"{difference.delta_e_max:.1f} at most",
    ]


def _loss_lines(a: PictureLosses, b: PictureLosses) -> list[str]:
    rows = [("loss", a.loss, b.loss), ("content", a.content, b.content)]
    rows += _layers(a.content_layers, b.content_layers)
    rows += [("style", a.style, b.style), *_layers(a.style_layers, b.style_layers)]
    rows += [("tv", a.tv, b.tv)]
    return [
        f"{'losses':12}{'A':>12}{'B':>12}",
        *(f"{name:12}{first:>12.5g}{second:>12.5g}" for name, first, second in rows),
    ]


def _layers(a: Mapping[str, float], b: Mapping[str, float]) -> list[tuple[str, float, float]]:
    return [(f"  {name}", value, b[name]) for name, value in a.items()]
