"""``nstrt export``: ONNX files of VGG19's features, losses and gradients."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nstrt.plugins.cli.console import print_out
from nstrt.plugins.cli.parameters import takes
from nstrt.runtime.errors import OptionError, PackageMissingError
from nstrt.runtime.model.layers import in_network_order
from nstrt.runtime.model.spec import PADDINGS, POOLINGS, STEP_VARIANTS, VARIANTS, ModelSpec
from nstrt.runtime.model.store import ModelStore
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.options.spec import parse_layers
from nstrt.runtime.system.memory import BUILDING_BYTES, is_out_of_memory, too_large

if TYPE_CHECKING:
    from nstrt.exporter import Export

__all__ = ["EXAMPLES", "Arguments", "command"]

EXAMPLES = """
nstrt export
nstrt export --pooling avg --variant plain --variant fp16
nstrt export --layers relu1_1,relu2_1,relu3_1 --folder features
nstrt export --for lite --folder models
"""

_DEFAULTS = StylizeOptions.of()

NAME_WIDTH = 62
"""Width in characters of the longest file name with the default options."""

LITE = ("step", "tile")
"""Variants that a machine without torch needs besides ``plain``: loss and gradient."""

Jobs = list[tuple[ModelSpec, Sequence[str]]]
"""Networks, each with the variants to make of it; an empty sequence means all."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The command line."""

    weights: Annotated[
        str, typer.Option(help="oxford, torchvision, or a .pth, .safetensors or .h5 file.")
    ] = _DEFAULTS.weights
    pooling: Annotated[str, typer.Option(metavar="|".join(POOLINGS), help="Pooling.")] = (
        _DEFAULTS.pooling
    )
    padding: Annotated[
        str, typer.Option(metavar="|".join(PADDINGS), help="Padding of the picture.")
    ] = _DEFAULTS.padding
    layers: Annotated[
        str | None,
        typer.Option(
            metavar="LAYERS",
            help="Exactly the layers to give out. Default: those that nstrt stylize needs.",
            show_default=False,
        ),
    ] = None
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VARIANT",
            help="Kinds of file, may be repeated: "
            f"{', '.join((*VARIANTS, *STEP_VARIANTS))}. Default: all.",
            show_default=False,
        ),
    ] = None
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where to write. Default: the cache, where nstrt stylize looks.",
            show_default=False,
        ),
    ] = None
    purpose: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="lite",
            help="Exactly the files that a machine without torch needs, into --folder, for nstrt "
            "import there.",
            show_default=False,
        ),
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list on stdout.")] = False


@takes(Arguments)
def command(arguments: Arguments) -> int:
    """Export VGG19 to ONNX files, each checked against PyTorch."""
    jobs = _jobs(arguments)
    try:
        from nstrt.exporter import export_all, specs_of
    except ImportError as error:
        if is_out_of_memory(error):
            raise too_large("Exporting the network", BUILDING_BYTES) from error
        raise PackageMissingError(
            'Exporting needs torch and onnx; install them with: pip install "nstrt[full]"'
        ) from error
    store = ModelStore(arguments.folder)
    if arguments.folder is not None:
        for spec, variants in jobs:
            store.check_replaceable(specs_of(spec, variants or None))  # type: ignore[arg-type]
    as_table = not arguments.as_json
    exports: list[Export] = []
    if as_table:
        print_out(_HEADER)
    for spec, variants in jobs:
        for export in export_all(spec, store, variants or None):  # type: ignore[arg-type]
            exports.append(export)
            if as_table:
                print_out(_row(export))
    if not as_table:
        print_out(json.dumps([_as_dict(export) for export in exports]))
        return 0
    print_out(f"in {store.folder}")
    if arguments.purpose:
        print_out(
            f"Carry that folder to the other machine and run there: nstrt import {arguments.folder}"
        )
    return 0


def _jobs(arguments: Arguments) -> Jobs:
    """The files to make; raises :class:`OptionError` for flags that contradict each other."""
    network = {
        "weights": arguments.weights,
        "pooling": arguments.pooling,
        "padding": arguments.padding,
    }
    if arguments.purpose is not None:
        _check_purpose(arguments)
        options = StylizeOptions.of(**network)
        return [(options.spec, ("plain",)), (options.step_spec, LITE)]
    variants = arguments.variant or ()
    known = (*VARIANTS, *STEP_VARIANTS)
    for name in variants:
        if name not in known:
            raise OptionError(f"--variant cannot be '{name}'; choose {', '.join(known)}.")
    features = [name for name in variants if name in VARIANTS]
    steps = [name for name in variants if name in STEP_VARIANTS]
    if arguments.layers:
        if steps:
            raise OptionError(
                f"--layers says which features to give out, and a {steps[0]} gives out none; "
                "leave one of the two out."
            )
        taps = in_network_order(name for name, _ in parse_layers(arguments.layers))
        return [(ModelSpec(taps=taps, **network), features)]  # type: ignore[arg-type]
    options = StylizeOptions.of(**network)
    jobs: Jobs = []
    if features or not variants:
        jobs.append((options.spec, features))
    if steps or not variants:
        jobs.append((options.step_spec, steps))
    return jobs


def _check_purpose(arguments: Arguments) -> None:
    if arguments.purpose != "lite":
        raise OptionError(f"--for cannot be '{arguments.purpose}'; it can be lite.")
    if arguments.layers or arguments.variant:
        raise OptionError(
            "--for lite chooses layers and variants itself; leave out --layers and --variant."
        )
    if arguments.folder is None:
        raise OptionError("--for lite needs a folder to carry; add for example --folder models.")


_HEADER = f"{'file':<{NAME_WIDTH}} {'size':>8} {'taps':>4} {'largest error':>21} {'seconds':>7}"


def _row(export: Export) -> str:
    check = export.check
    error = f"{check.largest_error:.1e} (at most {check.tolerance:.0e})"
    return (
        f"{export.path.name:<{NAME_WIDTH}} {export.size / 1e6:>5.1f} MB {len(export.spec.taps):>4} "
        f"{error:>21} {export.seconds:>7.1f}"
    )


def _as_dict(export: Export) -> dict[str, Any]:
    return {
        "path": str(export.path),
        "size": export.size,
        "taps": list(export.spec.taps),
        "largest_error": export.check.largest_error,
        "worst_tap": export.check.worst_tap,
        "tolerance": export.check.tolerance,
        "largest_value": export.check.largest_value,
        "seconds": round(export.seconds, 2),
    }
