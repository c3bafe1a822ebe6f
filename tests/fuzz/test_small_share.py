"""A small share of ``make fuzz``: no trace, no signal, nothing slow, nothing large."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fuzz.harness import run_suite
from fuzz.suite import SUITES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux")


@pytest.mark.parametrize("name", SUITES)
def test_changed_files_and_messages_are_read_or_refused(name: str, tmp_path: Path) -> None:
    count = SUITES[name] // 20
    tally = run_suite(name, count, folder=tmp_path)
    assert tally.cases == count
    assert not tally.faults, "\n".join(tally.faults[:5])
    # Without either, the suite would try nothing.
    assert tally.read
    assert tally.refused


def test_a_crash_a_hang_and_a_trace_are_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fuzz.harness._PATIENCE", 5.0)
    tally = run_suite("broken", 5, folder=tmp_path)
    assert tally.cases == 5
    # The one that takes too much memory is read.
    assert tally.read == 2
    text = "\n".join(tally.faults)
    for word in ("SIGSEGV", "hangs", "KeyError", "MiB"):
        assert word in text
    assert len(tally.faults) == 4
