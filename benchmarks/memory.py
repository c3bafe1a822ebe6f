"""Predicted against measured peak memory of whole runs, one process each.

python benchmarks/memory.py [--sizes 256 512 768]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"
PHOTO, PAINTING = EXAMPLES / "ember.jpg", EXAMPLES / "night.jpg"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 768])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--optimizers", nargs="+", default=["lbfgs", "adam"])
    given = parser.parse_args(arguments)
    print("engine  optimizer   size  measured  predicted  ratio")
    for engine in ("onnx", "torch"):
        for optimizer in given.optimizers:
            for size in given.sizes:
                measured, predicted = run(engine, optimizer, size, given.steps)
                print(
                    f"{engine:<7} {optimizer:<10} {size:>5}  {measured / 1e9:>5.2f} GB  "
                    f"{predicted / 1e9:>6.2f} GB  {predicted / measured:>5.2f}",
                    flush=True,
                )


def run(engine: str, optimizer: str, size: int, steps: int) -> tuple[float, float]:
    """Bytes of resident memory at the peak of one run, and what its plan predicted."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.png"
        command = [sys.executable, __file__, "--child", str(PHOTO), str(PAINTING), "-o", str(out)]
        command += ["--size", str(size), "--scales", "1", "--iterations", str(steps), "--json"]
        command += ["--engine", engine, "--optimizer", optimizer]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    summary, peak = done.stdout.splitlines()
    return float(peak) * 1024, json.loads(summary)["plan"]["memory"]


def child(arguments: Sequence[str]) -> None:
    from nstrt.plugins.cli.app import run as nstrt

    nstrt(["stylize", *arguments])
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
    else:
        main()
