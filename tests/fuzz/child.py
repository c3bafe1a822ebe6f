"""Read cases of a suite, one after the other, and print a line of JSON about each.

Arguments are the suite, the first case, the number of cases, the seed, and a folder for files.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from nstrt.runtime.system.process import own_process

from fuzz.suite import Suite, open_suite
from support.peak_memory import measured_peak, status_bytes

__all__ = ["case_of", "main"]

_MOST = 14 << 30
"""Address space in bytes that cases get on top of the libraries', to spare the machine."""


def case_of(suite: Suite, name: str, seed: int, index: int) -> tuple[str, bytes]:
    """The case of an index: it depends on nothing else."""
    return suite.case(random.Random(f"{seed} {name} {index}"))


def main(name: str, first: int, count: int, seed: int, folder: Path) -> None:
    own_process()
    suite = open_suite(name, folder)
    limit = status_bytes("VmSize") + _MOST
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for index in range(first, first + count):
        description, content = case_of(suite, name, seed, index)
        print(json.dumps({"index": index, "case": description}), flush=True)
        print(json.dumps(_read(suite, content)), flush=True)


def _read(suite: Suite, content: bytes) -> dict[str, Any]:
    honest, fault, outcome, trace = len(content), "", "read", ""
    started = time.process_time()
    with measured_peak() as peak:
        try:
            honest += suite.read(content)
        except suite.refusals as error:
            outcome = "refused"
            if "\n" in str(error) or not str(error):
                fault = f"no sentence: {error}"
        except BaseException as error:
            outcome, fault = "fault", f"{type(error).__name__}: {error}"[:200]
            trace = traceback.format_exc()
    seconds, memory = time.process_time() - started, max(0, peak.bytes - honest)
    return {
        "outcome": outcome, "fault": fault, "trace": trace, "seconds": seconds, "memory": memory
    }  # fmt: skip


if __name__ == "__main__":
    _name, _first, _count, _seed, _folder = sys.argv[1:]
    main(_name, int(_first), int(_count), int(_seed), Path(_folder))
