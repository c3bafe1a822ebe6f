"""``nstrt export``: VGG19's features, losses and gradients as checked ONNX files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nstrt.plugins.cli.console import print_out
from nstrt.runtime.errors import OptionError, PackageMissingError
from nstrt.runtime.model.layers import in_network_order
from nstrt.runtime.model.spec import PADDINGS, POOLINGS, STEP_VARIANTS, VARIANTS, ModelSpec
from nstrt.runtime.model.store import ModelStore
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.options.spec import parse_layers

if TYPE_CHECKING:
    from nstrt.exporter import Export

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "export"
EXAMPLES = """
nstrt export
nstrt export --pooling avg --variant plain --variant fp16
nstrt export --layers relu1_1,relu2_1,relu3_1 --folder features
nstrt export --for lite --folder models
"""

_DEFAULTS = StylizeOptions.of()

WIDTH = 62
"""Letters of the longest file name of the default options."""

LITE = ("step", "tile")
"""What a machine without torch needs besides features: loss and gradient."""


def command(
    weights: str = typer.Option(
        _DEFAULTS.weights, help="oxford, torchvision, or a .pth, .safetensors or .h5 file."
    ),
    pooling: str = typer.Option(_DEFAULTS.pooling, metavar="|".join(POOLINGS), help="Pooling."),
    padding: str = typer.Option(
        _DEFAULTS.padding, metavar="|".join(PADDINGS), help="Padding of the picture."
    ),
    layers: str = typer.Option(
        None,
        metavar="LAYERS",
        help="Exactly the layers to give out. Default: those that nstrt stylize needs.",
        show_default=False,
    ),
    variant: list[str] = typer.Option(
        None,
        metavar="VARIANT",
        help=f"Kinds of file, may be repeated: {', '.join((*VARIANTS, *STEP_VARIANTS))}. "
        "Default: all that can be checked.",
        show_default=False,
    ),
    folder: Path = typer.Option(
        None,
        metavar="FOLDER",
        help="Where to write. Default: the cache, where nstrt stylize looks.",
        show_default=False,
    ),
    purpose: str = typer.Option(
        None,
        "--for",
        metavar="lite",
        help="Exactly the files that a machine without torch needs, into --folder, for nstrt "
        "import there.",
        show_default=False,
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON list on stdout."),
) -> int:
    """Export VGG19 to ONNX files, each checked against PyTorch."""
    given: dict[str, Any] = {"weights": weights, "pooling": pooling, "padding": padding}
    if purpose is not None:
        _check_purpose(purpose, layers, variant, folder)
        options = StylizeOptions.of(**given)
        jobs = [(options.spec, ("plain",)), (options.step_spec, LITE)]
    else:
        jobs = _jobs(given, layers, variant)
    try:
        from nstrt.exporter import export_all
    except ImportError as error:
        raise PackageMissingError(
            'Exporting needs torch and onnx; install them with: pip install "nstrt[full]"'
        ) from error
    store = ModelStore(folder)
    done: list[Export] = []
    if not as_json:
        print_out(f"{'file':<{WIDTH}} {'size':>8} {'taps':>4} {'largest error':>21} {'seconds':>7}")
    for spec, variants in jobs:
        for export in export_all(spec, store, variants or None):  # type: ignore[arg-type]
            done.append(export)
            if not as_json:
                print_out(_row(export))
    if as_json:
        print_out(json.dumps([_as_dict(export) for export in done]))
    else:
        print_out(f"in {store.folder}")
        if purpose:
            print_out(
                f"Carry that folder to the other machine and run there: nstrt import {folder}"
            )
    return 0


def _check_purpose(
    purpose: str, layers: str | None, variant: list[str] | None, folder: Path | None
) -> None:
    if purpose != "lite":
        raise OptionError(f"--for cannot be '{purpose}'; it can be lite.")
    if layers or variant:
        raise OptionError(
            "--for lite chooses layers and variants itself; leave out --layers and --variant."
        )
    if folder is None:
        raise OptionError("--for lite needs a folder to carry; add for example --folder models.")


def _jobs(
    given: dict[str, Any], layers: str | None, variant: list[str] | None
) -> list[tuple[ModelSpec, Sequence[str]]]:
    """Networks and the kinds of file to make of each; no kind means all."""
    known = (*VARIANTS, *STEP_VARIANTS)
    for name in variant or ():
        if name not in known:
            raise OptionError(f"--variant cannot be '{name}'; choose {', '.join(known)}.")
    features = [name for name in variant or () if name in VARIANTS]
    steps = [name for name in variant or () if name in STEP_VARIANTS]
    if layers:
        if steps:
            raise OptionError(
                f"--layers says which features to give out, and a {steps[0]} gives out none; "
                "leave one of the two out."
            )
        taps = in_network_order(name for name, _ in parse_layers(layers))
        return [(ModelSpec(taps=taps, **given), features)]
    options = StylizeOptions.of(**given)
    jobs: list[tuple[ModelSpec, Sequence[str]]] = []
    if features or not variant:
        jobs.append((options.spec, features))
    if steps or not variant:
        jobs.append((options.step_spec, steps))
    return jobs


def _row(export: Export) -> str:
    check = export.check
    error = f"{check.largest_error:.1e} (at most {check.tolerance:.0e})"
    return (
        f"{export.path.name:<{WIDTH}} {export.size / 1e6:>5.1f} MB {len(export.spec.taps):>4} "
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
