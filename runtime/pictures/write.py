"""Write pictures to files with an sRGB profile and their recipe."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.errors import OutputExistsError, PictureWriteError
from nstrt.runtime.pictures.metadata.embed import Embedding
from nstrt.runtime.pictures.metadata.metadata import NO_METADATA
from nstrt.runtime.pictures.picture import Picture
from nstrt.runtime.pictures.source import display_name
from nstrt.runtime.pictures.values import quantize, row_strips
from nstrt.runtime.pictures.vips import from_samples, libvips, set_blob
from nstrt.runtime.system.files import remove_stale_temporaries, rescue_folder, write_atomically
from nstrt.runtime.system.words import spelled

__all__ = ["SUFFIXES", "check_target", "check_writable", "rescued", "save", "write_error_sentence"]


@dataclass(frozen=True, kw_only=True)
class _Format:
    """Capabilities of a file format, and its libvips saver."""

    name: str
    """Name in messages."""

    saver: str
    """libvips operation."""

    options: Mapping[str, object]
    """Options of the operation."""

    gray_options: Mapping[str, object] = field(default_factory=dict)
    """Further options for gray pictures."""

    sixteen_bits: bool = False
    """Supports 16 bits per channel."""

    alpha: bool = True
    """Supports transparency."""

    max_side: int = 1_000_000
    """Largest width and height in pixels."""


_PNG = _Format(name="PNG", saver="pngsave_buffer", options={"compression": 6}, sixteen_bits=True)
_TIFF = _Format(
    name="TIFF",
    saver="tiffsave_buffer",
    options={"compression": "deflate", "predictor": "horizontal"},
    sixteen_bits=True,
)
_JPEG = _Format(
    name="JPEG",
    saver="jpegsave_buffer",
    options={"Q": 95, "subsample_mode": "off", "optimize_coding": True},
    alpha=False,
    max_side=65_500,
)
_WEBP = _Format(
    name="WebP",
    saver="webpsave_buffer",
    options={"Q": 95, "alpha_q": 100, "smart_subsample": True},
    # Decoders of lossy WebP tint grays by one level.
    gray_options={"near_lossless": True, "Q": 60},
    max_side=16_383,
)
_AVIF = _Format(
    name="AVIF",
    saver="heifsave_buffer",
    # Higher effort takes ten times as long on a large photo and halves the file.
    options={"compression": "av1", "Q": 85, "effort": 0, "subsample_mode": "off", "bitdepth": 8},
    max_side=65_500,
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
"""File name suffixes of the supported formats."""

_MAX_NAME_BYTES = 200
"""File systems allow 255; the temporary file beside the result has a longer name."""


def check_writable(
    path: str | Path, *, overwrite: bool, size: tuple[int, int] | None = None
) -> None:
    """Raise :class:`PictureWriteError` if a result cannot be saved at ``path``.

    Runs call this before they start. ``size`` (width, height) is checked if it is given.
    """
    target = Path(path)
    check_target(target, overwrite=overwrite)
    format_ = _format(target)
    if size is not None:
        _check_size(size, format_)


def check_target(path: str | Path, *, overwrite: bool, what: str = "result") -> None:
    """Raise :class:`PictureWriteError` if no file of any format can be written at ``path``.

    ``what`` names the file in the error's sentence.
    """
    target = Path(path)
    name = display_name(target)
    if "\0" in name:
        raise PictureWriteError(f"The {what}'s name has a character that no file can have.")
    try:
        if target.is_dir():
            raise PictureWriteError(f"'{name}' is a folder; name a file for the {what}.")
        if not target.parent.is_dir():
            raise PictureWriteError(
                f"There is no folder '{display_name(target.parent)}' for the {what}; create it "
                "first, or choose another."
            )
        if target.exists() and not target.is_file():
            raise PictureWriteError(
                f"'{name}' is not an ordinary file; choose another name for the {what}."
            )
        if os.path.lexists(target) and not overwrite:
            raise OutputExistsError(
                f"The {what} '{name}' exists already; choose another name, or add "
                f"{spelled('overwrite', True)} to replace it."
            )
    except OSError as error:
        raise PictureWriteError(
            f"The {what} cannot be saved as '{name}'; choose another name or folder."
        ) from error
    if len(os.fsencode(target.name)) > _MAX_NAME_BYTES:
        raise PictureWriteError(
            f"The name '{name}' is too long for a file; choose one of at most {_MAX_NAME_BYTES} "
            "bytes."
        )
    _check_folder(target.parent)


def save(
    picture: Picture,
    path: str | Path,
    *,
    recipe: Mapping[str, object] | None,
    overwrite: bool,
    strip_metadata: bool = False,
) -> list[str]:
    """Save a picture atomically in the format of its file name.

    The file holds the picture's metadata unless ``strip_metadata`` is true. Equal pictures and
    recipes give equal files. Returns one sentence for each thing that is left out. Raises
    :class:`PictureWriteError` for a failed write.
    """
    target = Path(path)
    check_writable(target, overwrite=overwrite, size=picture.size)
    format_ = _format(target)
    notes: list[str] = []
    image = _image(picture, format_, notes)
    set_blob(image, "icc-profile-data", libvips().Image.profile_load("srgb"))
    metadata = NO_METADATA if strip_metadata else picture.metadata
    embedding = Embedding(
        container=format_.name, size=picture.size, metadata=metadata, recipe=recipe
    )
    image, keep = embedding.attach(image)
    try:
        options = {**format_.options, **(format_.gray_options if picture.is_gray else {})}
        content: bytes = getattr(image, format_.saver)(keep=keep, **options)
    except libvips().Error as error:
        raise PictureWriteError(
            f"The result cannot be stored as {format_.name}; choose a file name ending in .png."
        ) from error
    _write(target, embedding.complete(content))
    return notes + embedding.notes


def _format(target: Path) -> _Format:
    suffix = target.suffix.lower()
    if suffix in _FORMATS:
        return _FORMATS[suffix]
    known = ", ".join(SUFFIXES)
    if suffix:
        raise PictureWriteError(
            f"nstrt does not save {display_name(suffix)} files; use one of {known}."
        )
    raise PictureWriteError(
        f"The name '{display_name(target.name)}' does not say in which format to save; end it in "
        f"one of {known}."
    )


def _check_folder(folder: Path) -> None:
    try:
        # Permission bits do not show read-only disks and mean little on network folders, so the
        # check creates a file.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise PictureWriteError(write_error_sentence(folder, error)) from error


def _check_size(size: tuple[int, int], format_: _Format) -> None:
    if max(size) > format_.max_side:
        raise PictureWriteError(
            f"{format_.name} files hold at most {format_.max_side} pixels from edge to edge, "
            f"and the result is {size[0]} x {size[1]}; choose a file name ending in .png or .tif."
        )


def _image(picture: Picture, format_: _Format, notes: list[str]) -> Any:
    """Convert the picture to a libvips image within the format's depth and transparency."""
    sixteen_bits = picture.depth == 16 and format_.sixteen_bits
    if picture.depth == 16 and not format_.sixteen_bits:
        notes.append(
            f"{format_.name} is saved with 8 bits per channel; PNG and TIFF keep the photo's 16."
        )
    dtype = np.uint16 if sixteen_bits else np.uint8
    samples: NDArray[Any]
    if picture.alpha is not None and not format_.alpha:
        if picture.alpha.min() < 1:
            notes.append(
                f"{format_.name} holds no transparency: transparent parts are white; PNG, TIFF, "
                "WebP and AVIF keep them transparent."
            )
        samples = np.empty(picture.rgb.shape, dtype)
        for rows in row_strips(picture.height, picture.width):
            opaque = np.clip(picture.alpha[rows, :, np.newaxis], 0, 1)
            quantize(picture.rgb[rows] * opaque + (1 - opaque), samples[rows])
    else:
        samples = picture.to_array(dtype)
    return from_samples(samples, "rgb16" if sixteen_bits else "srgb")


