"""Detect file formats from the first bytes of a file."""

from __future__ import annotations

from pathlib import PurePath

__all__ = ["READABLE", "detect_format", "detect_unsupported", "is_picture_name"]

READABLE = "JPEG, PNG, TIFF, WebP, AVIF, GIF or BMP"

_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",
    b"MM\x00+": "TIFF",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
}
_HEIF_BRANDS = frozenset(
    [b"avif", b"avis", b"mif1", b"msf1", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"]
)
_UNSUPPORTED_SIGNATURES = {
    b"%PDF": "a PDF document",
    b"%!PS": "a PostScript document",
    b"8BPS": "a Photoshop document",
    b"gimp xcf": "a GIMP document",
    b"\xff\x0a": "a JPEG XL picture",
    b"\x00\x00\x00\x0cJXL ": "a JPEG XL picture",
    b"\x00\x00\x00\x0cjP  ": "a JPEG 2000 picture",
    b"FUJIFILMCCD-RAW": "a camera raw file",
    b"PK\x03\x04": "a ZIP archive or office document",
}
_RAW_SUFFIXES = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos"),
    *(".nef", ".nrw", ".orf", ".pef", ".raw", ".rw2", ".sr2", ".srf", ".srw"),
)
_PICTURE_SUFFIXES = (
    *(".apng", ".avif", ".bmp", ".dib", ".exr", ".gif", ".hdr", ".heic", ".heics", ".heif"),
    *(".hif", ".ico", ".j2k", ".jfi", ".jfif", ".jif", ".jp2", ".jpe", ".jpeg", ".jpf", ".jpg"),
    *(".jpx", ".jxl", ".jxr", ".ora", ".kra", ".pbm", ".pcx", ".pgm", ".pjp", ".pjpeg", ".png"),
    *(".pnm", ".ppm", ".psb", ".psd", ".qoi", ".svg", ".tga", ".tif", ".tiff", ".webp", ".xcf"),
)


def is_picture_name(name: str) -> bool:
    """True for a file name with the ending of a picture, readable or not."""
    return PurePath(name).suffix.lower() in (*_PICTURE_SUFFIXES, *_RAW_SUFFIXES)


def detect_format(content: bytes) -> str | None:
    """Return JPEG, PNG, TIFF, WebP, HEIF, GIF or BMP; ``None`` for any other format."""
    for signature, kind in _SIGNATURES.items():
        if content.startswith(signature):
            return kind
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WebP"
    if content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS:
        return "HEIF"
    return None


def detect_unsupported(content: bytes, name: str) -> str | None:
    """Describe a known format that cannot be read; ``None`` for any other format."""
    # Most camera raw files are TIFF files in which only a small preview is readable.
    raw = PurePath(name).suffix.lower() in _RAW_SUFFIXES or content[8:10] == b"CR"
    if (raw and detect_format(content) in ("TIFF", None)) or content[4:12] == b"ftypcrx ":
        return "a camera raw file"
    for signature, kind in _UNSUPPORTED_SIGNATURES.items():
        if content.startswith(signature):
            return kind
    if content[4:8] == b"ftyp" and detect_format(content) is None:
        return "a video"
    head = content[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"<") and b"<svg" in head:
        return "an SVG drawing"
    return None
