"""Colours, channels and damage of TIFF files, from their tags (TIFF 6.0 and its supplements)."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from functools import partial
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.errors import PictureReadError
from nstrt.runtime.pictures.colors.encoding import (
    D65,
    Chromaticities,
    ColorEncoding,
    UnknownEncodingError,
    from_gamma,
    lab_to_srgb,
)
from nstrt.runtime.pictures.colors.transfer import table
from nstrt.runtime.pictures.formats.facts import Facts, cut_off_error, fallback_note
from nstrt.runtime.pictures.formats.jpeg import whole_rows
from nstrt.runtime.pictures.formats.tiff_tags import TiffTags, read_tags
from nstrt.runtime.pictures.limits import check_memory, check_size
from nstrt.runtime.pictures.vips import libvips, to_samples, vips_operation

__all__ = ["inspect_tiff"]

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_ORIENTATION = 274
_STRIPS, _CHANNELS, _STRIP_ROWS, _STRIP_SIZES, _PLANES = 273, 277, 278, 279, 284
_TRANSFER, _WHITE, _PRIMARIES = 301, 318, 319
_TILE_HEIGHT, _TILES, _TILE_SIZES, _TILE_WIDTH = 323, 324, 325, 322
_INK_SET, _INKS, _DOT_RANGE, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 332, 334, 336, 338, 339
_JPEG_TABLES = 347
_LUMA, _SUBSAMPLING, _BLACK_WHITE, _PROFILE = 529, 530, 532, 34675

_RGB, _CMYK, _YCBCR, _CIELAB, _ICCLAB = 2, 5, 6, 8, 9
_COLOR_CHANNELS = {0: 1, 1: 1, _RGB: 3, 3: 3, _CMYK: 4, _YCBCR: 3, _CIELAB: 3, _ICCLAB: 3}
"""Colour channels that libvips decodes, by PhotometricInterpretation."""

_MAX_CHANNELS = 64

_MAX_JPEG_PIECES = 1 << 15
"""Largest number of strips or tiles that are checked; tiles of 128 x 128 of any picture fit."""

_PALETTE = 3
_RAW, _JPEG = 1, 7
_CHECKED = frozenset([5, 8, 32773, 32946, 34925, 50000])
"""Compressions whose decoders report missing data."""

_COMMON = frozenset([5, 8, 32773, 32946])
"""Those of them that every libtiff knows; Pillow and libvips have each their own."""

_BT601 = (0.299, 0.587, 0.114)
_FULL_RANGE = (0, 255, 128, 255, 128, 255)


def inspect_tiff(content: bytes, name: str) -> Facts:
    """Meaning of the samples, and the bytes that libvips decodes to them.

    Raises :class:`PictureReadError` for missing rows and for colours that are not supported.
    """
    facts = Facts(name=name, content=content)
    tags = read_tags(content)
    if tags is None or not {_WIDTH, _HEIGHT, _PHOTOMETRIC} <= tags.entries.keys():
        return facts
    size = tags.number(_WIDTH, 0), tags.number(_HEIGHT, 0)
    check_size(*size, name)
    # libvips takes the memory of a strip before it tells the size.
    check_memory(*size, tags.number(_CHANNELS, 1), name)
    photometric = tags.number(_PHOTOMETRIC, -1)
    changes = _check_rows(tags, facts)
    _set_channels(tags, photometric, facts)
    facts.expects_profile = _PROFILE in tags.entries
    facts.states_orientation = _ORIENTATION in tags.entries
    if photometric in (_CIELAB, _ICCLAB):
        bits = tags.number(_BITS, 1)
        if bits not in (8, 16):
            raise _unusual(name, f"L*a*b* of {bits} bits")
        facts.convert = partial(lab_to_srgb, signed=photometric == _CIELAB)
        facts.expects_profile = False
        # As unsigned RGB, libvips hands the numbers over as they are.
        changes[_PHOTOMETRIC] = (_RGB,)
        changes[_SAMPLE_FORMAT] = (1,) * tags.number(_CHANNELS, 1)
    elif photometric == _YCBCR:
        _set_ycbcr(tags, facts)
    if photometric in (1, _RGB, _PALETTE, _YCBCR):
        try:
            facts.fallback = _encoding(tags)
        except UnknownEncodingError as error:
            if not facts.expects_profile:
                facts.notes.append(fallback_note(name, str(error)))
    if tags.damaged:
        facts.damage = f"'{name}' has damaged tags, which were left out; all its rows are there."
    if tags.damaged or changes:
        facts.content = tags.rewritten(changes)
    return facts


def _unusual(name: str, what: str) -> PictureReadError:
    return PictureReadError(
        f"The picture '{name}' holds {what}, which cannot be converted; save it as an RGB picture "
        "with 8 or 16 bits per channel."
    )


def _set_channels(tags: TiffTags, photometric: int, facts: Facts) -> None:
    """Number of colour channels and place of the alpha channel."""
    name = facts.name
    colors = _COLOR_CHANNELS.get(photometric)
    if colors is None:
        kinds = {4: "a mask", 10: "ITU L*a*b* colours", 32803: "a sensor's colour filter array"}
        raise _unusual(name, kinds.get(photometric, f"colours of kind {photometric}"))
    stored = 1 if photometric == _PALETTE else colors
    channels = tags.number(_CHANNELS, 1)
    dots = tags.numbers(_DOT_RANGE, (0, 1))
    if photometric == _CMYK and (
        tags.number(_INK_SET, 1) != 1 or tags.number(_INKS, 4) != 4 or dots[0] > dots[-1]
    ):
        raise _unusual(name, "inks other than cyan, magenta, yellow and black")
    extra = channels - stored
    if extra < 0 or channels > _MAX_CHANNELS:
        raise _unusual(name, f"{channels} channels of colours that need {stored}")
    facts.color_channels = colors
    kinds_of_extra = [int(kind) for kind in tags.numbers(_EXTRA_SAMPLES)][:extra]
    known = [index for index, kind in enumerate(kinds_of_extra) if kind in (1, 2)]
    if known:
        facts.alpha = colors + known[0]
    elif extra == 1 and not kinds_of_extra:
        facts.alpha = colors
        facts.notes.append(
            f"'{name}' does not say what its last channel is, which was taken as alpha."
        )
        return
    elif extra > 1 and stored == 1:
        raise _unusual(name, f"{channels} channels without a colour")
    if extra > len(known[:1]):
        facts.notes.append(f"'{name}' has channels besides its colours, which were left out.")


def _set_ycbcr(tags: TiffTags, facts: Facts) -> None:
    """Have YCbCr decoded by libtiff's own conversion, which libvips uses for JPEG only."""
    name = facts.name
    if tags.number(_BITS, 1) != 8 or tags.number(_PLANES, 1) != 1:
        raise _unusual(name, "YCbCr colours of an unusual layout")
    if tags.number(_COMPRESSION, _RAW) != _JPEG:
        if facts.alpha is not None:
            raise _unusual(name, "YCbCr colours with transparency")
        facts.decode = partial(_decode_with_pillow, tags)
        facts.oriented = True
        return
    luma = tags.numbers(_LUMA, _BT601)
    levels = tags.numbers(_BLACK_WHITE, _FULL_RANGE)
    if not np.allclose(luma, _BT601, atol=0.002) or not np.allclose(levels, _FULL_RANGE, atol=1):
        raise _unusual(name, "YCbCr colours with coefficients that JPEG does not know")


