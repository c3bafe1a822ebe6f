"""Find the photos that a file name, a folder or a pattern stands for."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from nstrt.runtime.errors import PictureReadError
from nstrt.runtime.pictures import read_recipe
from nstrt.runtime.pictures.formats.sniff import detect_format, is_picture_name
from nstrt.runtime.pictures.metadata.xmp_packet import NAMESPACE
from nstrt.runtime.system.files import real_path
from nstrt.runtime.system.regular_file import open_regular

__all__ = ["find_photos", "format_of"]

_SEARCHED_BYTES = 1 << 18
"""Bytes at each end of a file in which a recipe is searched; savers put it before or after the
pixels."""


def find_photos(source: str | Path, *, results: Path) -> list[Path]:
    """The photos that ``source`` stands for: a file, a folder, or a pattern of glob.

    A folder or pattern stands for its files that are pictures by their content or their name.
    Hidden files and results of earlier runs, which hold a recipe, do not count. A result inside
    the folder ``results`` is left out even if ``source`` is its name.

    Raises :class:`PictureReadError` if a folder or pattern has no photos, unless it is
    ``results``, or lies in it and has results.
    """
    path = Path(source)
    # Shells put the folder of the results in place of patterns too.
    inside = real_path(path).is_relative_to(real_path(results))
    # The name of an existing file may contain brackets.
    if os.path.lexists(path) or not glob.has_magic(str(source)):
        if not path.is_dir():
            return [] if inside and _is_result(path) else [path]
        place, pictures = f"the folder '{path}'", list(_pictures_in(path))
    else:
        matches = sorted(glob.glob(str(source), recursive=True))
        if not matches:
            raise PictureReadError(f"No file's name is like '{source}'; check the pattern.")
        place = f"'{source}'"
        pictures = [picture for match in matches for picture in _pictures_at(Path(match))]
    photos = [picture for picture in pictures if not _is_result(picture)]
    if not photos and not (inside and pictures) and real_path(path) != real_path(results):
        raise PictureReadError(
            f"There are only results of nstrt in {place}; name them one by one to paint them."
            if pictures
            else f"There are no pictures in {place}."
        )
    return photos


def _pictures_at(match: Path) -> Iterator[Path]:
    """The pictures of a pattern's match: itself, or those in a folder."""
    if match.is_dir():
        yield from _pictures_in(match)
    elif _is_picture(match):
        yield match


def _pictures_in(folder: Path) -> Iterator[Path]:
    try:
        files = sorted(folder.iterdir())
    except OSError as error:
        raise PictureReadError(
            f"The folder '{folder}' may not be read; allow reading it, or choose another."
        ) from error
    for file in files:
        if not file.name.startswith(".") and not file.is_dir() and _is_picture(file):
            yield file


def _is_picture(path: Path) -> bool:
    """True for a file that is a picture by its name or its first bytes."""
    return is_picture_name(path.name) or format_of(path) is not None


def format_of(path: Path) -> str | None:
    """The format of a file by its first bytes, as :func:`detect_format` names it."""
    head = _ends(path, 64)
    kind = detect_format(head)
    # A text may begin with BM as well; a bitmap's reserved bytes are zero.
    return None if kind == "BMP" and head[6:10] != bytes(4) else kind


def _is_result(path: Path) -> bool:
    """True for a picture with a recipe inside."""
    ends = _ends(path, _SEARCHED_BYTES)
    # PNG files compress the packet, but not its name.
    if NAMESPACE.encode() not in ends and b"XML:com.adobe.xmp" not in ends:
        return False
    if detect_format(ends) == "GIF":
        # A film's packet is a comment.
        return True
    try:
        return read_recipe(path) is not None
    except PictureReadError:
        return False


def _ends(path: Path, size: int) -> bytes:
    """The first and last ``size`` bytes of a regular file; empty for anything else."""
    try:
        with open_regular(path) as file:
            length = os.fstat(file.fileno()).st_size
            head = file.read(min(size, length))
            file.seek(max(len(head), length - size))
            return head + file.read(min(size, length - len(head)))
    except OSError:
        return b""
