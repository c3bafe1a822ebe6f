"""Run style-transfer-pytorch's class from a checkout, with Adam.

Its loader of torchvision's weights is replaced, because they need a download.
"""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Any

from child import Child
from peer_weights import torchvision_features


def main() -> None:
    child = Child()
    child.limit_threads()
    from PIL import Image

    transfer = transfer_of(Path(child["checkout"]), child["device"])
    content = Image.open(child["content"]).convert("RGB")
    style = Image.open(child["style"]).convert("RGB")
    child.ready()
    size = max(child["size"])
    transfer.stylize(
        content,
        [style],
        min_scale=size,
        end_scale=size,
        initial_iterations=child["steps"],
        callback=lambda state: child.step(state.i, state.loss),
    )
    child.report("done")


def transfer_of(checkout: Path, device: str) -> Any:
    """Its class with the original weights."""
    module = library(checkout)
    # torchvision_features() uses torchvision's function, which is replaced below.
    network = types.SimpleNamespace(features=torchvision_features())
    module.models.vgg19 = lambda **_: network
    return module.StyleTransfer(devices=[device])


def library(checkout: Path) -> Any:
    """Import its module without the package's ``__init__``, which needs a web server."""
    package = types.ModuleType("style_transfer")
    package.__path__ = [str(checkout / "style_transfer")]
    sys.modules["style_transfer"] = package
    return importlib.import_module("style_transfer.style_transfer")


if __name__ == "__main__":
    main()
