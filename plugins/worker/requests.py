"""What hosts can ask for, checked wholly before any of it is acted on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from nstrt.plugins.worker.messages import RequestError, announced
from nstrt.plugins.worker.pixels import FORMATS, PixelFormat
from nstrt.runtime.errors import NstrtError, OptionError, PictureReadError, TooLargeError
from nstrt.runtime.options.options import OPTIONS, StylizeOptions

__all__ = [
    "Cancel",
    "Estimate",
    "FilePicture",
    "Hello",
    "Id",
    "PictureSize",
    "PixelPicture",
    "Prepare",
    "Quit",
    "Request",
    "Stop",
    "Stylize",
    "Work",
    "id_of",
    "op_of",
    "request_of",
]

Id: TypeAlias = int | str
"""What a host calls a request by."""

LARGEST_ID = 2**53
"""Beyond it not every JSON reader keeps whole numbers whole."""

LONGEST_ID = 64
"""Characters of an id that is a string."""

MAX_PIXELS = 400_000_000
"""The most pixels of a picture, as for picture files."""

MIN_SIDE = 16
"""The fewest pixels of a side, as for picture files."""

MOST_PICTURES = 16
"""The most paintings that are blended with the first, and the most regions."""


@dataclass(frozen=True)
class FilePicture:
    """A picture in a file."""

    path: str


@dataclass(frozen=True)
class PictureSize:
    """A picture of which only the size is known."""

    width: int
    height: int


@dataclass(frozen=True)
class PixelPicture:
    """A picture whose pixels follow."""

    width: int
    height: int
    format: PixelFormat

    @property
    def nbytes(self) -> int:
        """Bytes of its pixels."""
        return self.width * self.height * self.format.size


Given: TypeAlias = FilePicture | PixelPicture
"""A picture of a job."""

Known: TypeAlias = FilePicture | PictureSize
"""A picture of an estimate."""


@dataclass(frozen=True)
class Hello:
    id: Id
    protocol: int
    token: object


@dataclass(frozen=True)
class Prepare:
    id: Id
    options: StylizeOptions


@dataclass(frozen=True)
class Estimate:
    id: Id
    content: Known
    style: Known | None
    options: StylizeOptions
    add_styles: tuple[Known, ...] = ()
    regions: tuple[Known | None, ...] = ()
    """The paintings of regions; None for the main ones."""
    protect: bool = False


@dataclass(frozen=True)
class Region:
    """A part of the picture, in the manner of a painting of its own."""

    mask: Given
    style: Given | None
    """None for the main paintings."""


@dataclass(frozen=True)
class Stylize:
    id: Id
    content: Given
    style: Given
    options: StylizeOptions
    previews: float
    """Seconds between previews; 0 for none."""
    result: PixelFormat
    result_name: str
    add_styles: tuple[Given, ...] = ()
    """Paintings that are blended with the first."""
    regions: tuple[Region, ...] = ()
    protect: Given | None = None
    """The mask of what stays near the photo."""

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels that follow."""
        return sum(picture.nbytes for picture in self.pixels)

    @property
    def pixels(self) -> list[PixelPicture]:
        """The pictures whose pixels follow, in their order."""
        return [picture for picture in self.pictures if isinstance(picture, PixelPicture)]

    @property
    def pictures(self) -> list[Given]:
        """All its pictures, in the order in which their pixels follow."""
        of_regions = [picture for each in self.regions for picture in (each.mask, each.style)]
        given = [self.content, self.style, *self.add_styles, *of_regions, self.protect]
        return [picture for picture in given if picture is not None]


@dataclass(frozen=True)
class Cancel:
    id: Id
    job: Id


@dataclass(frozen=True)
class Stop:
    id: Id
    job: Id


@dataclass(frozen=True)
class Quit:
    id: Id


Work: TypeAlias = Prepare | Estimate | Stylize
"""What waits in the queue."""

Request: TypeAlias = Hello | Cancel | Stop | Quit | Work


def id_of(header: Mapping[str, Any]) -> Id:
    """The id of a request."""
    return _id(header, "id")


def op_of(header: Mapping[str, Any]) -> str:
    """What a request asks for."""
    op = header.get("op")
    if not isinstance(op, str):
        raise RequestError("malformed", "A request needs 'op', a string.")
    return op


