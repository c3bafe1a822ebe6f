"""Compare predicted and measured peak memory of whole runs, one process each.

python benchmarks/memory.py [--sizes 256 512 1024] [--max-memory 1.5] [--more --protect mask.png]
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spawn import peak_memory

EXAMPLES = Path(__file__).parents[1] / "examples"
PHOTO, PAINTING = EXAMPLES / "ember.jpg", EXAMPLES / "night.jpg"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--content", type=Path, default=PHOTO)
    parser.add_argument("--style", type=Path, default=PAINTING)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--optimizers", nargs="+", default=["lbfgs", "adam"])
    parser.add_argument("--engines", nargs="+", default=["torch:fp32", "torch:bf16", "onnx:fp32"])
    parser.add_argument(
        "--max-memory", type=float, nargs="+", default=[0.0], help="in GB, for tiles; 0 for none"
    )
    parser.add_argument(
        "--more", nargs=argparse.REMAINDER, default=[], help="flags of nstrt stylize, at the end"
    )
    args = parser.parse_args(arguments)
    print("engine      optimizer   size  tiles  history  measured  predicted  ratio")
    for engine, optimizer, size, most in itertools.product(
        args.engines, args.optimizers, args.sizes, args.max_memory
    ):
        flags = ["--engine", engine.partition(":")[0], "--precision", engine.partition(":")[2]]
        flags += ["--optimizer", optimizer, "--size", str(size), "--iterations", str(args.steps)]
        flags += ["--max-memory", str(most)] if most else []
        flags += args.more
        try:
            measured, plan = run([str(args.content), str(args.style)], flags)
        except subprocess.CalledProcessError as error:
            print(f"{engine:<11} {optimizer:<10} {size:>5}  {error.stderr.splitlines()[-1]}")
            continue
        predicted, tile = plan["memory"], plan["scales"][-1]["tile"] or "-"
        print(
            f"{engine:<11} {optimizer:<10} {size:>5}  {tile:>5}  {plan['history']:>7}  "
            f"{measured / 1e9:>5.2f} GB  {predicted / 1e9:>6.2f} GB  {predicted / measured:>5.2f}",
            flush=True,
        )


def run(pictures: Sequence[str], flags: Sequence[str]) -> tuple[float, dict[str, Any]]:
    """Return the peak resident memory of a run of one scale in bytes, and the run's plan."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.png"
        command = [sys.executable, __file__, "--child", *pictures, "-o", str(out), *flags]
        command += ["--scales", "1", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    summary, peak = done.stdout.splitlines()
    return float(peak), json.loads(summary)["plan"]


def child(arguments: Sequence[str]) -> None:
    from nstrt.plugins.cli.app import run as nstrt

    code = nstrt(["stylize", *arguments])
    print(peak_memory())
    sys.exit(code)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
    else:
        main()
