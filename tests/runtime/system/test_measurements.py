"""Damaged measurements are left out, named once, and made again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nstrt.runtime.planning.estimate import known_pace, learn_pace
from nstrt.runtime.system.measurements import (
    load_measurements,
    repair_measurements,
    store_measurement,
)

FILES = ("kernels", "paces", "steps")

DAMAGE: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{",
    "not UTF-8": b"\xff\xfe\x00{}",
    "a list": b"[1, 2]",
    "a number": b"1",
    "deep": b'{"key":' + b"[" * 100_000,
    "huge": b" " * (5 << 20) + b"{}",
    "a key twice": b'{"key": {"torch": 1.0}, "key": {"torch": 2.0}}',
    "a list for a table": b'{"key": [1.0]}',
    "an empty table": b'{"key": {}}',
    "words": b'{"key": {"torch": "fast"}}',
    "a truth": b'{"key": {"torch": true}}',
    "no number": b'{"key": {"torch": NaN}}',
    "infinite": b'{"key": {"torch": 1e999}}',
    "negative": b'{"key": {"torch": -1.0}}',
    "zero": b'{"key": {"torch": 0}}',
    "a large number": b'{"key": {"torch": 1' + b"0" * 400 + b"}}",
    "too many digits": b'{"key": {"torch": 1' + b"0" * 5000 + b"}}",
    "none": b'{"key": null}',
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NSTRT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named_once_and_removed(cache: Path, damage: bytes) -> None:
    for name in FILES:
        (cache / f"{name}.json").write_bytes(damage)
        assert load_measurements(name) == {}
    lines: list[str] = []
    repair_measurements(lines.append)
    assert len(lines) == 3
    for name, line in zip(FILES, lines, strict=True):
        assert str(cache / f"{name}.json") in line
        assert "\n" not in line
        assert load_measurements(name) == {}
    repair_measurements(lines.append)
    assert len(lines) == 3
    assert known_pace("key") is None
    learn_pace("key", 2.0)
    assert known_pace("key") == 2.0
    store_measurement("steps", "key", {"torch": 1.0})
    assert load_measurements("steps") == {"key": {"torch": 1.0}}


def test_what_is_right_beside_damage_stays(cache: Path) -> None:
    good = {"key": {"torch": 1.0, "graph": 2}}
    for name in ("kernels", "steps"):
        (cache / f"{name}.json").write_text(json.dumps({**good, "other": 3, "more": []}))
        assert load_measurements(name) == good
    (cache / "paces.json").write_text(json.dumps({"key": 1.5, "other": "x"}))
    repair_measurements(lambda line: None)
    assert json.loads((cache / "steps.json").read_text()) == good
    assert json.loads((cache / "paces.json").read_text()) == {"key": 1.5}


def test_good_and_missing_files_are_left_alone(cache: Path) -> None:
    store_measurement("paces", "key", 1.0)
    before = (cache / "paces.json").stat().st_mtime_ns
    lines: list[str] = []
    repair_measurements(lines.append)
    assert lines == []
    assert (cache / "paces.json").stat().st_mtime_ns == before
    assert {path.name for path in cache.iterdir()} == {"paces.json"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_what_is_no_file_is_replaced(cache: Path) -> None:
    (cache / "kernels.json").mkdir()
    (cache / "kernels.json" / "more").write_bytes(b"")
    os.mkfifo(cache / "paces.json")
    (cache / "steps.json").symlink_to("/dev/zero")
    lines: list[str] = []
    repair_measurements(lines.append)
    assert len(lines) == 3
    for name in FILES:
        assert load_measurements(name) == {}
        assert (cache / f"{name}.json").is_file()
    repair_measurements(lines.append)
    assert len(lines) == 3


def test_impossible_durations_are_not_stored(cache: Path) -> None:
    for value in (0.0, -1.0, float("nan"), float("inf")):
        store_measurement("paces", "key", value)
        store_measurement("steps", "key", {"torch": value})
    assert list(cache.iterdir()) == []


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    content=st.binary(max_size=40)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("key"), inner),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_content_is_read_or_left_out(cache: Path, content: bytes) -> None:
    for name in FILES:
        (cache / f"{name}.json").write_bytes(content)
    repair_measurements(lambda line: None)
    for name in FILES:
        for value in load_measurements(name).values():
            numbers = value.values() if name != "paces" else [value]
            assert all(0 < number < 1e9 for number in numbers)
