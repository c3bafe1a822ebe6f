"""``nstrt export``: VGG19's feature layers as checked ONNX files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nstrt.plugins.cli.console import tell
from nstrt.runtime.model.errors import OptionError, PackageMissingError
from nstrt.runtime.model.layers import in_network_order
from nstrt.runtime.model.spec import PADDINGS, POOLINGS, VARIANTS, ModelSpec
from nstrt.runtime.model.store import ModelStore
from nstrt.runtime.options import StylizeOptions, parse_layers

if TYPE_CHECKING:
    from nstrt.exporter import Export

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "export"
EXAMPLES = """
nstrt export
nstrt export --pooling avg --variant plain --variant fp16
nstrt export --layers relu1_1,relu2_1,relu3_1 --folder models
"""

_DEFAULTS = StylizeOptions.of()


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
        metavar="|".join(VARIANTS),
        help="Kinds of file, may be repeated. Default: all.",
        show_default=False,
    ),
    folder: Path = typer.Option(
        None,
        metavar="FOLDER",
        help="Where to write. Default: the cache, where nstrt stylize looks.",
        show_default=False,
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON list on stdout."),
) -> int:
    """Export VGG19's feature layers to ONNX files, each checked against PyTorch."""
    given: dict[str, Any] = {"weights": weights, "pooling": pooling, "padding": padding}
    for name in variant or ():
        if name not in VARIANTS:
            raise OptionError(f"--variant cannot be '{name}'; choose {', '.join(VARIANTS)}.")
    if layers:
        taps = in_network_order(name for name, _ in parse_layers(layers))
        spec = ModelSpec(taps=taps, **given)
    else:
        spec = StylizeOptions.of(**given).spec
    try:
        from nstrt.exporter import export_all
    except ImportError as error:
        raise PackageMissingError(
            'Exporting needs torch and onnx; install them with: pip install "nstrt[full]"'
        ) from error
    store = ModelStore(folder)
    done: list[Export] = []
    if not as_json:
        tell(f"{'file':<62} {'size':>8} {'taps':>4} {'largest error':>21} {'seconds':>7}")
    for export in export_all(spec, store, variant or None):  # type: ignore[arg-type]
        done.append(export)
        if not as_json:
            tell(_row(export))
    if as_json:
        tell(json.dumps([_as_dict(export) for export in done]))
    else:
        tell(f"in {store.folder}")
    return 0


def _row(export: Export) -> str:
    check = export.check
    error = f"{check.largest_error:.1e} (at most {check.tolerance:.0e})"
    return (
        f"{export.path.name:<62} {export.size / 1e6:>5.1f} MB {len(export.spec.taps):>4} "
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
