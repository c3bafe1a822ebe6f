"""Job lists: from photos, folders and patterns, or from a CSV or TOML table."""

from __future__ import annotations

import csv
import io
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nstrt.runtime.batch.find_photos import find_photos, format_of
from nstrt.runtime.batch.job import Job
from nstrt.runtime.errors import OptionError, PictureReadError
from nstrt.runtime.options.choices import INITS
from nstrt.runtime.options.options import StylizeOptions
from nstrt.runtime.options.text import option_name, parse_option
from nstrt.runtime.pictures import SUFFIXES
from nstrt.runtime.pictures.source import missing_sentence, read_file
from nstrt.runtime.system.files import real_path
from nstrt.runtime.system.regular_file import read_regular
from nstrt.runtime.system.words import spelled

__all__ = ["TABLE_SUFFIXES", "jobs_from", "jobs_from_table"]

TABLE_SUFFIXES = (".csv", ".toml")
"""File name endings of tables."""

_MAX_TABLE_BYTES = 64_000_000
"""Largest table in bytes; it holds hundreds of thousands of rows."""

_SUFFIX_OF_FORMAT = {"JPEG": ".jpg", "TIFF": ".tif", "WebP": ".webp"}
"""Endings of results for photos of another ending; .png for all other formats."""


def jobs_from(
    sources: Sequence[str | Path],
    *,
    out_dir: str | Path,
    style: str | Path | None = None,
    style_mask: str | Path | None = None,
    suffix: str | None = None,
    strip_metadata: bool = False,
    notify: Callable[[str], None] | None = None,
    **options: Any,
) -> list[Job]:
    """The jobs for ``sources``: photos, folders, patterns such as ``trip/*.jpg``, or tables.

    A folder stands for the pictures in it, without those of its subfolders and without results of
    nstrt; for tables see :func:`jobs_from_table`. Results go into ``out_dir`` under the photo's
    name. Their file format is ``suffix``, or else the photo's own, or .png if nstrt cannot write
    that. Where ``a.jpg`` is taken, the result of ``a.heic`` is called
    ``a.heic.jpg``, and that of ``b/a.jpg`` ``b-a.jpg``.
    ``style_mask`` is white on the part of ``style`` that counts.
    ``strip_metadata`` leaves out the photos' own data. ``options`` are those of
    :class:`StylizeOptions`. ``notify`` gets a sentence for a folder or pattern without photos, if
    other sources have some.

    Raises :class:`NstrtError` for a source, suffix or option that is not valid.
    """
    if suffix is not None and suffix.lower() not in SUFFIXES:
        raise OptionError(f"Results cannot end in '{suffix}'; choose one of {', '.join(SUFFIXES)}.")
    folder = Path(out_dir)
    jobs: list[Job] = []
    listed: set[Path] = set()
    empty: list[PictureReadError] = []
    for source in sources:
        if Path(source).suffix.lower() in TABLE_SUFFIXES and not Path(source).is_dir():
            jobs += jobs_from_table(
                source,
                out_dir=folder,
                style=style,
                style_mask=style_mask,
                suffix=suffix,
                **options,
            )
            continue
        if style is None:
            raise OptionError(
                f"Name the painting that the photos are to be painted after: {spelled('style')}."
            )
        if not Path(style).is_file():
            read_file(style)
        try:
            photos = find_photos(source, results=folder)
        except PictureReadError as error:
            empty.append(error)
            continue
        for photo in photos:
            # Patterns may overlap; a photo is painted once.
            if (resolved := real_path(photo)) in listed:
                continue
            listed.add(resolved)
            jobs.append(
                Job(
                    content=photo,
                    style=Path(style),
                    style_mask=None if style_mask is None else Path(style_mask),
                    output=folder / _output_name(photo, suffix),
                    options=StylizeOptions.of(**options),
                )
            )
    for reason in empty:
        if not jobs or notify is None:
            raise reason
        notify(str(reason))
    missing = [job.content for job in jobs if _is_missing_folder(job.content)]
    if len(missing) == len(jobs) > 0:
        raise PictureReadError(missing_sentence(missing[0]))
    return [
        replace(job, strip_metadata=strip_metadata) for job in _with_distinct_outputs(jobs, suffix)
    ]


def jobs_from_table(
    table: str | Path,
    *,
    out_dir: str | Path,
    style: str | Path | None = None,
    style_mask: str | Path | None = None,
    suffix: str | None = None,
    **options: Any,
) -> list[Job]:
    """The jobs of a CSV or TOML file: one for each row or ``[[picture]]``.

    ``content`` names the photo, ``style`` the painting, ``style_mask`` the painting's mask,
    ``output`` the result. Inputs are relative to the folder of the table, results to ``out_dir``.
    The call's ``style_mask`` belongs to its ``style``. Every other key is an option; it overrides
    ``options`` for its row. In TOML, keys above the first ``[[picture]]`` hold for all rows.

    Raises :class:`OptionError` for a mistake in the table, naming the row.
    """
    path = Path(table)
    jobs: list[Job] = []
    for number, row in _read_rows(path):
        try:
            jobs.append(
                _job_from_row(row, path.parent, Path(out_dir), (style, style_mask), suffix, options)
            )
        except OptionError as error:
            raise OptionError(f"Picture {number} of '{path}': {error}") from error
    if not jobs:
        raise OptionError(f"'{path}' lists no pictures; give each a row with its 'content'.")
    return jobs


