"""Read, resize, upscale, recolour and write pictures."""

from nstrt.runtime.pictures.color_transfer import match_colors
from nstrt.runtime.pictures.limits import MIN_SIDE
from nstrt.runtime.pictures.load import as_picture
from nstrt.runtime.pictures.luminance import to_gray, to_gray_pair, with_chroma_of
from nstrt.runtime.pictures.picture import Picture, PictureSource
from nstrt.runtime.pictures.read import MAX_BYTES, MAX_PIXELS, decode_picture, read_picture
from nstrt.runtime.pictures.resize import resize
from nstrt.runtime.pictures.transparency import resize_visible
from nstrt.runtime.pictures.upscale import upscale
from nstrt.runtime.pictures.write import (
    SUFFIXES,
    check_target,
    check_writable,
    rescued,
    save,
    write_error_sentence,
)
from nstrt.runtime.pictures.xmp import read_recipe, recipe_from_xmp, recipe_to_xmp

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
    "match_colors",
    "read_picture",
    "read_recipe",
    "recipe_from_xmp",
    "recipe_to_xmp",
    "rescued",
    "resize",
    "resize_visible",
    "save",
    "to_gray",
    "to_gray_pair",
    "upscale",
    "with_chroma_of",
    "write_error_sentence",
]
