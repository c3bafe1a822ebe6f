"""``nstrt import``: copy models that another machine exported."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nstrt.plugins.cli.console import print_out
from nstrt.runtime.model.store import ModelStore

__all__ = ["EXAMPLES", "command"]

EXAMPLES = """
nstrt import models
"""


def command(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="What 'nstrt export --for lite --folder FOLDER' made."
        ),
    ],
) -> int:
    """Take over models that were exported elsewhere; it needs neither torch nor onnx."""
    store = ModelStore()
    for name, copied in store.import_folder(folder).items():
        print_out(f"{name}: {'copied' if copied else 'was there already'}")
    print_out(f"in {store.folder}")
    return 0
