"""Parses requests; a request is validated completely before any of it takes effect."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from nstrt.plugins.worker.messages import RequestError, payload_size, single_line
from nstrt.plugins.worker.pixels import FORMATS, PixelFormat
from nstrt.plugins.worker.requests import (
    Cancel,
    Estimate,
    FilePicture,
    Hello,
    Id,
    InputPicture,
    PictureSize,
    PixelPicture,
    Prepare,
    Quit,
    Region,
    Request,
    SizedPicture,
    Stop,
    Stylize,
)
from nstrt.runtime.errors import NstrtError, OptionError, PictureReadError, TooLargeError
from nstrt.runtime.options.options import OPTIONS, StylizeOptions
from nstrt.runtime.system.words import spelled

__all__ = ["MAX_PIXELS", "MIN_SIDE", "parse_id", "parse_op", "parse_request"]

MAX_ID = 2**53
"""Largest id: not every JSON reader keeps larger whole numbers exact."""

MAX_ID_LENGTH = 64
"""Characters of an id that is a string."""

MAX_PIXELS = 400_000_000
"""The most pixels of a picture, as for picture files."""

MIN_SIDE = 16
"""The fewest pixels of a side, as for picture files."""

MAX_PICTURES = 16
"""The most additional style pictures, and the most regions."""


def parse_id(header: Mapping[str, Any]) -> Id:
    """The id of a request."""
    return _id(header, "id")


def parse_op(header: Mapping[str, Any]) -> str:
    """The operation of a request."""
    op = header.get("op")
    if not isinstance(op, str):
        raise RequestError("malformed", "A request needs 'op', a string.")
    return op


def parse_request(header: Mapping[str, Any]) -> Request:
    """The request in a header.

    Raises :class:`RequestError`, or a :class:`NstrtError` with a sentence for the user.
    """
    size = payload_size(header)
    id = parse_id(header)
    match parse_op(header):
        case "hello":
            protocol = _integer(header, "protocol")
            return Hello(id, protocol, header.get("token"), _labels(header))
        case "prepare":
            return Prepare(id, _options(header))
        case "estimate":
            return _estimate(id, header)
        case "stylize":
            return _stylize(id, header, size)
        case "cancel":
            return Cancel(id, _id(header, "job"))
        case "stop":
            return Stop(id, _id(header, "job"))
        case "quit":
            return Quit(id)
        case op:
            raise RequestError("unknown-op", f"There is no request '{op}'.")


def _estimate(id: Id, header: Mapping[str, Any]) -> Estimate:
    regions = []
    for number, region in enumerate(_list(header, "regions")):
        style = _object(region, f"regions[{number}]").get("style")
        regions.append(None if style is None else _sized_picture(style, f"regions[{number}].style"))
    return Estimate(
        id=id,
        content=_sized_picture(header.get("content"), "content"),
        style=None if header.get("style") is None else _sized_picture(header["style"], "style"),
        options=_options(header),
        add_styles=tuple(
            _sized_picture(each, f"add_styles[{number}]")
            for number, each in enumerate(_list(header, "add_styles"))
        ),
        regions=tuple(regions),
        protect=header.get("protect") is not None,
    )


def _stylize(id: Id, header: Mapping[str, Any], size: int) -> Stylize:
    result = header.get("result", "rgba8")
    protect = header.get("protect")
    style, mask = _style(header.get("style"), "style")
    more = [
        _style(each, f"add_styles[{number}]")
        for number, each in enumerate(_list(header, "add_styles"))
    ]
    request = Stylize(
        id=id,
        content=_input_picture(header.get("content"), "content"),
        style=style,
        options=_options(header),
        previews=_seconds(header, "previews"),
        result=_format(result, "result"),
        result_name=result,
        add_styles=tuple(picture for picture, _ in more),
        style_masks=(mask, *(its_mask for _, its_mask in more)),
        regions=tuple(
            _region(each, f"regions[{number}]")
            for number, each in enumerate(_list(header, "regions"))
        ),
        protect=None if protect is None else _input_picture(protect, "protect"),
    )
    if request.nbytes != size:
        raise RequestError(
            "malformed",
            f"The pictures have {request.nbytes} bytes, and 'nbytes' is another number.",
        )
    for picture in request.pixels:
        _check_size(picture.width, picture.height)
    return request


def _region(value: object, key: str) -> Region:
    region = _object(value, key)
    style = region.get("style")
    painting, part = (None, None) if style is None else _style(style, f"{key}.style")
    mask = _input_picture(region.get("mask"), f"{key}.mask")
    return Region(mask=mask, style=painting, style_mask=part)


def _style(value: object, key: str) -> tuple[InputPicture, InputPicture | None]:
    """A style picture and its mask."""
    mask = _object(value, key).get("mask")
    return (
        _input_picture(value, key),
        None if mask is None else _input_picture(mask, f"{key}.mask"),
    )


def _input_picture(value: object, key: str) -> InputPicture:
    picture = _object(value, key)
    if "file" in picture:
        return _file(picture, key)
    return PixelPicture(
        _pixels(picture, key, "width"),
        _pixels(picture, key, "height"),
        _format(picture.get("format"), f"{key}.format"),
    )


def _sized_picture(value: object, key: str) -> SizedPicture:
    picture = _object(value, key)
    if "file" in picture:
        return _file(picture, key)
    width, height = _pixels(picture, key, "width"), _pixels(picture, key, "height")
    _check_size(width, height)
    return PictureSize(width, height)


def _file(picture: Mapping[str, Any], key: str) -> FilePicture:
    path = picture["file"]
    if not isinstance(path, str) or not path:
        raise RequestError("malformed", f"'{key}.file' must be a string.")
    if "\0" in path or not os.path.isabs(path):
        raise PictureReadError(f"A picture is named by its whole path, not '{path}'.")
    return FilePicture(path)


def _check_size(width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE:
        raise PictureReadError(
            f"The picture is {width} x {height} pixels; it must be at least {MIN_SIDE} pixels "
            "wide and high."
        )
    if width * height > MAX_PIXELS:
        raise TooLargeError(
            f"The picture is {width} x {height} pixels; at most {MAX_PIXELS // 10**6} megapixels "
            "can be painted."
        )


def _options(header: Mapping[str, Any]) -> StylizeOptions:
    given = _object(header.get("options", {}), "options")
    if "cls" in given:
        # The first parameter of the class method below, which no option may bind.
        raise OptionError("There is no option 'cls'.")
    try:
        options = StylizeOptions.of(**given)
    except NstrtError:
        raise
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        raise OptionError(f"{_invalid_option(given)} cannot have that value.") from error
    for name, spec in OPTIONS.items():
        if spec.file_words:
            _check_file_option(name, getattr(options, name), spec.file_words)
    return options


def _check_file_option(name: str, value: str, words: Sequence[str]) -> None:
    if value not in words and ("\0" in value or not os.path.isabs(value)):
        raise OptionError(
            f"{spelled(name)} must be {', '.join(words)}, or a file by its whole path, not "
            f"'{value}'."
        )


def _invalid_option(given: Mapping[str, Any]) -> str:
    """The first option that raises anything but a :class:`NstrtError` on its own."""
    for name, value in given.items():
        try:
            StylizeOptions.of(**{name: value})
        except NstrtError:
            continue
        except Exception:
            return spelled(name)
    return "The list of options"


def _labels(header: Mapping[str, Any]) -> dict[str, str]:
    labels = _object(header.get("labels", {}), "labels")
    if not all(isinstance(label, str) for label in labels.values()):
        raise RequestError("malformed", "'labels' must be an object of strings.")
    return {name: single_line(label) for name, label in labels.items()}


def _object(value: object, key: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise RequestError("malformed", f"'{key}' must be an object.")
    return value


def _list(header: Mapping[str, Any], key: str) -> list[Any]:
    value = header.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MAX_PICTURES:
        raise RequestError("malformed", f"'{key}' must be a list of up to {MAX_PICTURES} objects.")
    return value


def _pixels(picture: Mapping[str, Any], key: str, side: str) -> int:
    value = _integer(picture, side, f"{key}.{side}")
    if not 0 < value < 2**31:
        raise RequestError("malformed", f"'{key}.{side}' must be a number of pixels.")
    return value


def _integer(header: Mapping[str, Any], key: str, shown: str = "") -> int:
    value = header.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise RequestError("malformed", f"'{shown or key}' must be a whole number.")
    return value


def _seconds(header: Mapping[str, Any], key: str) -> float:
    value = header.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise RequestError("malformed", f"'{key}' must be a number of seconds.")
    return float(value)


def _format(value: object, shown: str) -> PixelFormat:
    if not isinstance(value, str) or value not in FORMATS:
        raise RequestError("malformed", f"'{shown}' must be one of {', '.join(FORMATS)}.")
    return FORMATS[value]


def _id(header: Mapping[str, Any], key: str) -> Id:
    value = header.get(key)
    if isinstance(value, str) and len(value) <= MAX_ID_LENGTH:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_ID:
        return value
    raise RequestError(
        "malformed",
        f"'{key}' must be a whole number or a string of up to {MAX_ID_LENGTH} characters.",
    )
