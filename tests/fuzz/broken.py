"""A reader with faults, which shows that the harness finds them."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

__all__ = ["Cases"]


class Cases:
    """Five cases: a crash, a hang, a trace, too much memory, and none."""

    refusals = (ValueError,)

    def __init__(self, folder: Path) -> None:
        self._place = folder / "next"

    def case(self, source: random.Random) -> tuple[str, bytes]:
        index = int(self._place.read_text()) if self._place.exists() else 0
        self._place.write_text(str(index + 1))
        return "broken", bytes([index])

    def read(self, content: bytes) -> int:
        match content[0]:
            case 0:
                os.kill(os.getpid(), signal.SIGSEGV)
            case 1:
                time.sleep(60)
            case 2:
                raise KeyError("a bug")
            case 3:
                bytearray(b"\1") * (1200 << 20)
        return 0