def request_of(header: Mapping[str, Any]) -> Request:
    """The request that a header makes.

    Raises :class:`RequestError`, or a :class:`NstrtError` with a sentence for the person.
    """
    size = announced(header)
    name = id_of(header)
    match op_of(header):
        case "hello":
            return Hello(name, _whole(header, "protocol"), header.get("token"))
        case "prepare":
            return Prepare(name, _options(header))
        case "estimate":
            return _estimate(name, header)
        case "stylize":
            return _stylize(name, header, size)
        case "cancel":
            return Cancel(name, _id(header, "job"))
        case "stop":
            return Stop(name, _id(header, "job"))
        case "quit":
            return Quit(name)
        case op:
            raise RequestError("unknown-op", f"There is no request '{op}'.")


def _estimate(name: Id, header: Mapping[str, Any]) -> Estimate:
    regions = []
    for number, region in enumerate(_list(header, "regions")):
        style = _object(region, f"regions[{number}]").get("style")
        regions.append(None if style is None else _size_of(style, f"regions[{number}].style"))
    return Estimate(
        id=name,
        content=_size_of(header.get("content"), "content"),
        style=None if header.get("style") is None else _size_of(header["style"], "style"),
        options=_options(header),
        add_styles=tuple(
            _size_of(each, f"add_styles[{number}]")
            for number, each in enumerate(_list(header, "add_styles"))
        ),
        regions=tuple(regions),
        protect=header.get("protect") is not None,
    )


def _stylize(name: Id, header: Mapping[str, Any], size: int) -> Stylize:
    result = header.get("result", "rgba8")
    request = Stylize(
        id=name,
        content=_given(header, "content"),
        style=_given(header, "style"),
        options=_options(header),
        previews=_seconds(header, "previews"),
        result=_format(result, "result"),
        result_name=result,
        add_styles=tuple(
            _picture(each, f"add_styles[{number}]")
            for number, each in enumerate(_list(header, "add_styles"))
        ),
        regions=tuple(
            _region(each, f"regions[{number}]")
            for number, each in enumerate(_list(header, "regions"))
        ),
        protect=None if header.get("protect") is None else _given(header, "protect"),
    )
    if request.nbytes != size:
        raise RequestError(
            "malformed",
            f"The pictures have {request.nbytes} bytes, and 'nbytes' is another number.",
        )
    for picture in request.pixels:
        _check_size(picture.width, picture.height)
    return request


def _list(header: Mapping[str, Any], key: str) -> list[Any]:
    value = header.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MOST_PICTURES:
        raise RequestError("malformed", f"'{key}' must be a list of up to {MOST_PICTURES} objects.")
    return value


def _region(value: object, key: str) -> Region:
    region = _object(value, key)
    style = region.get("style")
    return Region(
        mask=_picture(region.get("mask"), f"{key}.mask"),
        style=None if style is None else _picture(style, f"{key}.style"),
    )


def _object(value: object, key: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise RequestError("malformed", f"'{key}' must be an object.")
    return value


def _given(header: Mapping[str, Any], key: str) -> Given:
    return _picture(header.get(key), key)


def _picture(value: object, key: str) -> Given:
    picture = _object(value, key)
    if "file" in picture:
        return _file(picture, key)
    return PixelPicture(
        _pixels(picture, key, "width"),
        _pixels(picture, key, "height"),
        _format(picture.get("format"), f"{key}.format"),
    )


def _size_of(value: object, key: str) -> Known:
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
        # The one name that the function below has and that is no option.
        raise OptionError("There is no option 'cls'.")
    try:
        options = StylizeOptions.of(**given)
    except NstrtError:
        raise
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        raise OptionError(f"The option {_culprit(given)} cannot have that value.") from error
    for name, spec in OPTIONS.items():
        if spec.file_words:
            _check_file_option(name, getattr(options, name), spec.file_words)
    return options


def _check_file_option(name: str, value: str, words: Sequence[str]) -> None:
    if value not in words and ("\0" in value or not os.path.isabs(value)):
        raise OptionError(
            f"The option '{name}' is one of {', '.join(words)}, or a file by its whole path, "
            f"not '{value}'."
        )


def _culprit(given: Mapping[str, Any]) -> str:
    """The first option that fails alone."""
    for name, value in given.items():
        try:
            StylizeOptions.of(**{name: value})
        except NstrtError:
            continue
        except Exception:
            return f"'{name}'"
    return "list"


def _pixels(picture: Mapping[str, Any], key: str, side: str) -> int:
    value = _whole(picture, side, f"{key}.{side}")
    if not 0 < value < 2**31:
        raise RequestError("malformed", f"'{key}.{side}' must be a number of pixels.")
    return value


def _whole(header: Mapping[str, Any], key: str, shown: str = "") -> int:
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
    if isinstance(value, str) and len(value) <= LONGEST_ID:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST_ID:
        return value
    raise RequestError(
        "malformed",
        f"'{key}' must be a whole number or a string of up to {LONGEST_ID} characters.",
    )