def _decode_with_pillow(tags: TiffTags) -> NDArray[np.uint8]:
    """RGB samples of YCbCr, with coefficients, range and subsampling as the tags state them."""
    from PIL.TiffImagePlugin import TiffImageFile

    content = tags.content
    if tags.number(_COMPRESSION, _RAW) == _RAW:
        content = _deflated(tags)
    elif tags.damaged:
        content = tags.rewritten({})
    _check_samples(content)
    with TiffImageFile(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def _check_samples(content: bytes) -> None:
    """Raise VipsError if YCbCr data is damaged, which Pillow fills silently.

    Read as gray bytes, a row of blocks of subsampled pixels at a time, libvips reports it.
    """
    tags = read_tags(content)
    if tags is None or tags.number(_COMPRESSION, _RAW) not in _COMMON:
        return
    across, down = (max(1, int(number)) for number in tags.numbers(_SUBSAMPLING, (2, 2))[:2])
    width, height = tags.number(_WIDTH, 0), tags.number(_HEIGHT, 0)
    tiled = _TILES in tags.entries
    columns = max(1, tags.number(_TILE_WIDTH, width)) if tiled else width
    rows = tags.number(_TILE_HEIGHT if tiled else _STRIP_ROWS, height)
    rows = max(1, rows if tiled else min(rows, height))
    row_bytes, blocks = -(-columns // across) * (across * down + 2), -(-rows // down)
    last = rows if tiled else height - (height - 1) // rows * rows
    changes: dict[int, tuple[int, ...]] = {
        _WIDTH: (row_bytes * -(-width // columns),),
        _HEIGHT: ((height - 1) // rows * blocks + -(-last // down),),
        _STRIP_ROWS: (blocks,),
        _BITS: (8,),
        _PHOTOMETRIC: (1,),
        _CHANNELS: (1,),
    }
    if tiled:
        changes |= {_TILE_WIDTH: (row_bytes,), _TILE_HEIGHT: (blocks,)}
    for tag in (_SUBSAMPLING, _LUMA, _BLACK_WHITE, _PROFILE, _SAMPLE_FORMAT):
        tags.entries.pop(tag, None)
    gray = tags.rewritten(changes)
    with vips_operation():
        to_samples(libvips().Image.tiffload_buffer(gray, access="sequential", fail_on="error"))


def _deflated(tags: TiffTags) -> bytes:
    """The file with compressed strips or tiles, which Pillow leaves to libtiff."""
    tiled = _TILES in tags.entries
    places, sizes = (_TILES, _TILE_SIZES) if tiled else (_STRIPS, _STRIP_SIZES)
    stored = zip(tags.numbers(places), tags.numbers(sizes), strict=False)
    pieces = [
        zlib.compress(tags.content[int(place) : int(place) + min(int(size), needed)], 1)
        for (place, size), (_, needed, _) in zip(stored, _pieces(tags, tiled=tiled), strict=False)
    ]
    lengths = tuple(map(len, pieces))
    offsets = tuple(accumulate(lengths, initial=len(tags.content)))[:-1]
    changes = {places: offsets, sizes: lengths, _COMPRESSION: (8,)}
    return tags.rewritten(changes, b"".join(pieces))


def _encoding(tags: TiffTags) -> ColorEncoding | None:
    """Colour encoding by WhitePoint, PrimaryChromaticities and TransferFunction."""
    if not tags.entries.keys() & {_WHITE, _PRIMARIES, _TRANSFER}:
        return None
    primaries: Chromaticities | None = None
    points, white = tags.numbers(_PRIMARIES), tags.numbers(_WHITE, D65)
    if points:
        if len(points) != 6 or len(white) != 2:
            raise UnknownEncodingError("its chromaticities")
        red, green, blue = zip(points[::2], points[1::2], strict=True)
        primaries = (red, green, blue, (white[0], white[1]))
    curve = None
    if _TRANSFER in tags.entries:
        levels = np.array(tags.numbers(_TRANSFER), np.float64) / 65535
        count = 1 << min(tags.number(_BITS, 1), 32)
        curves = levels.reshape(-1, count) if levels.size in (count, 3 * count) else levels[:0]
        if not curves.size or (curves != curves[0]).any():
            raise UnknownEncodingError("its transfer function")
        curve = table(curves[0])
    return from_gamma(None, primaries, transfer=curve)


def _check_rows(tags: TiffTags, facts: Facts) -> dict[int, tuple[int, ...]]:
    """Raise :class:`PictureReadError` if rows are missing for certain.

    Returns changed tags: sizes of compressed pieces that seem to go beyond the file.
    """
    height = tags.number(_HEIGHT, 0)
    tiled = _TILES in tags.entries
    places, sizes = (_TILES, _TILE_SIZES) if tiled else (_STRIPS, _STRIP_SIZES)
    offsets, lengths = ([int(n) for n in tags.numbers(tag)] for tag in (places, sizes))
    compression = tags.number(_COMPRESSION, _RAW)
    raw = compression == _RAW and tags.number(_PHOTOMETRIC, -1) != _YCBCR
    if not lengths and raw:
        lengths = [0] * len(offsets)
    total, clamped = len(tags.content), list(lengths)
    left, tallest = total, 0
    checked: set[tuple[int, int, int]] = set()
    if compression == _JPEG and len(lengths) > _MAX_JPEG_PIECES:
        raise _unusual(facts.name, f"{len(lengths)} small pieces of JPEG")
    for index, (row, needed, row_bytes) in enumerate(_pieces(tags, tiled=tiled)):
        if index >= min(len(offsets), len(lengths)) or not 0 < offsets[index] < total:
            raise cut_off_error(facts.name, rows=(height - row, height))
        length = needed if raw else lengths[index]
        there = total - offsets[index]
        if length <= there and length > 0:
            if compression == _JPEG:
                rows = needed // row_bytes
                tallest = max(tallest, rows)
                if (offsets[index], length, rows) in checked:
                    continue
                checked.add((offsets[index], length, rows))
                left -= length
                # Blank tiles may share a piece; pieces that overlap would multiply the file.
                if left < 0:
                    raise cut_off_error(facts.name)
                piece = tags.content[offsets[index] : offsets[index] + length]
                _check_jpeg_piece(tags, piece, row, rows, tallest, facts)
            continue
        whole = row if not raw or tiled else row + there // row_bytes
        if raw or not length or compression not in _CHECKED:
            raise cut_off_error(facts.name, rows=(height - whole, height))
        facts.missing = facts.missing or (height - row, height)
        clamped[index] = there
    return {sizes: tuple(clamped)} if clamped != lengths else {}


def _check_jpeg_piece(
    tags: TiffTags, piece: bytes, row: int, rows: int, tallest: int, facts: Facts
) -> None:
    """Raise :class:`PictureReadError` if a strip or tile lacks rows, which libtiff fills silently.

    ``row`` is its first one, ``rows`` the number that it should have, and ``tallest`` the most that
    it may have, as the last strip of some writers.
    """
    height = tags.number(_HEIGHT, 0)
    width = tags.number(_TILE_WIDTH if _TILES in tags.entries else _WIDTH, 0)
    tables = tags.stored(_JPEG_TABLES)[:-2] if _JPEG_TABLES in tags.entries else piece[:2]
    whole = whole_rows(tables + piece[2:], width, rows, tallest)
    if whole < rows:
        raise cut_off_error(facts.name, rows=(height - min(row + whole, height), height))


def _pieces(tags: TiffTags, *, tiled: bool) -> Iterator[tuple[int, int, int]]:
    """First row, uncompressed bytes and bytes of a row of each strip or tile."""
    width, height = tags.number(_WIDTH, 0), tags.number(_HEIGHT, 0)
    bits = [int(n) for n in tags.numbers(_BITS, (1,))]
    channels = tags.number(_CHANNELS, 1)
    planes = channels if tags.number(_PLANES, 1) == 2 else 1
    rows = tags.number(_TILE_HEIGHT if tiled else _STRIP_ROWS, height)
    rows = max(1, rows if tiled else min(rows, height))
    columns = max(1, tags.number(_TILE_WIDTH, width)) if tiled else width
    row_bytes = (columns * bits[0] * (1 if planes > 1 else channels) + 7) // 8
    for _ in range(planes):
        for row in range(0, height, rows):
            held = rows if tiled else min(rows, height - row)
            for _ in range(-(-width // columns) if tiled else 1):
                yield row, held * row_bytes, max(1, row_bytes)
