"""Fixture of the batch tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from support import CAT


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with the photos a.jpg and c.png, the broken b.jpg, and a text file."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "c.png"):
        Image.open(CAT).resize((96, 64)).save(folder / name)
    (folder / "b.jpg").write_bytes(b"\xff\xd8\xff broken")
    (folder / "notes.txt").write_text("none of these")
    return folder
