"""Damaged files: all pixels there are read with a note, missing rows refused with their number."""

from __future__ import annotations

import re
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from nstrt.runtime.errors import NstrtError, PictureReadError
from nstrt.runtime.pictures import Picture, decode_picture

from support.picture_files import chunk, encoded, png, tiff

HEIGHT, WIDTH = 106, 160
NOISE = np.random.default_rng(2).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
IMAGE = Image.fromarray(NOISE)
JPEG = encoded(IMAGE, "JPEG", quality=90)
PROGRESSIVE = encoded(IMAGE, "JPEG", quality=90, progressive=True)
RESTARTS = encoded(IMAGE, "JPEG", quality=90, restart_marker_rows=1)
GRAY = encoded(IMAGE.convert("L"), "JPEG", quality=90)
PNG = encoded(IMAGE, "PNG")
WEBP = encoded(IMAGE, "WEBP", lossless=True)
GIF = encoded(IMAGE.quantize(64), "GIF")
AVIF = encoded(IMAGE, "AVIF")
BMP = encoded(IMAGE, "BMP")
TIFF = encoded(IMAGE, "TIFF", compression="tiff_lzw")
END = b"\xff\xd9"
STRAY = "'a' has stray bytes; where they lie among its pixels, it looks damaged."


def read(content: bytes) -> Picture:
    return decode_picture(content, name="a")


def repaired(content: bytes, whole: bytes) -> str:
    """Assert that a file is read as its undamaged version, and return the note."""
    picture = read(content)
    assert np.array_equal(picture.rgb, read(whole).rgb)
    (note,) = picture.notes
    assert "'a'" in note
    assert note.endswith(".")
    return note


def refusal(content: bytes) -> str:
    with pytest.raises(PictureReadError) as caught:
        read(content)
    sentence = str(caught.value)
    assert "'a'" in sentence
    assert sentence.endswith("copy it again from where it came from.")
    return sentence


def missing_rows(content: bytes) -> int:
    found = re.search(r"(\d+) of its 106 rows (is|are) missing", refusal(content))
    assert found is not None, refusal(content)
    return int(found[1])


# JPEG


@pytest.mark.parametrize("whole", [JPEG, PROGRESSIVE, RESTARTS, GRAY])
def test_jpeg_without_its_end_marker_is_read(whole: bytes) -> None:
    assert whole.endswith(END)
    assert "end marker" in repaired(whole[:-2], whole)
    assert "end marker" in repaired(whole[:-1], whole)


