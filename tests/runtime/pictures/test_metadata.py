"""The photo's data in results, as other programs read them."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, IptcImagePlugin, PngImagePlugin

from nstrt.runtime.errors import PictureReadError
from nstrt.runtime.pictures import Picture, as_picture, decode_picture, read_picture, read_recipe
from nstrt.runtime.pictures import save as save_picture
from nstrt.runtime.pictures.metadata.exif_block import parse_block
from nstrt.runtime.pictures.metadata.metadata import NO_METADATA, Metadata
from nstrt.runtime.pictures.metadata.xmp_packet import clean_packet
from nstrt.runtime.pictures.xmp import recipe_from_xmp, recipe_to_xmp

from support.photo_data import (
    AUTHOR,
    IPTC,
    XMP,
    exif_data,
    exif_tags,
    insert_segment,
    jpeg_photo,
    photo_image,
)

SUFFIXES = ["jpg", "png", "tif", "webp", "avif"]
BIG = "big.tif"
"""A BigTIFF file, with offsets of 64 bits."""
RECIPE = {"nstrt": "1", "losses": {"content": 0.5}}
LI = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li"


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", zlib.crc32(kind + data))


def photo(suffix: str) -> bytes:
    """A photo of each format with EXIF data, XMP data and 300 dots per inch, by Pillow."""
    if suffix == "jpg":
        return jpeg_photo()
    if suffix == "avif":
        # Pillow writes question marks for letters beyond ASCII; libheif keeps them.
        image = pyvips.Image.new_from_array(np.asarray(photo_image()))
        image.set_type(pyvips.GValue.blob_type, "exif-data", exif_data(dots=300))
        image.set_type(pyvips.GValue.blob_type, "xmp-data", XMP)
        image = image.copy(xres=300 / 25.4, yres=300 / 25.4)
        return bytes(image.heifsave_buffer(compression="av1", keep="exif:xmp"))
    content = io.BytesIO()
    if suffix in ("tif", BIG):
        tags = exif_tags(dots=300)
        tags[700], tags[33723] = XMP, IPTC
        photo_image().save(content, "TIFF", tiffinfo=tags, big_tiff=suffix == BIG)
    elif suffix == "webp":
        photo_image().save(content, "WEBP", lossless=True, exif=exif_data(dots=300), xmp=XMP)
    else:
        texts = PngImagePlugin.PngInfo()
        texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
        photo_image().save(content, "PNG", dpi=(300, 300), exif=exif_data(dots=300), pnginfo=texts)
    return content.getvalue()


def saved(picture: Picture, path: Path, **given: Any) -> tuple[Image.Image, list[str]]:
    notes = save_picture(picture, path, **{"recipe": RECIPE, "overwrite": True, **given})
    image = Image.open(path)
    exif = image.getexif()
    # Pillow reads the directories of TIFF files only until the pixels are loaded.
    for part in (0x8769, 0x8825, 1):
        exif.get_ifd(part)
    image.load()
    return image, notes


def packet_of(image: Image.Image) -> bytes:
    info = image.info
    found = info.get("xmp") or info.get("XML:com.adobe.xmp")
    if found is None:
        found = getattr(image, "tag_v2", {}).get(700, b"")
    return found if isinstance(found, bytes) else found.encode()


def assert_kept(image: Image.Image, *, size: tuple[int, int]) -> None:
    exif = image.getexif()
    assert exif[271] == "Maker"
    # Pillow decodes ASCII tags as Latin-1.
    assert exif[315].encode("latin-1").decode() == AUTHOR
    details, place = exif.get_ifd(0x8769), exif.get_ifd(0x8825)
    assert details[36867] == "2020:01:02 03:04:05"
    assert details[37500] == b"maker's own"
    assert details[42036] == "Lens"
    assert details[40961] == 1, "the colour space is sRGB"
    assert (details[40962], details[40963]) == size
    assert 37396 not in details, "a place in the picture is not kept"
    assert place[2] == (52.0, 31.0, 12.25)
    assert exif.get(274, 1) == 1
    assert not exif.get_ifd(1), "there is no thumbnail"
    assert round(float(exif[282])) == round(float(exif[283])) == 300


# Formats in and out


@pytest.mark.parametrize("source", [*SUFFIXES, BIG])
@pytest.mark.parametrize("target", SUFFIXES)
def test_data_of_every_format_is_kept_in_every_format(
    tmp_path: Path, source: str, target: str
) -> None:
    picture = decode_picture(photo(source), name="photo")
    assert picture.metadata.damage == ()
    image, notes = saved(picture, tmp_path / f"out.{target}")
    assert_kept(image, size=picture.size)
    if target in ("jpg", "png", "tif"):
        assert abs(image.info["dpi"][0] - 300) < 0.01
    packet = packet_of(image)
    assert ElementTree.fromstring(packet.decode()).find(f".//{LI}").text == "Käfer & Katze"
    assert b'Rating="5"' in packet
    assert not any(word in packet for word in (b"Orientation", b"Thumbnails", b"hdrgm:Version"))
    assert read_recipe(tmp_path / f"out.{target}") == RECIPE
    has_iptc = source in ("jpg", "tif", BIG)
    assert any("IPTC" in note for note in notes) == (has_iptc and target in ("webp", "avif"))
    if has_iptc and target in ("jpg", "tif"):
        assert IptcImagePlugin.getiptcinfo(image)[2, 80].decode() == AUTHOR
    again = read_picture(tmp_path / f"out.{target}").metadata
    assert again.iptc == (picture.metadata.iptc if target in ("jpg", "tif", "png") else b"")
    if "avif" not in (source, target):
        assert again.exif.place == picture.metadata.exif.in_order(again.exif.order).place
        assert again.exif.main[18246].count == 1, "libexif would drop the rating"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_data_can_be_left_out(tmp_path: Path, suffix: str) -> None:
    picture = decode_picture(photo(suffix), name="photo")
    path = tmp_path / f"out.{suffix}"
    image, notes = saved(picture, path, strip_metadata=True)
    content = path.read_bytes()
    assert notes == []
    assert not any(word in content for word in (b"Maker", AUTHOR.encode(), b"2020:01", b"Katze"))
    assert not image.getexif().get_ifd(0x8825)
    assert "dpi" not in image.info
    assert read_recipe(path) == RECIPE


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_picture_without_data_gets_none(tmp_path: Path, suffix: str) -> None:
    picture = as_picture(np.asarray(photo_image()))
    assert picture.metadata == NO_METADATA
    image, notes = saved(picture, tmp_path / f"out.{suffix}")
    assert notes == []
    assert "dpi" not in image.info
    assert not image.getexif().get_ifd(0x8769)
    assert read_picture(tmp_path / f"out.{suffix}").metadata.resolution is None


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_equal_pictures_give_equal_files(tmp_path: Path, suffix: str) -> None:
    picture = decode_picture(jpeg_photo(), name="photo")
    for name in "ab":
        saved(picture, tmp_path / f"{name}.{suffix}")
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


@pytest.mark.parametrize("source", SUFFIXES)
def test_a_pillow_object_has_the_data_of_its_file(tmp_path: Path, source: str) -> None:
    path = tmp_path / f"photo.{source}"
    path.write_bytes(photo(source))
    file, pillow = read_picture(path).metadata, as_picture(Image.open(path)).metadata
    assert (pillow.xmp, pillow.iptc, pillow.damage) == (file.xmp, file.iptc, ())
    assert pillow.exif.main[315].value == file.exif.main[315].value
    assert pillow.exif.photo.keys() == file.exif.photo.keys()
    assert pillow.exif.place.keys() == file.exif.place.keys()
    assert pillow.resolution == pytest.approx(file.resolution)


# Resolution


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_resolution_alone_is_kept(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"photo.{suffix}"
    photo_image().save(path, dpi=(300, 150))
    metadata = read_picture(path).metadata
    assert metadata.resolution == pytest.approx((300, 150), rel=1e-4)
    assert as_picture(Image.open(path)).metadata.resolution == pytest.approx((300, 150), rel=1e-4)
    for target in ("png", "tif", "jpg"):
        image, _ = saved(read_picture(path), tmp_path / f"out.{target}")
        # Pillow takes the horizontal number of EXIF data for both.
        expected = (300, 300 if target == "jpg" else 150)
        assert image.info["dpi"] == pytest.approx(expected, rel=1e-4)
        again = read_picture(tmp_path / f"out.{target}").metadata.resolution
        assert again == pytest.approx((300, 150), rel=1e-4)


def test_centimetres_and_aspects_are_understood() -> None:
    content = jpeg_photo(exif=b"")
    place = content.rindex(b"JFIF\0") + 7
    for unit, expected in ((2, (254, 254)), (1, (100, 100)), (0, None)):
        changed = content[:place] + struct.pack(">BHH", unit, 100, 100) + content[place + 5 :]
        resolution = decode_picture(changed, name="photo").metadata.resolution
        assert resolution == (None if expected is None else pytest.approx(expected))
    image = io.BytesIO()
    photo_image().save(image, "TIFF", resolution_unit="cm", x_resolution=100, y_resolution=50)
    resolution = decode_picture(image.getvalue(), name="photo").metadata.resolution
    assert resolution == pytest.approx((254, 127))


def test_a_resolution_of_zero_counts_as_none_and_exif_data_is_asked() -> None:
    content = bytearray(jpeg_photo(exif=exif_data(dots=300)))
    place = content.rindex(b"JFIF\0")
    content[place + 7 : place + 12] = b"\1\0\0\0\0"
    assert decode_picture(bytes(content), name="photo").metadata.resolution == (300, 300)


def test_the_print_size_stays() -> None:
    scaled = Metadata(resolution=(300, 200)).scaled(0.5, 0.25)
    assert scaled.resolution == (150, 50)
    assert NO_METADATA.scaled(0.5, 0.5).resolution is None


def test_resolution_turns_with_the_picture() -> None:
    content = io.BytesIO()
    block = exif_data(orientation=6)
    photo_image((40, 24)).save(content, "JPEG", dpi=(300, 100), exif=block)
    picture = decode_picture(content.getvalue(), name="photo")
    assert picture.size == (24, 40)
    assert picture.metadata.resolution == (100, 300)


# EXIF


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_both_byte_orders_and_all_orientations(tmp_path: Path, order: str, suffix: str) -> None:
    block = exif_data(orientation=6, order=order, dots=300)
    picture = decode_picture(jpeg_photo(exif=block), name="photo")
    image, _ = saved(picture, tmp_path / f"out.{suffix}")
    assert image.size == (24, 40)
    assert_kept(image, size=(24, 40))


@pytest.mark.parametrize(
    "damaged",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0",
        b"Exif\0\0rubbish of any length",
        b"Exif\0\0II*\0\xff\xff\xff\x7f",
        exif_data()[:30],
    ],
)
def test_damaged_exif_data_is_left_out_with_a_note(tmp_path: Path, damaged: bytes) -> None:
    picture = decode_picture(jpeg_photo(exif=damaged), name="photo.jpg")
    image, notes = saved(picture, tmp_path / "out.png")
    assert len(notes) == 1
    assert "EXIF" in notes[0]
    assert "'photo.jpg'" in notes[0]
    assert packet_of(image)


def test_readable_tags_of_damaged_exif_data_are_kept(tmp_path: Path) -> None:
    block = exif_data(thumbnail=False)
    damaged = block[: block.rindex(struct.pack("<II", 52, 1)) + 4]
    picture = decode_picture(jpeg_photo(exif=damaged), name="photo.jpg")
    image, notes = saved(picture, tmp_path / "out.png")
    assert notes == ["Damaged parts of the EXIF data of 'photo.jpg' were left out."]
    assert image.getexif()[271] == "Maker"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_cut_off_data_stops_no_reading(suffix: str) -> None:
    """Decoders judge the pixels; the data beside them are read as far as they go."""
    content = photo(suffix)
    for length in range(20, len(content), 7):
        for data in (content[:length], content[:length] + bytes(len(content) - length)):
            try:
                decode_picture(data, name="photo")
            except PictureReadError:
                continue


@given(st.binary(max_size=60), st.integers(0, 400))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_parsed_or_refused(rubbish: bytes, place: int) -> None:
    block = exif_data()
    classic, big = b"II*\0\x08\0\0\0", b"MM\0+\0\x08\0\0" + (16).to_bytes(8)
    inserted = block[:place] + rubbish + block[place:]
    for data in (rubbish, classic + rubbish, big + rubbish, big[:8] + rubbish, inserted):
        try:
            parsed = parse_block(data)
        except ValueError:
            continue
        assert parse_block(parsed.for_picture((1, 2), (72, 72)).to_bytes()).main == parsed.main
        there = parsed.in_order(">").in_order("<")
        assert (there.main, there.photo, there.place) == tuple(
            getattr(parsed.in_order("<"), part) for part in ("main", "photo", "place")
        )


def test_too_much_for_a_jpeg_segment_is_left_out_with_a_note(tmp_path: Path) -> None:
    block = parse_block(exif_data())
    for tag, words in ((0x927C, "all of the photo's EXIF data"), (0x9286, "the photo's EXIF data")):
        large = type(block.main[271])(7, 66_000, b"x" * 66_000)
        exif = type(block)(main=block.main, photo={**block.photo, tag: large}, place=block.place)
        picture = Picture(rgb=np.zeros((20, 20, 3), np.float32), metadata=Metadata(exif=exif))
        image, (note,) = saved(picture, tmp_path / "out.jpg")
        assert words in note
        assert (271 in image.getexif()) == (tag == 0x927C)
        image, notes = saved(picture, tmp_path / "out.png")
        assert notes == []
        assert len(image.info["exif"]) > 66_000


# PNG


@pytest.mark.parametrize("late", [False, True])
def test_png_data_before_and_behind_the_pixels_is_kept(tmp_path: Path, late: bool) -> None:
    content = io.BytesIO()
    photo_image().save(content, "PNG")
    plain = content.getvalue()
    chunks = png_chunk(b"eXIf", exif_data(dots=300)[6:])
    chunks += png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0en\0name\0" + zlib.compress(XMP))
    place = len(plain) - 12 if late else 8 + 25
    picture = decode_picture(plain[:place] + chunks + plain[place:], name="photo")
    image, _ = saved(picture, tmp_path / "out.jpg")
    assert_kept(image, size=picture.size)
    assert b"Katze" in packet_of(image)


@pytest.mark.parametrize("kind", ["chunk", "text"])
def test_orientation_behind_the_pixels_of_a_png_file_is_applied(kind: str) -> None:
    content = io.BytesIO()
    photo_image().save(content, "PNG")
    block = exif_data(orientation=6)
    chunk = png_chunk(b"eXIf", block[6:])
    if kind == "text":
        text = f"\nexif\n{len(block):8}\n{block.hex()}\n".encode()
        chunk = png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))
    file = content.getvalue()[:-12] + chunk + content.getvalue()[-12:]
    assert decode_picture(file, name="photo").size == (24, 40)
    opened = Image.open(io.BytesIO(file))
    assert as_picture(opened).size == (24, 40)


def test_png_data_of_older_programs_is_kept(tmp_path: Path) -> None:
    content = io.BytesIO()
    photo_image().save(content, "PNG")
    plain = content.getvalue()
    chunks = b""
    iptc = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC
    for kind, data in (("exif", exif_data(dots=300)), ("iptc", iptc), ("xmp", XMP)):
        text = f"\n{kind} profile\n{len(data):8}\n{data.hex()}\n".encode()
        name = f"Raw profile type {kind}".encode()
        chunks += png_chunk(b"zTXt", name + b"\0\0" + zlib.compress(text))
    path = tmp_path / "photo.png"
    path.write_bytes(plain[:33] + chunks + plain[33:])
    for picture in (read_picture(path), as_picture(Image.open(path))):
        image, _ = saved(picture, tmp_path / "out.jpg")
        assert_kept(image, size=picture.size)
        assert IptcImagePlugin.getiptcinfo(image)[2, 25] == b"cat"
        assert b"Katze" in packet_of(image)


# IPTC and XMP


@pytest.mark.parametrize(
    "damaged",
    [
        b"<x:xmpmeta",
        XMP[:-200],
        b"<a/>",
        XMP.replace(b"<x:xmpmeta", b"<!DOCTYPE a [<!ENTITY b 'c'>]><x:xmpmeta"),
        b"<a>" * 50_000 + b"</a>" * 50_000,
    ],
)
def test_damaged_xmp_data_is_left_out_with_a_note(tmp_path: Path, damaged: bytes) -> None:
    content = io.BytesIO()
    photo_image().save(content, "PNG")
    chunk = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + damaged)
    file = content.getvalue()[:33] + chunk + content.getvalue()[33:]
    _, notes = saved(decode_picture(file, name="photo.png"), tmp_path / "out.png")
    assert notes == ["The XMP data of 'photo.png' is damaged and was left out."]
    assert read_recipe(tmp_path / "out.png") == RECIPE


def test_damaged_iptc_data_is_left_out_with_a_note(tmp_path: Path) -> None:
    picture = decode_picture(jpeg_photo(iptc=b"rubbish"), name="photo.jpg")
    _, notes = saved(picture, tmp_path / "out.jpg")
    assert notes == ["The IPTC data of 'photo.jpg' is damaged and was left out."]


def test_a_result_that_is_painted_again_has_one_recipe(tmp_path: Path) -> None:
    saved(decode_picture(jpeg_photo(), name="photo"), tmp_path / "1.png")
    again = read_picture(tmp_path / "1.png")
    saved(again, tmp_path / "2.png", recipe={"nstrt": "2"})
    assert read_recipe(tmp_path / "2.png") == {"nstrt": "2"}
    assert packet_of(Image.open(tmp_path / "2.png")).count(b"<nstrt:recipe>") == 1
    saved(again, tmp_path / "3.png", recipe=None)
    assert read_recipe(tmp_path / "3.png") is None


@pytest.mark.parametrize("prefix", [b"rdf", b"x1", b""])
def test_packets_of_any_prefix_take_a_recipe(prefix: bytes) -> None:
    name = prefix + b":" if prefix else b""
    namespace = b"xmlns" + (b":" + prefix if prefix else b"")
    uri = b'"http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
    packet = b"<%bRDF %b=%b><%bDescription><t xmlns='urn:t'>a</t></%bDescription></%bRDF>"
    cleaned = clean_packet(packet % (name, namespace, uri, name, name, name), turned=False)
    merged = recipe_to_xmp(RECIPE, cleaned)
    assert recipe_from_xmp(merged) == RECIPE
    assert b">a<" in merged


def test_utf16_packets_are_read() -> None:
    text = XMP.decode().replace('begin=""', 'begin="\ufeff"')
    assert "Käfer".encode() in clean_packet(text.encode("utf-16"), turned=False)


def test_regions_are_left_out_of_turned_pictures() -> None:
    region = b'xmlns:mwg="http://www.metadataworkinggroup.com/schemas/regions/" mwg:x="1" '
    packet = XMP.replace(b'xmp:Rating="5"', region + b'xmp:Rating="5"')
    assert b"mwg:x" in clean_packet(packet, turned=False)
    assert b"mwg:x" not in clean_packet(packet, turned=True)


def test_a_jpeg_file_keeps_the_recipe_before_the_photos_packet(tmp_path: Path) -> None:
    def written(xmp_size: int, losses: int) -> tuple[list[str], bytes]:
        metadata = Metadata(xmp=clean_packet(XMP.replace(b"Katze", b"x" * xmp_size), turned=False))
        recipe = {"nstrt": "1", "losses": "y" * losses}
        picture = Picture(rgb=np.zeros((20, 20, 3), np.float32), metadata=metadata)
        image, notes = saved(picture, tmp_path / "out.jpg", recipe=recipe)
        assert read_recipe(tmp_path / "out.jpg") is not None
        return notes, packet_of(image)

    notes, packet = written(40_000, 10_000)
    assert notes == []
    assert b"yy" in packet
    notes, packet = written(40_000, 30_000)
    assert notes == ["JPEG has no room for the recipe's losses; they are left out."]
    assert b"xx" in packet
    notes, packet = written(65_000, 30_000)
    assert notes == ["JPEG has no room for the photo's XMP data; it is left out."]
    assert b"yy" in packet


def test_a_segment_between_the_markers_is_found() -> None:
    """Photos have JFIF, EXIF and XMP segments in any order."""
    plain = io.BytesIO()
    photo_image().save(plain, "JPEG", dpi=(300, 300))
    content = insert_segment(plain.getvalue(), 0xE1, exif_data())
    assert decode_picture(content, name="photo").metadata.resolution == (300, 300)
