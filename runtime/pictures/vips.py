"""Load libvips on first use, configured for untrusted files."""

from __future__ import annotations

import logging
import sys
import warnings
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.system.process import owns_process

__all__ = ["Samples", "from_samples", "libvips", "metadata", "set_blob", "to_samples"]

Samples = NDArray[np.uint8] | NDArray[np.uint16]
"""Integer picture values, (height, width, channels)."""

_FORMATS = {"u1": "uchar", "u2": "ushort"}
_DTYPES = {"uchar": np.uint8, "ushort": np.uint16, "float": np.float32, "double": np.float64}


@cache
def libvips() -> Any:
    """Import pyvips; in a process of our own, block untrusted operations and silence warnings.

    In a host's process these settings are the host's. Each format has its own loader here, so that
    untrusted ones are never tried.
    """
    import pyvips

    _decode_any_text(pyvips)
    if not owns_process():
        return pyvips
    pyvips.block_untrusted_set(True)
    # No operation runs twice, and a cache would hold whole pictures.
    pyvips.cache_set_max(0)
    # Pillow warns of damaged EXIF data; they are left out.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    # libvips logs warnings ("IDAT: incorrect data check"); the raised error says the same in
    # plain words.
    logging.getLogger("pyvips").setLevel(logging.CRITICAL)
    return pyvips


def _decode_any_text(pyvips: Any) -> None:
    """Let pyvips pass texts that are not UTF-8, as damaged files put them into messages.

    It raises UnicodeDecodeError otherwise, and again in each later call, since the message stays in
    libvips.
    """

    def to_string(text: Any) -> str:
        if text == pyvips.ffi.NULL:
            return "NULL"
        return bytes(pyvips.ffi.string(text)).decode("utf-8", "replace")

    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "pyvips" and hasattr(module, "_to_string"):
            setattr(module, "_to_string", to_string)  # noqa: B010 - modules have no such type


def from_samples(samples: Samples, interpretation: str) -> Any:
    """Wrap ``samples`` in a libvips image; only non-contiguous arrays are copied."""
    height, width, channels = samples.shape
    image = libvips().Image.new_from_memory(
        np.ascontiguousarray(samples).data, width, height, channels, _FORMATS[samples.dtype.str[1:]]
    )
    return image.copy(interpretation=interpretation)


def to_samples(image: Any) -> NDArray[Any] | None:
    """Return the values of a libvips image, (height, width, channels); ``None`` for other types."""
    dtype = _DTYPES.get(image.format)
    if dtype is None:
        return None
    shape = (image.height, image.width, image.bands)
    return np.frombuffer(image.write_to_memory(), dtype).reshape(shape)


def metadata(image: Any, field: str) -> Any:
    """Return a metadata field of a libvips image; ``None`` if it has none."""
    return image.get(field) if image.get_typeof(field) else None


def set_blob(image: Any, field: str, content: bytes) -> None:
    """Attach ``content`` to a libvips image as the metadata field ``field``."""
    image.set_type(libvips().GValue.blob_type, field, content)