@pytest.mark.parametrize("whole", [JPEG, RESTARTS, GRAY])
@pytest.mark.parametrize("part", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("end", [b"", END])
def test_jpeg_without_some_rows_says_how_many(whole: bytes, part: float, end: bytes) -> None:
    missing = missing_rows(whole[: int(len(whole) * part)] + end)
    assert abs(missing - (1 - part) * HEIGHT) < 24


def test_jpeg_with_a_few_missing_bytes_lacks_its_last_rows() -> None:
    for cut in (3, 10, 40):
        assert 1 <= missing_rows(JPEG[:-cut]) <= 16
        assert 1 <= missing_rows(JPEG[:-cut] + END) <= 16


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("height", [64, 61])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_the_last_rows_of_a_jpeg_are_missed(mode: str, height: int, subsampling: int) -> None:
    image = IMAGE.convert(mode).crop((0, 0, WIDTH, height))
    whole = encoded(image, "JPEG", quality=90, subsampling=subsampling)
    assert not [note for note in read(whole).notes if "press" not in note]
    block = 16 if subsampling == 2 and mode != "L" else 8
    for cut in (4, 10, 40):
        for end in (b"", END):
            found = re.search(r"(\d+) of its", refusal(whole[:-cut] + end))
            assert found is not None
            assert int(found[1]) == (height % block or block)


def test_progressive_jpeg_without_scans_is_refused_or_noted() -> None:
    last = PROGRESSIVE.rfind(b"\xff\xda")
    before = PROGRESSIVE.rfind(b"\xff\xc4", 0, last)
    assert "last scans" in refusal(PROGRESSIVE[:before])
    assert "last scans" in refusal(PROGRESSIVE[:-30])
    refusal(PROGRESSIVE[: len(PROGRESSIVE) // 2])
    # With an end marker the standard allows it, and the writer may have meant it.
    assert "fine detail" in read(PROGRESSIVE[:before] + END).notes[0]


def test_jpeg_with_damaged_restarts_is_refused() -> None:
    broken = bytearray(RESTARTS)
    middle = RESTARTS.index(b"\xff\xd3")
    broken[middle - 60 : middle] = bytes(60)
    refusal(bytes(broken))


def test_jpeg_with_faults_that_cost_no_pixel_is_read() -> None:
    adobe = b"\xff\xee\x00\x0eAdobe\0\x64\0\0\0\0\x09"
    future = JPEG.replace(b"JFIF\0\x01", b"JFIF\0\x07", 1)
    table = JPEG.index(b"\xff\xdb")
    stray = JPEG[:table] + b"\0\0\0" + JPEG[table:]
    scan = JPEG.index(b"\xff\xda")
    selection = JPEG[: scan + 11] + b"\1" + JPEG[scan + 12 :]
    for content in (JPEG[:2] + adobe + JPEG[2:], future, stray, selection):
        picture = read(content)
        assert np.array_equal(picture.rgb, read(JPEG).rgb)
        notes = ("'a' has faults that cost no pixel.",), (STRAY,)
        assert picture.notes in ((), *notes)


def test_stray_bytes_among_the_pixels_are_not_called_harmless() -> None:
    image = IMAGE.resize((40, 27)).resize((160, 106))
    content = encoded(image, "JPEG", progressive=True)
    middle = content.index(b"\xff\xda") + 60
    assert read(content[:middle] + bytes(50) + content[middle + 50 :]).notes == (STRAY,)


def test_an_undecodable_message_of_libvips_poisons_no_later_picture() -> None:
    for cut in range(40, 2000, 97):
        broken = AVIF[:60] + AVIF[60 + cut :]
        read_or_refused(broken)
        assert np.array_equal(read(PNG).to_array(np.uint8), NOISE)


def test_data_behind_a_jpeg_is_no_damage() -> None:
    """Cameras store gain maps, films and previews there."""
    for behind in (b"\0" * 99, b"foreign", JPEG[:-30]):
        assert read(JPEG + behind).notes == ()


def test_a_header_of_many_pixels_costs_neither_time_nor_memory() -> None:
    start = time.perf_counter()
    frame = JPEG.index(b"\xff\xc0") + 5
    large = JPEG[:frame] + struct.pack(">HH", 19_000, 20_000) + JPEG[frame + 4 :]
    assert "of its 19000 rows are missing" in refusal(large)
    header = struct.pack(">IIBBBBB", 20_000, 19_000, 8, 2, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(bytes(1000)))
    assert "of its 19000 rows are missing" in refusal(
        PNG[:8] + chunk(b"IHDR", header) + rows + PNG[-12:]
    )
    tags = {256: ("I", 20_000), 257: ("I", 19_000), 278: ("I", 19_000)}
    refusal(tiff(NOISE, tags))
    assert time.perf_counter() - start < 5


# PNG


def idat(content: bytes) -> tuple[int, int]:
    """Start and end of the data of the first IDAT chunk."""
    start = content.index(b"IDAT") + 4
    return start, start + int.from_bytes(content[start - 8 : start - 4])


def with_idat(data: bytes) -> bytes:
    start, end = idat(PNG)
    return PNG[: start - 8] + chunk(b"IDAT", data) + PNG[end + 4 :]


@pytest.mark.parametrize("cut", [1, 5, 11, 12, 14, 18])
def test_png_without_its_end_is_read(cut: int) -> None:
    assert "all of its rows" in repaired(PNG[:-cut], PNG)


def test_png_with_wrong_checksums_is_read_if_all_pixels_are_there() -> None:
    text = chunk(b"tEXt", b"a\0b")[:-1] + b"?"
    assert "tEXt" in repaired(PNG[:33] + text + PNG[33:], PNG)
    start, end = idat(PNG)
    repaired(PNG[:end] + b"oops" + PNG[end + 4 :], PNG)
    repaired(PNG[:-2] + b"??", PNG)
    # The checksum inside the compressed data is missing.
    repaired(with_idat(PNG[start : end - 4]), PNG)


def test_png_with_damaged_data_is_refused() -> None:
    start, end = idat(PNG)
    wrong = PNG[start : end - 1] + bytes([PNG[end - 1] ^ 1])
    refusal(with_idat(wrong))


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_png_without_some_rows_says_how_many(part: float) -> None:
    start, end = idat(PNG)
    cut = start + int((end - start) * part)
    for content in (PNG[:cut], with_idat(PNG[start:cut])):
        assert abs(missing_rows(content) - (1 - part) * HEIGHT) < 4


@pytest.mark.parametrize("part", [0.3, 0.9])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_rows_of_small_samples_are_counted(part: float, bits: int) -> None:
    samples = (NOISE[..., :1] >> (8 - bits)).astype(np.uint8)
    content = png(samples, bits=bits)
    assert abs(missing_rows(content[: int(len(content) * part)]) - (1 - part) * HEIGHT) < 8


def test_interlaced_png_lacks_a_share_of_its_pixels() -> None:
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 1)
    passes = [(0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4)]
    passes += [(0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2)]
    rows = b""
    for x, dx, y, dy in passes:
        rows += b"".join(b"\0" + row.tobytes() for row in NOISE[y::dy, x::dx])
    data = zlib.compress(rows)
    whole = PNG[:8] + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    assert np.array_equal(read(whole).rgb, read(PNG).rgb)
    repaired(whole[:-12], whole)
    assert "% of its pixels are missing" in refusal(whole[: len(whole) // 2])


# TIFF


def tiff_entry(content: bytes, tag: int) -> int:
    """Offset of a tag's entry."""
    start = int.from_bytes(content[4:8], "little")
    count = int.from_bytes(content[start : start + 2], "little")
    places = range(start + 2, start + 2 + 12 * count, 12)
    return next(p for p in places if int.from_bytes(content[p : p + 2], "little") == tag)


def with_entry(content: bytes, tag: int, entry: bytes) -> bytes:
    place = tiff_entry(content, tag)
    return content[:place] + entry + content[place + 12 :]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "entry",
    [
        struct.pack("<HHII", 60000, 2, 5000, 10**8),
        struct.pack("<HHII", 60000, 99, 5, 3),
        struct.pack("<HHII", 34675, 7, 5000, 10**8),
        struct.pack("<HHII", 700, 1, 2**31, 8),
        bytes(12),
    ],
)
def test_tiff_with_a_damaged_tag_is_read(packed: bool, entry: bytes) -> None:
    whole = tiff(NOISE, {60000: ("I", 7)}, packed=packed, strips=4)
    assert "tags" in repaired(with_entry(whole, 60000, entry), whole)


def test_tiff_that_is_cut_off_in_its_last_tag_is_read() -> None:
    whole = tiff(NOISE, {60000: ("I", *range(50))})
    repaired(whole[:-20], whole)
    last = tiff_entry(whole, 60000) + 12
    repaired(whole[:last] + struct.pack("<I", 10**8) + whole[last + 4 :], whole)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("strips", [1, 4, 53])
def test_tiff_without_some_rows_says_how_many(packed: bool, strips: int) -> None:
    whole = tiff(NOISE, {}, packed=packed, strips=strips)
    # The directory comes first, as in files whose end can be missing.
    start = int.from_bytes(whole[4:8], "little")
    moved = bytearray(whole[start:])
    gap = len(moved)
    content = bytearray(b"II*\0" + struct.pack("<I", 8) + bytes(moved) + whole[8:start])
    shift = {True: 8 - start, False: gap}
    for index in range(int.from_bytes(moved[:2], "little")):
        place = 10 + 12 * index
        tag, kind, count = struct.unpack_from("<HHI", content, place)
        width = {3: 2, 4: 4}[kind] * count
        (value,) = struct.unpack_from("<I", content, place + 8)
        if width > 4:
            value += shift[True]
            struct.pack_into("<I", content, place + 8, value)
        if tag == 273:
            for number in range(count):
                at = value + 4 * number if width > 4 else place + 8
                (offset,) = struct.unpack_from("<I", content, at)
                struct.pack_into("<I", content, at, offset + shift[False])
    assert np.array_equal(read(bytes(content)).rgb, read(whole).rgb)
    cut = bytes(content[: gap + 8 + (len(content) - gap - 8) // 2])
    expected = 53 if strips > 1 or not packed else 106
    assert abs(missing_rows(cut) - expected) <= (27 if strips == 4 else 2)


def test_tiff_without_strips_is_refused() -> None:
    whole = tiff(NOISE, {}, packed=True, strips=2)
    none = with_entry(whole, 279, struct.pack("<HHII", 279, 4, 1, 10))
    assert missing_rows(none) >= 53


# WebP, GIF, AVIF, BMP


def test_the_canvas_beside_the_first_frame_of_a_gif_is_transparent() -> None:
    colors, gray = IMAGE.quantize(64), IMAGE.convert("L")
    for frame in (colors, gray):
        whole = encoded(frame, "GIF")
        picture = read(whole[:6] + struct.pack("<2H", WIDTH + 20, HEIGHT + 10) + whole[10:])
        assert picture.size == (WIDTH + 20, HEIGHT + 10)
        assert picture.alpha is not None
        assert np.array_equal(picture.rgb[:HEIGHT, :WIDTH], read(whole).rgb)
        seen = np.zeros((HEIGHT + 10, WIDTH + 20))
        seen[:HEIGHT, :WIDTH] = 1
        assert np.array_equal(picture.alpha, seen)


def test_webp_with_rubbish_or_a_wrong_size_is_read() -> None:
    assert "foreign data" in repaired(WEBP + b"rubbish", WEBP)
    size = int.from_bytes(WEBP[4:8], "little")
    for wrong in (size - 4, size - 1, size + 1, size + 2, size + 100, 0):
        repaired(WEBP[:4] + struct.pack("<I", wrong) + WEBP[8:], WEBP)


def test_webp_without_its_last_padding_is_read() -> None:
    whole = next(
        content
        for width in range(20, 60)
        if (content := encoded(IMAGE.resize((width, 20)), "WEBP", lossless=True))[16] % 2
    )
    unpadded = whole[:4] + struct.pack("<I", len(whole) - 9) + whole[8:-1]
    for content in (whole[:-1], unpadded):
        assert "all of its pixels" in repaired(content, whole)


@pytest.mark.parametrize("whole", [JPEG, PNG, WEBP, GIF, AVIF, BMP, TIFF])
def test_a_file_cut_off_anywhere_is_to_be_copied_again(whole: bytes) -> None:
    for length in range(60, min(len(whole) - 100, 3000), 97):
        with pytest.raises(PictureReadError, match=r"cut off.*copy it again"):
            read(whole[:length])


def test_a_gif_cut_off_in_the_description_of_its_frame_is_refused() -> None:
    whole = encoded(IMAGE.quantize(2), "GIF")
    start = whole.index(b",")
    for length in range(start + 1, start + 14):
        with pytest.raises(PictureReadError, match="cut off"):
            read(whole[:length])


def test_damage_that_looks_like_a_second_frame_counts_as_damage() -> None:
    whole = encoded(IMAGE, "JPEG")
    frame, scan = whole.index(b"\xff\xc0"), whole.index(b"\xff\xda")
    other = bytearray(whole[frame : frame + 19])
    other[5:9] = struct.pack(">2H", 9000, 900)
    for place in (scan + 200, len(whole) - 300):
        with pytest.raises(PictureReadError, match=f"of its {IMAGE.height} rows"):
            read(whole[:place] + bytes(other) + whole[place:])


def test_webp_is_read_without_its_last_additions() -> None:
    exif = Image.Exif()
    exif[0x010E] = "words " * 9
    whole = encoded(IMAGE, "WEBP", lossless=True, exif=exif)
    assert "all of its pixels" in repaired(whole[:-6], WEBP)
    assert "bytes of pixels are missing" in refusal(WEBP[:-20])


def test_gif_without_its_end_is_read() -> None:
    assert GIF.endswith(b"\0;")
    for content in (GIF[:-1], GIF[:-2], GIF[:-1] + b"rubbish", GIF + b"rubbish"):
        repaired(content, GIF)


def test_gif_is_read_without_its_later_frames() -> None:
    frames = [IMAGE.quantize(64), IMAGE.rotate(90).quantize(64)]
    whole = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert "first frame" in repaired(whole[:-500], whole)


@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("colors", [2, 16, 256])
def test_gif_without_some_rows_says_how_many(part: float, colors: int) -> None:
    whole = encoded(IMAGE.quantize(colors), "GIF", interlace=0)
    assert abs(missing_rows(whole[: int(len(whole) * part)]) - (1 - part) * HEIGHT) < 12


def test_gif_whose_data_end_early_lacks_rows() -> None:
    """Its blocks are whole, so only the compressed data tell."""
    place = GIF.index(b"\x2c\0\0\0\0")
    taller = bytearray(GIF)
    taller[8:10] = taller[place + 7 : place + 9] = struct.pack("<H", 2 * HEIGHT)
    assert "106 of its 212 rows" in refusal(bytes(taller))


def test_avif_with_rubbish_is_read_and_one_cut_off_refused() -> None:
    assert "foreign data" in repaired(AVIF + b"rubbish and more", AVIF)
    assert read(AVIF + bytes(100)).notes == ()
    assert re.search(r"10 of \d+ bytes are missing", refusal(AVIF[:-10]))


def test_bmp_without_some_rows_says_how_many() -> None:
    assert missing_rows(BMP[: -10 * WIDTH * 3]) == 10
    assert missing_rows(BMP[:-1]) == 1
    assert read(BMP + b"rubbish").notes == ()


@pytest.mark.parametrize("whole", [JPEG, PROGRESSIVE, PNG, WEBP, GIF, AVIF, BMP])
def test_any_damage_gives_a_picture_or_a_sentence(whole: bytes) -> None:
    random = np.random.default_rng(1)
    for _ in range(20):
        read_or_refused(whole[: random.integers(1, len(whole))])
        read_or_refused(flipped(whole, random))


def read_or_refused(content: bytes) -> None:
    """Assert that nothing but an error with a sentence is raised."""
    sentence = "."
    try:
        read(content)
    except NstrtError as error:
        sentence = str(error)
    assert sentence.endswith(".")


def flipped(content: bytes, random: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for place in random.integers(0, len(content), 4):
        changed[place] ^= int(random.integers(1, 256))
    return bytes(changed)


def test_hostile_tiff_files_give_a_picture_or_a_sentence() -> None:
    random = np.random.default_rng(4)
    whole = tiff(NOISE[:32], {60000: ("I", *range(9))}, packed=True, strips=4)
    start = int.from_bytes(whole[4:8], "little")
    for _ in range(200):
        changed = bytearray(whole)
        for place in random.integers(start, len(whole), 3):
            changed[place] = int(random.integers(0, 256))
        read_or_refused(bytes(changed))


def test_notes_of_damage_name_the_file() -> None:
    assert decode_picture(JPEG[:-2], name="holiday.jpg").notes == (
        "'holiday.jpg' lacks its end marker, but all of its rows are there.",
    )


def test_names_of_additions_that_are_no_text_stop_nothing() -> None:
    text = chunk(b"iTXt", b"XML:com.adobe.xm\x80\0\0\0\0\0<x/>")
    assert np.array_equal(read(PNG[:33] + text + PNG[33:]).to_array(np.uint8), NOISE)
