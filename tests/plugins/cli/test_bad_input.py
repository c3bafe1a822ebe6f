"""Wrong input: one sentence, exit code 2, no traceback and no file."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from support import CAT, EXAMPLES, NIGHT, Capture
from support.command_line import nstrt

Case = Callable[[Path], list[str]]


def _with(photo: str | Path, *more: str, style: str | Path = NIGHT, out: str = "out.png") -> Case:
    return lambda folder: [str(photo), str(style), "-o", str(folder / out), *more]


def _file(name: str, content: bytes, **more: str) -> Case:
    def case(folder: Path) -> list[str]:
        path = folder / "in" / name
        path.write_bytes(content)
        return _with(path)(folder)

    return case


def _bomb() -> bytes:
    """A PNG whose header promises 40,000 x 40,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def _copied(folder: Path) -> list[str]:
    """A photo in the folder of the result; its bytes must stay."""
    (folder / "photo.jpg").write_bytes(CAT.read_bytes())
    return [str(folder / "photo.jpg"), str(NIGHT), "-o", str(folder / "out.png")]


def _circle(*more: str, out: str = "out.png") -> Case:
    """A link to itself, as the photo or where ``more`` or ``out`` has its name."""

    def case(folder: Path) -> list[str]:
        path = folder / "in" / "circle.png"
        path.symlink_to(path)
        if out == path.name:
            return [str(CAT), str(NIGHT), "-o", str(path), "--log", str(path), "--force"]
        return _with(CAT if more else path, *more, *([str(path)] if more else []))(folder)

    return case


CASES: dict[str, Case] = {
    "photo is a link in a circle": _circle(),
    "start is a link in a circle": _circle("--init"),
    "weights are a link in a circle": _circle("--weights"),
    "result and log are a link in a circle": _circle(out="circle.png"),
    "photo missing": _with("nowhere.jpg"),
    "painting missing": _with(CAT, style="nowhere.jpg"),
    "photo is a folder": _with(EXAMPLES),
    "photo is empty": _file("empty.jpg", b""),
    "photo is text": _file("text.jpg", b"I am not a picture.\n" * 50),
    "photo is truncated": _file("half.jpg", CAT.read_bytes()[:20_000]),
    "photo is a bomb": _file("bomb.png", _bomb()),
    "photo is zeros": _file("zeros.png", bytes(10_000)),
    "photo is a device": _with(os.devnull),
    "no such layer": _with(CAT, "--style-layers", "relu9_1"),
    "layer weight is no number": _with(CAT, "--style-layers", "relu1_1:heavy"),
    "size too small": _with(CAT, "--size", "4"),
    "size is no number": _with(CAT, "--size", "large"),
    "size beyond memory": _with(CAT, "--size", "65536"),
    "negative weight": _with(CAT, "--content-weight", "-3"),
    "nothing to paint for": _with(CAT, "--content-weight", "0", "--style-weight", "0"),
    "iterations are no numbers": _with(CAT, "--iterations", "10,many"),
    "too many scales": _with(CAT, "--size", "64", "--scales", "20"),
    "unknown preset": _with(CAT, "--preset", "quick"),
    "unknown engine": _with(CAT, "--engine", "steam"),
    "unknown flag": _with(CAT, "--sise", "64"),
    "provider that is not here": _with(CAT, "--provider", "coreml"),
    "precision the processor lacks": _with(CAT, "--precision", "fp16", "--provider", "cpu"),
    "weights file missing": _with(CAT, "--weights", "nowhere.pth"),
    "start picture missing": _with(CAT, "--init", "nowhere.png"),
    "result without an ending": _with(CAT, out="out"),
    "result in a format unknown": _with(CAT, out="out.xyz"),
    "result in no folder": _with(CAT, out="no/such/folder/out.png"),
    "photo missing, with a log": lambda folder: [
        *_with("nowhere.jpg")(folder),
        *("--log", str(folder / "run.jsonl")),
    ],
    "log over the photo": lambda folder: [*_copied(folder), "--log", str(folder / "photo.jpg")],
    "log over the result": lambda folder: [*_with(CAT)(folder), "--log", str(folder / "out.png")],
    "result over the photo": lambda folder: [
        *_copied(folder)[:3],
        *(str(folder / "photo.jpg"), "--force"),
    ],
    "log in no folder": _with(CAT, "--log", "/no/such/folder/log.jsonl"),
}


@pytest.mark.parametrize("name", CASES)
def test_wrong_input_gives_one_sentence_and_writes_nothing(
    name: str, tmp_path: Path, capfd: Capture
) -> None:
    (tmp_path / "in").mkdir()
    arguments = CASES[name](tmp_path)
    before = _state(tmp_path)
    assert nstrt("stylize", *arguments, "--json") == 2
    printed = capfd.readouterr()
    lines = printed.err.strip().splitlines()
    assert lines[-1] == f"nstrt: {json.loads(printed.out)['error']}"
    # Lines before it may say that a network is prepared or engines are measured.
    slow = ("Preparing", "Measuring")
    assert [line for line in lines if not line.startswith(slow)] == lines[-1:]
    assert lines[-1].startswith("nstrt: ")
    assert len(lines[-1]) > 30
    assert lines[-1].endswith((".", "'", '"', "]")), lines[-1]
    assert "Traceback" not in printed.err
    assert _state(tmp_path) == before


def _state(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_at_least_twenty_cases() -> None:
    assert len(CASES) >= 20
