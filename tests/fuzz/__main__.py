"""Run all suites and print a table: ``make fuzz``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from fuzz.harness import MAX_MEMORY, MAX_SECONDS, run_suite
from fuzz.suite import SUITES


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("suites", nargs="*", choices=[*SUITES, []], help="all by default")
    parser.add_argument("--cases", type=int, help="cases of each suite")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=min(4, os.cpu_count() or 1))
    options = parser.parse_args()
    print("| suite | cases | read | refused | faults | longest | most memory |")
    print("|---|---|---|---|---|---|---|", flush=True)
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.suites or SUITES:
            tally = run_suite(
                name,
                options.cases or SUITES[name],
                folder=Path(folder),
                seed=options.seed,
                first=options.first,
                processes=options.processes,
            )
            print(
                f"| {name} | {tally.cases} | {tally.read} | {tally.refused} | {len(tally.faults)} "
                f"| {tally.seconds:.2f} s | {max(0, tally.memory) / 1024**2:.0f} MiB |",
                flush=True,
            )
            faults += tally.faults
    print(
        f"\nA fault is a trace, a signal, more than {MAX_SECONDS:.0f} s of processor time, or more "
        f"than {MAX_MEMORY >> 30} GiB beyond the file and its decoded content."
    )
    for fault in faults:
        print(fault)
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
