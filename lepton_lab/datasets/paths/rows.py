"""Rows of tables: CSV, TSV and Parquet files, which pandas reads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ...errors import SpecError, needs
from . import columns
from .files import Files, refused, some
from .parting import PARTS
from .plain import measure

if TYPE_CHECKING:
    from pandas import DataFrame

KIND = "table"
SEPARATORS = {".csv": ",;|\t", ".tsv": "\t", ".txt": "\t,;|"}
"""What may stand between columns, by how a file's name ends: the one that the first line has most of."""


@dataclass(frozen=True)
class Rows:
    """The rows of all parts, one after the other."""

    path: str
    frame: DataFrame
    parts: dict[str, list[int]]
    """Rows of each part, by place."""
    first: int
    """The line of the first row in its file."""
    kind: str = KIND


@lru_cache(maxsize=4)
def read(listed: Files) -> Rows:
    """All rows; files that have changed are others, by their digest."""
    import pandas

    path, parts = str(listed.path), dict[str, list[Any]]()
    names = [name for name in listed.names if PurePosixPath(name).suffix.lower() in (*SEPARATORS, ".parquet")]
    for name in names:
        part = PARTS.get(PurePosixPath(name).stem.lower()) if len(names) > 1 else "train"
        if part:  # the others may be notes
            parts.setdefault(part, []).append(_rows(path, listed.folder / name))
    if "train" not in parts:
        raise refused(KIND, path, "there is no table in it: give a .csv, .tsv or .parquet, or a folder with train.csv")
    frames = [frame for several in parts.values() for frame in several]
    heads = {*map(str, frames[0].columns)}
    if odd := next((other for frame in frames if (other := heads ^ {*map(str, frame.columns)})), None):
        raise refused(KIND, path, f"its files have different columns: not all of them have {some(sorted(odd))}")
    counts = {part: sum(map(len, several)) for part, several in parts.items()}
    begins = dict(zip(counts, [sum([*counts.values()][:place]) for place in range(len(counts))], strict=True))
    rows = {part: [*range(begins[part], begins[part] + count)] for part, count in counts.items()}
    return Rows(path, pandas.concat(frames, ignore_index=True), rows, 2)


def _rows(path: str, file: Path) -> DataFrame:
    """The rows of one file."""
    import pandas

    if file.suffix.lower() == ".parquet":
        needs("a table in Parquet", "pyarrow")
        try:
            from pyarrow.parquet import read_schema

            _check_distinct(path, file, read_schema(file).names)
            return pandas.read_parquet(file)
        except SpecError:
            raise
        except Exception as error:  # pyarrow's own, of many kinds
            raise refused(KIND, path, f"{file.name} is no Parquet: {' '.join(str(error).split())[:80]}") from None
    measure(KIND, path, file)
    try:
        frame = pandas.read_csv(
            file, sep=_separator(file), encoding="utf-8-sig", skipinitialspace=True, low_memory=False
        )
    except UnicodeDecodeError as error:
        raise refused(
            KIND, path, f"{file.name} is not text in UTF-8 (at byte {error.start:,}); save it as UTF-8"
        ) from None
    except pandas.errors.EmptyDataError:
        raise refused(KIND, path, f"{file.name} is empty") from None
    except (pandas.errors.ParserError, OSError) as error:
        raise refused(KIND, path, f"{file.name} is no table: {_parser(error)}") from None
    if not len(frame):
        raise refused(KIND, path, f"{file.name} has a line of names, and no rows")
    if not frame.index.equals(pandas.RangeIndex(len(frame))):  # pandas took the first columns for names of rows
        why = f"the rows of {file.name} have more columns than its first line; name each, and end no row with a comma"
        raise refused(KIND, path, why)
    if row := columns.unnamed([*frame.columns]):
        why = (
            f"the first line of {file.name} holds numbers, such as {row}, and no names of columns; add a line of names"
        )
        raise refused(KIND, path, why)
    if len(frame.columns) < 2:
        raise refused(
            KIND, path, f"{file.name} has one column, {frame.columns[0]!r}; a target and what tells it are needed"
        )
    return columns.with_points(frame, _separator(file) == ",")


def _check_distinct(path: str, file: Path, names: list[str]) -> None:
    """Refuse two columns of one name."""
    if twice := [name for name in names if names.count(name) > 1]:
        raise refused(KIND, path, f"{file.name} has two columns called {twice[0]!r}; give each a name of its own")


def _separator(file: Path) -> str:
    with file.open("rb") as stream:
        line = stream.readline(2**20).decode(errors="replace")
    return max(SEPARATORS.get(file.suffix.lower(), ","), key=line.count)


def _parser(error: Exception) -> str:
    """What pandas says of a line, in our words."""
    found = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
    return (
        f"line {found[2]} has {found[3]} columns, its first {found[1]}" if found else " ".join(str(error).split())[:100]
    )
