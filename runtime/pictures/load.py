"""Load a picture from a file, its bytes, an array, a tensor or a Pillow image."""

from __future__ import annotations

import io
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.errors import OptionError
from nstrt.runtime.pictures.formats.sniff import detect_format
from nstrt.runtime.pictures.picture import Picture, PictureSource
from nstrt.runtime.pictures.pillow import opened_content
from nstrt.runtime.pictures.read import decode_picture, read_picture
from nstrt.runtime.pictures.source import display_name

__all__ = ["as_picture"]


def as_picture(source: PictureSource) -> Picture:
    """Convert a path, bytes, Pillow image, array, torch tensor or picture to a :class:`Picture`.

    Bytes are those of a picture file. Arrays are (height, width) or (height, width, channels),
    tensors (channels, height, width) or (1, channels, height, width), with 1, 3 or 4 channels.
    Raises :class:`OptionError` for any other type or shape.
    """
    if isinstance(source, Picture):
        return source
    if isinstance(source, str | os.PathLike):
        return read_picture(os.fspath(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return replace(decode_picture(bytes(source), name="picture in memory"), name="")
    if isinstance(source, np.ndarray):
        return Picture.from_array(source)
    # A tensor or a Pillow image exists only if its package is already imported.
    torch: Any = sys.modules.get("torch")
    if torch is not None and isinstance(source, torch.Tensor):
        return Picture.from_array(_tensor_to_array(source))
    if "PIL.Image" in sys.modules:
        from PIL import Image

        if isinstance(source, Image.Image):
            return _opened_picture(source) or Picture.from_pillow(source)
    raise OptionError(
        "A picture must be a file path, the bytes of a picture file, a Pillow image, a NumPy "
        f"array, a torch tensor or a Picture, not {type(source).__name__}."
    )


def _opened_picture(image: Any) -> Picture | None:
    """The picture of a file that Pillow has opened and not decoded yet.

    Until then the image can only be what its file is, which Pillow decodes to 8 bits and without
    some of its colours. ``None`` for other images.
    """
    from PIL import Image

    if getattr(image, "_im", image) is not None or getattr(image, "tell", int)() != 0:
        return None
    content = opened_content(image)
    if detect_format(content) in (None, "HEIF") and image.format != "AVIF":
        return None
    try:
        with Image.open(io.BytesIO(content)) as fresh:
            facts = [(each.mode, each.size, each.info) for each in (fresh, image)]
            # Parsed EXIF data may have been changed; parsing them here would decode the image.
            exif = getattr(image, "_exif", None)
            if facts[0] != facts[1] or (exif is not None and dict(exif) != dict(fresh.getexif())):
                return None
    except Exception:
        # Pillow raises many kinds of exceptions for damaged files.
        return None
    path = getattr(image, "filename", "")
    name = display_name(Path(os.fsdecode(path)).name) if path else ""
    return replace(decode_picture(content, name=name or "picture in memory"), name=name)


def _tensor_to_array(tensor: Any) -> NDArray[Any]:
    try:
        values = tensor.detach().to_dense().cpu()
    except (NotImplementedError, RuntimeError) as error:
        raise OptionError(
            f"A picture tensor must hold values, and this one has none to read ({tensor.device}, "
            f"{tensor.layout})."
        ) from error
    if values.dim() == 4 and values.shape[0] == 1:
        values = values[0]
    if values.dim() != 3 or values.shape[0] not in (1, 3, 4):
        raise OptionError(
            "A picture tensor must be (channels, height, width) or (1, channels, height, width) "
            f"with 1, 3 or 4 channels, not {tuple(tensor.shape)}."
        )
    if values.is_floating_point():
        values = values.float()
    channels_last: NDArray[Any] = values.permute(1, 2, 0).numpy()
    return channels_last
