"""Load libvips on first use, configured for untrusted files."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.system.memory import met_limit
from nstrt.runtime.system.process import enter_process, owns_process

__all__ = [
    "Samples",
    "VipsError",
    "from_samples",
    "libvips",
    "metadata",
    "set_blob",
    "to_samples",
    "vips_operation",
]

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


class VipsError(Exception):
    """An operation of libvips failed; the message is its own."""


@contextmanager
def vips_operation() -> Iterator[None]:
    """Raise :class:`VipsError` for a failed operation, and forget the error in libvips.

    Raises MemoryError if memory is what it lacked.
    """
    vips = libvips()
    enter_process()
    try:
        yield
    except vips.Error as error:
        if met_limit(error):
            raise MemoryError from error
        raise VipsError(str(error)) from error
    except UnicodeDecodeError as error:
        # pyvips cannot decode the message. It would stay, and make all later operations fail.
        vips.vips_lib.vips_error_clear()
        raise VipsError(error.object.decode("latin-1")) from error


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
