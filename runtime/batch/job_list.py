"""What a batch is to paint: from photos, folders and patterns, or from a table of pairs."""

from __future__ import annotations

import csv
import glob
import io
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nstrt.runtime.batch.jobs import Job
from nstrt.runtime.errors import OptionError, PictureReadError
from nstrt.runtime.options.options import INITS, StylizeOptions
from nstrt.runtime.options.text import option_name, parse_option
from nstrt.runtime.pictures import SUFFIXES

__all__ = ["TABLES", "jobs_from", "jobs_of_table"]

TABLES = (".csv", ".toml")
"""Endings of files that list what to paint."""

_PHOTOS = (*SUFFIXES, ".bmp", ".gif")
"""Endings of what counts as a photo in a folder."""


def jobs_from(
    sources: Sequence[str | Path],
    *,
    out_dir: str | Path,
    style: str | Path | None = None,
    suffix: str | None = None,
    **options: Any,
) -> list[Job]:
    """What to paint of ``sources``, each a photo, a folder, a pattern such as ``trip/*.jpg``, or
    a table (see :func:`jobs_of_table`).

    Of a folder that is every picture right inside it. Results go into ``out_dir``, under the
    photo's name, with ``suffix`` for its ending if one is given, and .png where the photo's own is
    no format of results. ``options`` are those of :class:`StylizeOptions`. Raises
    :class:`NstrtError` for what cannot be meant.
    """
    if suffix is not None and suffix.lower() not in SUFFIXES:
        raise OptionError(f"Results cannot end in '{suffix}'; choose one of {', '.join(SUFFIXES)}.")
    folder = Path(out_dir)
    jobs: list[Job] = []
    seen: set[Path] = set()
    for source in sources:
        if Path(source).suffix.lower() in TABLES:
            jobs += jobs_of_table(source, out_dir=folder, style=style, suffix=suffix, **options)
            continue
        if style is None:
            raise OptionError("Name the painting that the photos are to be painted after: --style.")
        for photo in _photos(source):
            # Patterns may overlap; a photo is painted once.
            if (resolved := photo.resolve()) in seen:
                continue
            seen.add(resolved)
            jobs.append(
                Job(
                    content=photo,
                    style=Path(style),
                    output=folder / _named(photo, suffix),
                    options=StylizeOptions.of(**options),
                )
            )
    return jobs


def jobs_of_table(
    table: str | Path,
    *,
    out_dir: str | Path,
    style: str | Path | None = None,
    suffix: str | None = None,
    **options: Any,
) -> list[Job]:
    """What a CSV or TOML file lists: a row, or a ``[[picture]]``, for each result.

    ``content`` names its photo, ``style`` its painting, ``output`` the result; files are sought
    from the table's folder, results from ``out_dir``. Any option may stand beside them; it holds
    for that row, before ``options``. In TOML, what stands above the first ``[[picture]]`` holds
    for all.
    """
    path = Path(table)
    jobs: list[Job] = []
    for number, row in _rows(path):
        try:
            jobs.append(_job(row, path.parent, Path(out_dir), style, suffix, options))
        except OptionError as error:
            raise OptionError(f"Picture {number} of '{path}': {error}") from error
    if not jobs:
        raise OptionError(f"'{path}' lists no pictures; give each a row with its 'content'.")
    return jobs


def _job(
    row: Mapping[str, Any],
    home: Path,
    folder: Path,
    style: str | Path | None,
    suffix: str | None,
    options: Mapping[str, Any],
) -> Job:
    row = {key: value for key, value in row.items() if value not in ("", None)}
    names = {key: row.pop(key, None) for key in ("content", "style", "output")}
    for key, value in names.items():
        if value is not None and not isinstance(value, str):
            raise OptionError(f"its '{key}' must be a file's name, not {value!r}.")
    if names["content"] is None:
        raise OptionError("it has no 'content', which names its photo.")
    painting = home / names["style"] if names["style"] else style
    if painting is None:
        raise OptionError("it has no 'style', which names its painting; --style is for all.")
    own: dict[str, Any] = {}
    for key, value in row.items():
        name = option_name(key)
        own[name] = parse_option(name, value) if isinstance(value, str) else value
    for name, kept in (("init", INITS), ("weights", ())):
        # A word, unless there is such a file beside the table.
        if own.get(name) not in (None, *kept) and (home / str(own[name])).is_file():
            own[name] = str(home / own[name])
    content = home / names["content"]
    return Job(
        content=content,
        style=Path(painting),
        output=folder / (names["output"] or _named(content, suffix)),
        options=StylizeOptions.of(**{**options, **own}),
    )


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        # Spreadsheets begin their CSV with a mark.
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PictureReadError(
            f"The list '{path}' cannot be read; check its name, and save it as UTF-8 text."
        ) from error
    if path.suffix.lower() == ".csv":
        yield from enumerate(_of_csv(path, text), start=1)
        return
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise OptionError(f"'{path}' is not TOML: {error}.") from error
    rows = content.pop("picture", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise OptionError(f"In '{path}', begin each picture with a line [[picture]].")
    for number, row in enumerate(rows, start=1):
        yield number, {**content, **row}


def _of_csv(path: Path, text: str) -> Iterator[dict[str, Any]]:
    # Spreadsheets of half the world put semicolons between cells.
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
    names = [name.strip() for name in reader.fieldnames or []]
    if "content" not in names:
        raise OptionError(
            f"'{path}' needs a first line that names its columns, 'content' among them."
        )
    reader.fieldnames = names
    for row in reader:
        if None in row:
            raise OptionError(
                f"Line {reader.line_num} of '{path}' has more cells than the first; put cells "
                'with commas in "quotation marks".'
            )
        if any(row.values()):
            yield row


def _photos(source: str | Path) -> list[Path]:
    path = Path(source)
    if path.is_dir():
        found = [
            inside
            for inside in sorted(path.iterdir())
            if inside.suffix.lower() in _PHOTOS and not inside.name.startswith(".")
        ]
        if not found:
            raise PictureReadError(f"There are no pictures in the folder '{path}'.")
        return found
    # A name with brackets may be a file's own.
    if not path.exists() and glob.has_magic(str(source)):
        found = sorted(Path(name) for name in glob.glob(str(source), recursive=True))
        if not found:
            raise PictureReadError(f"No file's name is like '{source}'; check the pattern.")
        return [inside for inside in found if not inside.is_dir()]
    return [path]


def _named(photo: Path, suffix: str | None) -> str:
    own = photo.suffix if photo.suffix.lower() in SUFFIXES else ".png"
    return photo.stem + (suffix or own)