def _job_from_row(
    row: Mapping[str, Any],
    folder: Path,
    out_dir: Path,
    usual: tuple[str | Path | None, str | Path | None],
    suffix: str | None,
    options: Mapping[str, Any],
) -> Job:
    """The job of one row; ``folder`` is the table's, ``usual`` the painting of most rows and its
    mask."""
    row = {key: value for key, value in row.items() if value not in ("", None)}
    names = {key: row.pop(key, None) for key in ("content", "style", "style_mask", "output")}
    names["style_mask"] = row.pop("style-mask", names["style_mask"])
    for key, value in names.items():
        if value is not None and not isinstance(value, str):
            raise OptionError(f"its '{key}' must be a file's name, not {value!r}.")
    if names["content"] is None:
        raise OptionError("it has no 'content', which names its photo.")
    painting, mask = (folder / names["style"], None) if names["style"] else usual
    if names["style_mask"]:
        mask = folder / names["style_mask"]
    if painting is None:
        raise OptionError(
            f"it has no 'style', which names its painting; {spelled('style')} is for all."
        )
    row_options: dict[str, Any] = {}
    for key, value in row.items():
        name = option_name(key)
        row_options[name] = parse_option(name, value) if isinstance(value, str) else value
    for name, words in (("init", INITS), ("weights", ())):
        word = row_options.get(name)
        # A word is a file's name only if that file exists beside the table.
        if word is not None and word not in words and (folder / str(word)).is_file():
            row_options[name] = str(folder / word)
    content = folder / names["content"]
    return Job(
        content=content,
        style=Path(painting),
        style_mask=None if mask is None else Path(mask),
        output=out_dir / (names["output"] or _output_name(content, suffix)),
        options=StylizeOptions.of(**{**options, **row_options}),
    )


def _read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a table, numbered from 1."""
    try:
        content = read_regular(path, limit=_MAX_TABLE_BYTES)
        # Spreadsheets write a byte order mark at the start of CSV files, and any line end.
        text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig").read()
    except (OSError, ValueError) as error:
        raise PictureReadError(
            f"The list '{path}' cannot be read{_reason(error)}; check its name, and save it as "
            "UTF-8 text."
        ) from error
    if path.suffix.lower() == ".csv":
        yield from enumerate(_csv_rows(path, text), start=1)
        return
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise OptionError(f"'{path}' is not TOML: {error}.") from error
    except RecursionError as error:
        raise OptionError(f"'{path}' nests its values too deep; use plain values.") from error
    rows = table.pop("picture", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise OptionError(f"In '{path}', begin each picture with a line [[picture]].")
    for number, row in enumerate(rows, start=1):
        yield number, {**table, **row}


def _csv_rows(path: Path, text: str) -> Iterator[dict[str, Any]]:
    # The separator depends on the locale of the spreadsheet program.
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
    names = [name.strip() for name in reader.fieldnames or []]
    if "content" not in names:
        raise OptionError(
            f"'{path}' needs a first line that names its columns, 'content' among them."
        )
    reader.fieldnames = names
    try:
        for row in reader:
            if None in row:
                raise OptionError(
                    f"Line {reader.line_num} of '{path}' has more cells than the first; put cells "
                    'with commas in "quotation marks".'
                )
            if any(row.values()):
                yield row
    except csv.Error as error:
        raise OptionError(f"Line {reader.line_num} of '{path}' is not CSV: {error}.") from error


def _reason(error: Exception) -> str:
    """The system's reason in brackets; empty for another encoding."""
    return f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""


def _is_missing_folder(path: Path) -> bool:
    """True for a missing file whose name has no ending, so that a folder may be meant."""
    return not path.suffix and not os.path.lexists(path)


def _with_distinct_outputs(jobs: Sequence[Job], suffix: str | None) -> list[Job]:
    """The jobs; photos of one stem, or of one name in two folders, have results of their own.

    A camera's raw file, which cannot be read, lies beside a JPEG file of the same stem.
    """

    def rank(job: Job) -> int:
        """Lower for jobs that keep their name: the table's, equal endings, known endings."""
        ending = job.content.suffix.lower()
        if job.output.name != _output_name(job.content, suffix):
            return 0
        return 1 if ending == job.output.suffix.lower() else 2 if ending in SUFFIXES else 3

    distinct = list(jobs)
    taken: set[str] = set()
    for job_rank, index in sorted((rank(job), index) for index, job in enumerate(jobs)):
        job = jobs[index]
        # Some file systems ignore case.
        if job_rank and str(job.output).casefold() in taken:
            name, ending = job.content.name, job.output.suffix
            name = name + ending if job_rank > 1 else f"{job.content.parent.name}-{name}"
            distinct[index] = replace(job, output=job.output.with_name(name))
        taken.add(str(distinct[index].output).casefold())
    return distinct


def _output_name(photo: Path, suffix: str | None) -> str:
    if suffix is None:
        suffix = photo.suffix
        if suffix.lower() not in SUFFIXES:
            suffix = _SUFFIX_OF_FORMAT.get(format_of(photo) or "", ".png")
    return photo.stem + suffix
