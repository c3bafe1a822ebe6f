"""Pictures: read from files and memory, resized, enlarged, and written with their recipe."""

from nstrt.runtime.pictures.color_transfer import match_colours
from nstrt.runtime.pictures.load import as_picture
from nstrt.runtime.pictures.luminance import gray, gray_pair, with_colours_of
from nstrt.runtime.pictures.picture import MIN_SIDE, Picture, PictureSource
from nstrt.runtime.pictures.read import MAX_BYTES, MAX_PIXELS, decode_picture, read_picture
from nstrt.runtime.pictures.resize import resize
from nstrt.runtime.pictures.upscale import enlarge
from nstrt.runtime.pictures.write import (
    SUFFIXES,
    check_target,
    check_writable,
    save,
    why_not_written,
)
from nstrt.runtime.pictures.xmp import embed, extract, read_recipe

__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "MIN_SIDE",
    "SUFFIXES",
    "Picture",
    "PictureSource",
    "as_picture",
    "check_target",
    "check_writable",
    "decode_picture",
    "embed",
    "enlarge",
    "extract",
    "gray",
    "gray_pair",
    "match_colours",
    "read_picture",
    "read_recipe",
    "resize",
    "save",
    "why_not_written",
    "with_colours_of",
]
