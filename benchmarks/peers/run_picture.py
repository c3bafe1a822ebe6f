"""Paint one picture with a program's own full defaults, and save it.

Programs: ``nstrt``, of this checkout or another; ``pastiche``; ``style-transfer-pytorch``, from a
checkout. Reports the processor's seconds from the loaded program to the finished picture.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from child import Child


def main() -> None:
    child = Child()
    paint = {
        "nstrt": _nstrt,
        "pastiche": _pastiche,
        "style-transfer-pytorch": _style_transfer_pytorch,
    }[child["program"]](child)
    begun = time.process_time()
    steps = paint()
    child.report("done", seconds=time.process_time() - begun, steps=steps)


def _nstrt(child: Child) -> Callable[[], int]:
    if child["checkout"]:
        folder = tempfile.mkdtemp()
        os.symlink(Path(child["checkout"]).resolve(), Path(folder, "nstrt"))
        sys.path.insert(0, folder)
    from nstrt.runtime import StyleTransfer, StylizeOptions
    from nstrt.runtime.options.text import parse_option

    given = {name: parse_option(name, text) for name, text in child["options"].items()}
    # One precision and engine for all machines; a thread for each of the pictures beside this one.
    fixed = {"engine": "torch", "precision": "fp32", "threads": child["threads"]}
    options = StylizeOptions.of(**{**fixed, "size": child["size"], "seed": 1, **given})
    transfer = StyleTransfer(options, notify=lambda words: None)
    transfer.prepare()

    def paint() -> int:
        result = transfer.stylize(child["content"], child["style"])
        result.save(child["out"], overwrite=True)
        return result.steps

    return paint


def _pastiche(child: Child) -> Callable[[], int]:
    child.limit_threads()
    from pastiche.pastiche import PasticheArtist, save_image

    steps = 1000
    artist = PasticheArtist(child["content"], [child["style"]], device="cpu", size=child["size"])

    def paint() -> int:
        for _ in range(steps):
            artist.draw()
        save_image(artist.pastiche, child["out"])
        return steps

    return paint


def _style_transfer_pytorch(child: Child) -> Callable[[], int]:
    child.limit_threads()
    from PIL import Image
    from run_style_transfer_pytorch import transfer_of

    transfer = transfer_of(Path(child["checkout"]), "cpu")
    photo, painting = (Image.open(child[name]).convert("RGB") for name in ("content", "style"))
    steps: list[Any] = []

    def paint() -> int:
        transfer.stylize(photo, [painting], end_scale=child["size"], callback=steps.append)
        transfer.get_image().save(child["out"])
        return len(steps)

    return paint


if __name__ == "__main__":
    main()
