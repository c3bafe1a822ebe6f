"""``nstrt import``: models that another machine exported."""

from __future__ import annotations

from pathlib import Path

import typer

from nstrt.plugins.cli.console import tell
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
        tell(f"{name}: {'copied' if copied else 'was there already'}")
    tell(f"in {store.folder}")
    return 0