def _write(target: Path, content: bytes) -> None:
    try:
        remove_stale_temporaries(target.parent)
        write_atomically(target, content)
    except OSError as error:
        raise PictureWriteError(write_error_sentence(target, error)) from error


def rescued(write: Callable[[Path], list[str]], path: Path) -> list[str]:
    """Write a picture to ``path``, or to the temporary folder if ``path`` cannot be written.

    Then raises :class:`PictureWriteError`, which names that folder.
    """
    try:
        return write(path)
    except PictureWriteError as error:
        try:
            with rescue_folder() as folder:
                write(folder / f"{path.stem}.png")
        except (OSError, PictureWriteError):
            raise error from None
        raise PictureWriteError(f"{error} The finished picture is safe in {folder}.") from error


def write_error_sentence(path: Path, error: OSError) -> str:
    """Describe a failed write in one sentence that says what to do."""
    name = display_name(path)
    if error.errno == errno.EFBIG:
        return (
            f"'{name}' would be larger than a file may be there (a limit of the disk, or of ulimit "
            "-f); choose another folder, or raise the limit."
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"There is no room on the disk for '{name}'; free some, or choose another folder."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"'{name}' may not be written; choose another folder for the result."
    reason = error.strerror or "unknown error"
    return f"'{name}' cannot be written ({reason}); choose another folder for the result."
