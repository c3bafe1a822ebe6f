"""``nstrt import``: models that another machine exported."""

from __future__ import annotations

from pathlib import Path

import typer

from nstrt.plugins.cli.console import print_out
from nstrt.runtime.model.store import ModelStore

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "import"
EXAMPLES = """
nstrt import models
"""


def command(
    folder: Path = typer.Argument(
        metavar="FOLDER", help="What 'nstrt export --for lite --folder FOLDER' made."
    ),
) -> int:
    """Take over models that were exported elsewhere; it needs neither torch nor onnx."""
    store = ModelStore()
    taken = store.take(folder)
    for name, copied in taken.items():
        print_out(f"{name}: {'copied' if copied else 'was there already'}")
    print_out(f"in {store.folder}")
    return 0
