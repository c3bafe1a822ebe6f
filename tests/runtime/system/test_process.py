"""Processes that are forked from one in which nstrt has worked."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support import CAT

SCRIPT = f"""
import os
from nstrt.runtime import Picture, StyleTransfer, ForkedProcessError
from nstrt.runtime.pictures import read_picture
from nstrt.runtime.system.own_settings import OwnSettings

def read():
    read_picture({str(CAT)!r})

def compute():
    with OwnSettings().active():
        pass

WORK
child = os.fork()
if not child:
    try:
        read()
        compute()
    except ForkedProcessError as error:
        print("refused:", error, flush=True)
    else:
        print("works", flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
@pytest.mark.parametrize(
    ("work", "expected"), [("read()", "refused"), ("compute()", "refused"), ("", "works")]
)
def test_a_fork_is_refused_after_work_instead_of_waiting_forever(work: str, expected: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("WORK", work)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.startswith(expected), done
    assert done.stderr == ""
    assert ("'spawn'" in done.stdout) == (expected == "refused")
