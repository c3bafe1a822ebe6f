"""Pictures become files, with an sRGB profile and their recipe inside."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.errors import OutputExistsError, PictureWriteError
from nstrt.runtime.pictures.picture import Picture
from nstrt.runtime.pictures.source import shown
from nstrt.runtime.pictures.values import quantised, strips
from nstrt.runtime.pictures.vips import from_samples, libvips, set_blob
from nstrt.runtime.pictures.xmp import embed
from nstrt.runtime.system.files import remove_leftovers, write_whole

__all__ = ["SUFFIXES", "check_target", "check_writable", "save", "why_not_written"]


@dataclass(frozen=True, kw_only=True)
class _Format:
    """What a file format holds, and how libvips writes it."""

    name: str
    """What people call it."""

    saver: str
    """libvips' operation."""

    options: Mapping[str, object]
    """The operation's options."""

    deep: bool = False
    """Whether 16 bits per channel fit."""

    alpha: bool = True
    """Whether transparency fits."""

    largest_side: int = 1_000_000
    """The most pixels from edge to edge."""

    largest_recipe: int | None = None
    """The longest XMP packet that fits, in bytes."""


_PNG = _Format(name="PNG", saver="pngsave_buffer", options={"compression": 6}, deep=True)
_TIFF = _Format(
    name="TIFF",
    saver="tiffsave_buffer",
    options={"compression": "deflate", "predictor": "horizontal"},
    deep=True,
)
_JPEG = _Format(
    name="JPEG",
    saver="jpegsave_buffer",
    options={"Q": 95, "subsample_mode": "off", "optimize_coding": True},
    alpha=False,
    largest_side=65_500,
    # libvips leaves out longer packets without a word.
    largest_recipe=60_000,
)
_WEBP = _Format(
    name="WebP",
    saver="webpsave_buffer",
    options={"Q": 95, "alpha_q": 100, "smart_subsample": True},
    largest_side=16_383,
)
_AVIF = _Format(
    name="AVIF",
    saver="heifsave_buffer",
    # More effort takes ten times as long on a large photo, for a file half as large.
    options={"compression": "av1", "Q": 85, "effort": 0, "subsample_mode": "off", "bitdepth": 8},
    largest_side=65_500,
)
_FORMATS = {
    ".png": _PNG,
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".webp": _WEBP,
    ".avif": _AVIF,
}

SUFFIXES = tuple(_FORMATS)
"""The file name endings that results can have."""

_LONGEST_NAME = 200
"""Bytes: file systems allow 255, and the temporary file beside the result needs some."""


def check_writable(
    path: str | Path, *, overwrite: bool, size: tuple[int, int] | None = None
) -> None:
    """Refuse in one sentence a path where a result could not be saved.

    Called before the work starts. ``size`` (width, height) is also checked where it is known.
    """
    target = Path(path)
    check_target(target, overwrite=overwrite)
    format_ = _format(target)
    if size is not None:
        _check_size(size, format_)


def check_target(path: str | Path, *, overwrite: bool, what: str = "result") -> None:
    """Refuse in one sentence a path where no file of any format could be written.

    ``what`` is the sentence's word for the file.
    """
    target = Path(path)
    name = shown(target)
    if "\0" in name:
        raise PictureWriteError(f"The {what}'s name has a character that no file can have.")
    try:
        if target.is_dir():
            raise PictureWriteError(f"'{name}' is a folder; name a file for the {what}.")
        if not target.parent.is_dir():
            raise PictureWriteError(
                f"There is no folder '{shown(target.parent)}' for the {what}; create it first, "
                "or choose another."
            )
        if target.exists() and not target.is_file():
            raise PictureWriteError(
                f"'{name}' is not an ordinary file; choose another name for the {what}."
            )
        if os.path.lexists(target) and not overwrite:
            raise OutputExistsError(
                f"The {what} '{name}' exists already; choose another name, or allow it to be "
                "replaced (--force; in Python overwrite=True)."
            )
    except OSError as error:
        raise PictureWriteError(
            f"The {what} cannot be saved as '{name}'; choose another name or folder."
        ) from error
    if len(os.fsencode(target.name)) > _LONGEST_NAME:
        raise PictureWriteError(f"The name '{name}' is too long for a file; choose a shorter one.")
    _check_folder(target.parent)


