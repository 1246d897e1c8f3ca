"""
Columns of a table: what each holds, and how rows become numbers that a model takes.

Legend of the shape comments: N rows, F numbers of a row.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from ...errors import SpecError, nearest

if TYPE_CHECKING:
    import numpy as np
    from pandas import DataFrame, Series

TARGETS = ("target", "label", "labels", "class", "y", "outcome", "species", "survived", "price", "quality")
"""What a target is called that nobody named, in this order; else it is the last column."""
FEW = 20  # different whole numbers of a target, up to which they are classes
LEVELS = 64  # kinds of a category that are told apart; the rest are one
MOSTLY = 0.5  # fraction of numbers in a column of texts, from which on the others are strangers to it
NAMED = 3  # strange values that a sentence names
COMMA = re.compile(r"\s*[+-]?\d+(,\d+)?([eE][+-]?\d+)?\s*")
THOUSANDS = r"\s*[+-]?\d{1,3}(,\d{3})*\s*"


@dataclass(frozen=True)
class Column:
    """One column, as far as all rows tell."""

    name: str
    kind: str
    """"number", "category", "time", or "left out"."""
    about: str
    """Range, kinds, or why it is left out."""
    missing: int = 0
    strange: tuple[str, ...] = ()
    """Values of a column of numbers that are none, with their lines."""


def guess(names: Sequence[str]) -> str:
    """The target among columns, by its name, else the last one."""
    lower = {name.strip().lower(): name for name in reversed(names)}
    return next((lower[name] for name in TARGETS if name in lower), names[-1])


def with_points(frame: DataFrame, commas: bool) -> DataFrame:
    """
    A table in which texts such as "3,14" are numbers, in columns of such texts alone.

    Where `commas` stand between columns too, commas that are each followed by three digits part thousands.
    """
    for place, values in enumerate(frame.items()):
        texts = values[1].dropna()
        if texts.dtype.kind in "iufbM" or not texts.map(lambda value: bool(COMMA.fullmatch(str(value)))).all():
            continue
        thousands = commas and texts.str.fullmatch(THOUSANDS).all()
        if texts.str.contains(",").any():
            frame.isetitem(place, values[1].str.replace(",", "" if thousands else ".").astype("float64"))
    return frame


def chosen(frame: DataFrame, target: str) -> str:
    """The target as it was asked for, or guessed; SpecError where there is no such column."""
    names = [str(name) for name in frame.columns]
    if target and target not in names:
        hint = nearest(target, names)
        raise SpecError(
            f"options={{'target': {target!r}}}: there is no such column{hint} (columns: {', '.join(names)})"
        )
    return target or guess(names)


def survey(values: Series[Any], name: str, first: int) -> Column:
    """What a column holds; `first` is the line of its first row."""
    missing = int(values.isna().sum())
    there = values.dropna()
    if not len(there):
        return Column(name, "left out", "all missing", missing)
    if there.dtype.kind == "O" and not isinstance(there.iloc[0], Hashable):
        return Column(name, "left out", "lists or records", missing)
    if there.nunique() == 1:
        return Column(name, "left out", f"always {_text(there.iloc[0])}", missing)
    if there.dtype.kind in "iuf":
        finite = there.abs() < math.inf
        about = f"{there[finite].min():.6g} to {there[finite].max():.6g}"
        return Column(name, "number", about, missing, _told(there[~finite], first))
    if there.dtype.kind == "M":
        return Column(name, "time", f"{there.min():%Y-%m-%d} to {there.max():%Y-%m-%d}", missing)
    return _of_texts(there, name, missing, first)


def _of_texts(there: Series[Any], name: str, missing: int, first: int) -> Column:
    """Of a column of texts, or of truth values: numbers with strangers, times, categories, or something of each row."""
    import pandas

    numbers = pandas.to_numeric(there, errors="coerce") if there.dtype.kind != "b" else None
    if numbers is not None and numbers.notna().mean() >= MOSTLY:
        about = f"{numbers.min():.6g} to {numbers.max():.6g}"
        return Column(name, "number", about, missing, _told(there[numbers.isna()], first))
    kinds = there.nunique()
    if kinds > FEW and (times := _times(there, "coerce")).notna().all():
        return Column(name, "time", f"{times.min():%Y-%m-%d} to {times.max():%Y-%m-%d}", missing)
    if kinds > LEVELS and kinds > len(there) / 2:
        return Column(name, "left out", f"{kinds:,} different texts in {len(there):,} rows", missing)
    some = [_text(value) for value in there.value_counts().index[:NAMED]]
    return Column(name, "category", f"{kinds:,} kinds: {', '.join(some)}{', ...' if kinds > NAMED else ''}", missing)


def _told(strangers: Series[Any], first: int) -> tuple[str, ...]:
    return tuple(f"{_text(value)} (line {first + place})" for place, value in strangers.items())


def running(values: Series[Any], column: Column) -> Column:
    """A column that numbers rows, by its name and its values, is left out: it says nothing of the next ones."""
    whole = values.dtype.kind in "iu"
    counts = whole and values.is_unique and (values.diff().dropna() == 1).all()
    named = column.name.strip().lower() in ("id", "index", "row", "") or column.name.startswith("Unnamed:")
    if counts and named and len(values) > 2:
        return replace(column, kind="left out", about="numbers the rows")
    return column


def numbers(values: Series[Any]) -> Series[Any]:
    """A column as numbers; times are in days since 1970, and what is no number, or infinite, is missing."""
    import pandas

    if values.dtype.kind == "M" or (values.dtype.kind not in "iufb" and _are_times(values)):
        return (_times(values, "raise") - pandas.Timestamp(0, tz="UTC")) / pandas.Timedelta(days=1)
    found = pandas.to_numeric(values, errors="coerce").astype("float64")
    return found.where(found.abs() < math.inf)


def _times(values: Series[Any], errors: Literal["coerce", "raise"]) -> Series[Any]:
    """Times, in UTC: of any zone, or of none."""
    import pandas

    return pandas.to_datetime(values, format="ISO8601", errors=errors, utc=True)


def _are_times(values: Series[Any]) -> bool:
    import pandas

    return bool(pandas.to_numeric(values.dropna(), errors="coerce").isna().all())


def features(frame: DataFrame, columns: Sequence[Column], train: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """
    Numbers of all rows, float32 (N, F), and their names.

    Numbers are standardised by the rows `train`, and a missing one is 0, their mean; of a category each of the most
    frequent kinds there is a 0 or 1, which are all 0 where it is missing or another.
    """
    import numpy as np

    parts, names = [], []
    for column in columns:
        values = frame[column.name]
        if column.kind == "category":
            texts = values.map(_text, na_action="ignore")
            kinds = sorted(texts.iloc[train].value_counts().index[:LEVELS])
            parts += [(texts == kind).to_numpy(np.float32) for kind in kinds]
            names += [f"{column.name}={kind}" for kind in kinds]
        else:
            row = numbers(values).to_numpy()
            seen = row[train][~np.isnan(row[train])]
            mean, spread = (seen.mean(), seen.std()) if len(seen) else (0.0, 1.0)
            parts.append(np.nan_to_num((row - mean) / (spread or 1.0)).astype(np.float32))
            names.append(column.name)
    return np.stack(parts, 1), names


def order(name: str) -> tuple[bool, float, str]:
    """What names of classes are sorted by: those that are numbers first, as numbers."""
    try:
        number = float(name)
    except ValueError:
        number = math.nan
    return (False, number, name) if math.isfinite(number) else (True, 0.0, name)


def _text(value: Any) -> str:
    """A value of a category as its name."""
    return str(value).strip()


def unnamed(names: Sequence[str]) -> str:
    """The first number among what should be names of columns, where they are a row of values instead; else ""."""
    counted = [*map(str, range(len(names)))]  # which pandas gives columns that have no names
    values = [name for name in names if _is_number(name)]
    fractions = any("." in value for value in values)  # years may be names
    return values[0] if values and (fractions or len(values) == len(names)) and [*names] != counted else ""


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True
