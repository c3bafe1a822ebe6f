"""libvips, loaded when it is first needed and set up once for untrusted files."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Samples", "from_samples", "libvips", "set_blob", "to_samples"]

Samples = NDArray[np.uint8] | NDArray[np.uint16]
"""Whole-number picture values: (height, width, channels)."""

_FORMATS = {"u1": "uchar", "u2": "ushort"}
_DTYPES = {"uchar": np.uint8, "ushort": np.uint16, "float": np.float32, "double": np.float64}


@cache
def libvips() -> Any:
    """pyvips, with what may read untrusted files restricted and its warnings kept quiet."""
    import pyvips

    pyvips.block_untrusted_set(True)
    # No operation is ever asked for twice here, and a cache would hold whole pictures.
    pyvips.cache_set_max(0)
    # libvips' warnings ("IDAT: incorrect data check") arrive as log records, and the sentence
    # that is raised says the same in plain words.
    logging.getLogger("pyvips").setLevel(logging.CRITICAL)
    return pyvips


def from_samples(samples: Samples, interpretation: str) -> Any:
    """A libvips image of ``samples``, of which nothing is copied but by need."""
    height, width, channels = samples.shape
    image = libvips().Image.new_from_memory(
        np.ascontiguousarray(samples).data, width, height, channels, _FORMATS[samples.dtype.str[1:]]
    )
    return image.copy(interpretation=interpretation)


def to_samples(image: Any) -> NDArray[Any] | None:
    """The values of a libvips image, (height, width, channels); ``None`` for unusual types."""
    dtype = _DTYPES.get(image.format)
    if dtype is None:
        return None
    shape = (image.height, image.width, image.bands)
    return np.frombuffer(image.write_to_memory(), dtype).reshape(shape)


def set_blob(image: Any, field: str, content: bytes) -> None:
    """Attach ``content`` to a libvips image as the metadata field ``field``."""
    image.set_type(libvips().GValue.blob_type, field, content)