def save(
    picture: Picture, path: str | Path, *, recipe: Mapping[str, object] | None, overwrite: bool
) -> list[str]:
    """Save a picture in the format of its file name, whole or not at all.

    Equal pictures and recipes give equal files. Returns what the format could not hold, each
    in one plain sentence.
    """
    target = Path(path)
    check_writable(target, overwrite=overwrite, size=picture.size)
    format_ = _format(target)
    notes: list[str] = []
    image = _image(picture, format_, notes)
    set_blob(image, "icc-profile-data", libvips().Image.profile_load("srgb"))
    if recipe is not None:
        packet = _fitting(recipe, format_, notes)
        if packet is not None:
            set_blob(image, "xmp-data", packet)
    try:
        content: bytes = getattr(image, format_.saver)(keep="icc:xmp", **format_.options)
    except libvips().Error as error:
        raise PictureWriteError(
            f"The result cannot be stored as {format_.name}; choose a file name ending in .png."
        ) from error
    _write(target, content)
    return notes


def _format(target: Path) -> _Format:
    suffix = target.suffix.lower()
    if suffix in _FORMATS:
        return _FORMATS[suffix]
    known = ", ".join(SUFFIXES)
    if suffix:
        raise PictureWriteError(f"nstrt does not save {shown(suffix)} files; use one of {known}.")
    raise PictureWriteError(
        f"The name '{shown(target.name)}' does not say in which format to save; end it in one of "
        f"{known}."
    )


def _check_folder(folder: Path) -> None:
    try:
        # Whether a file can be made is best found out by making one: permission bits do not
        # tell of read-only disks, and mean little on network folders.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise PictureWriteError(why_not_written(folder, error)) from error


def _check_size(size: tuple[int, int], format_: _Format) -> None:
    if max(size) > format_.largest_side:
        raise PictureWriteError(
            f"{format_.name} files hold at most {format_.largest_side} pixels from edge to edge, "
            f"and the result is {size[0]} x {size[1]}; choose a file name ending in .png or .tif."
        )


def _image(picture: Picture, format_: _Format, notes: list[str]) -> Any:
    """A libvips image of the picture's values, as deep and transparent as the format allows."""
    deep = picture.depth == 16 and format_.deep
    if picture.depth == 16 and not format_.deep:
        notes.append(
            f"{format_.name} is saved with 8 bits per channel; PNG and TIFF keep the photo's 16."
        )
    dtype = np.uint16 if deep else np.uint8
    samples: NDArray[Any]
    if picture.alpha is not None and not format_.alpha:
        notes.append(
            f"{format_.name} holds no transparency: transparent parts are white; PNG, TIFF, WebP "
            "and AVIF keep them transparent."
        )
        samples = np.empty(picture.rgb.shape, dtype)
        for rows in strips(picture.height, picture.width):
            opaque = np.clip(picture.alpha[rows, :, np.newaxis], 0, 1)
            quantised(picture.rgb[rows] * opaque + (1 - opaque), samples[rows])
    else:
        samples = picture.to_array(dtype)
    return from_samples(samples, "rgb16" if deep else "srgb")


def _fitting(recipe: Mapping[str, object], format_: _Format, notes: list[str]) -> bytes | None:
    packet = embed(recipe)
    most = format_.largest_recipe
    if most is None or len(packet) <= most:
        return packet
    packet = embed({key: value for key, value in recipe.items() if key != "losses"})
    if len(packet) <= most:
        notes.append(f"{format_.name} has no room for the recipe's losses; they are left out.")
        return packet
    notes.append(f"{format_.name} has no room for the recipe; it is left out.")
    return None


def _write(target: Path, content: bytes) -> None:
    try:
        # What an earlier run that was killed here left behind.
        remove_leftovers(target.parent)
        write_whole(target, content)
    except OSError as error:
        raise PictureWriteError(why_not_written(target, error)) from error


def why_not_written(path: Path, error: OSError) -> str:
    """What kept a file from being written, in one sentence that says what to do."""
    name = shown(path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"There is no room on the disk for '{name}'; free some, or choose another folder."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"'{name}' may not be written; choose another folder for the result."
    reason = error.strerror or "unknown error"
    return f"'{name}' cannot be written ({reason}); choose another folder for the result."
