"""Tables: CSV, TSV and Parquet files, whose target is a column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...errors import SpecError
from ..base import Data
from . import columns
from .columns import FEW, Column
from .examples import Example
from .files import files, refused, some
from .looking import Look, spread
from .parting import deal
from .reading import check
from .rows import KIND, Rows, read

if TYPE_CHECKING:
    import numpy as np
    from pandas import Series
    from torch import Tensor

Missing = Literal["fill", "drop", "refuse"]
Mixed = Literal["refuse", "missing"]
Answer = Literal["auto", "class", "number"]


@dataclass(frozen=True)
class Plan:
    """What is made of a table's columns."""

    columns: list[Column]
    target: Column
    classes: list[str]
    """Of the target, in their order; empty of a regression."""
    rows: np.ndarray
    """Whether a row is used, (N,)."""

    @property
    def left(self) -> list[Column]:
        """Columns that no model sees, which still tell samples apart, such as by patient."""
        return [column for column in self.columns if column.kind == "left out" and column.name != self.target.name]

    @property
    def inputs(self) -> list[Column]:
        """Columns that a model sees."""
        return [column for column in self.columns if column.kind != "left out" and column.name != self.target.name]


def look(
    path: str,
    *,
    target: str = "",
    ignore: str = "",
    answer: Answer = "auto",
    missing: Missing = "fill",
    mixed: Mixed = "refuse",
    scale_target: bool = False,
) -> Look:
    """What a table holds; SpecError as of `table`."""
    found = read(files(KIND, path))
    return described(f"{KIND}:{path}", found, plan(found, target, ignore, answer, missing, mixed), bool(target))


def described(name: str, found: Rows, made: Plan, asked: bool) -> Look:
    """What a table is like, and what is made of it."""
    frame = found.frame[made.rows]
    goal = frame[made.target.name]
    parts = {part: sum(bool(made.rows[row]) for row in rows) for part, rows in found.parts.items()}
    facts = {"target": made.target.name + ("" if asked else "; a guess, options={'target': ...} names another")}
    if not made.classes:
        facts["its range"] = made.target.about
    for column in made.columns:
        lost = f", {column.missing:,} missing" if column.missing else ""
        odd = f", {len(column.strange):,} no numbers: {some(column.strange)}" if column.strange else ""
        facts[f"  {column.name}"] = f"{column.kind}: {column.about}{lost}{odd}"
    if left := int((~made.rows).sum()):
        facts["rows left out"] = f"{left:,}, with missing values"
    counts = Counter(_labels(goal)) if made.classes else {}
    x, _ = columns.features(found.frame, made.inputs, made.rows.nonzero()[0])
    shown = [frame.iloc[place] for place in spread(len(frame))]
    return Look(
        name,
        ((x.shape[1],), len(made.classes), 0),
        parts,
        {label: counts[label] for label in made.classes},
        facts,
        {},
        tuple(
            Example(
                str(row[made.target.name]),
                ", ".join(f"{key}={value}" for key, value in row.items() if key != made.target.name),
            )
            for row in shown
        ),
    )


def table(
    path: str,
    root: Path,
    seed: int,
    *,
    target: str = "",
    ignore: str = "",
    answer: Literal["auto", "class", "number"] = "auto",
    missing: Literal["fill", "drop", "refuse"] = "fill",
    mixed: Literal["refuse", "missing"] = "refuse",
    scale_target: bool = False,
) -> Data:
    """
    A table with a column to be predicted from the others: CSV or TSV with a first line of names, or Parquet.

    Numbers and times are standardised by the training rows, of a category each kind is a 0 or 1. A number may have a
    decimal comma, as "3,14" (between columns that commas part, "1,234" is one in thousands). A folder may hold
    `train.csv`, `val.csv` and `test.csv`. Without `val` a tenth of `train` is held out, and without any part a tenth
    for testing too.

    Data: x float32 (N, F); y int64 (N,) of classes, or float32 (N,) of a regression.

    Parameters
    ----------
    path
        The file or folder.
    root, seed
        The seed deals out what is held out.
    target
        The column to be predicted; if empty the first called target, label, class, y or alike, else the last one.
    ignore
        Columns to leave out, with commas between. Those that number rows, are always alike or differ in every row are
        left out unasked.
    answer
        "class" or "number"; "auto" takes texts, truth values and up to 20 different whole numbers for classes.
    missing
        What is done with missing values: "fill" takes the mean, or no kind, "drop" leaves the row out, "refuse" names
        the columns. A row without a target is left out by "drop", and else refused.
    mixed
        Of columns of numbers with some texts, "refuse" names these, "missing" takes them for missing values.
    scale_target
        Whether the numbers to be predicted are standardised too.

    Raises
    ------
    SpecError
        If the file can't be read, has no rows or no such target, or values are refused.
    """
    found = read(files(KIND, path))
    return made(found, plan(found, target, ignore, answer, missing, mixed), seed, scale_target)


table.look = look  # type: ignore[attr-defined]


def plan(found: Rows, target: str, ignore: str, answer: str, missing: str, mixed: str) -> Plan:
    """What is made of each column; SpecError where values are refused."""
    import numpy as np

    frame, path = found.frame, found.path
    goal = columns.chosen(frame, target)
    out = {name.strip() for name in ignore.split(",") if name.strip()}
    if strange := out - {*map(str, frame.columns)}:
        raise SpecError(f"options={{'ignore': {ignore!r}}}: there is no column {sorted(strange)[0]!r}")
    surveyed = [columns.survey(frame[name], str(name), found.first) for name in frame.columns]
    surveyed = [columns.running(frame[one.name].iloc[found.parts["train"]], one) for one in surveyed]
    surveyed = [Column(one.name, "left out", "by ignore", one.missing) if one.name in out else one for one in surveyed]
    of_goal = next(one for one in surveyed if one.name == goal)
    used = [one for one in surveyed if one.kind != "left out" and one.name != goal]
    _check_mixed(found, [*used, of_goal], mixed)
    lacking = [one for one in used if one.missing or one.strange]
    if missing == "refuse" and lacking:
        told = [f"{one.name} ({one.missing + len(one.strange):,})" for one in lacking]
        raise refused(found.kind, path, f"values are missing in {some(told)}; options={{'missing': 'fill'}} or 'drop'")
    if not used:
        raise refused(found.kind, path, f"there is nothing to predict {goal!r} from: every other column is left out")
    rows = np.ones(len(frame), bool)
    if missing == "drop":
        for one in used:
            rows &= (columns.numbers(frame[one.name]) if one.strange else frame[one.name]).notna().to_numpy()
    if of_goal.kind == "left out":
        raise refused(found.kind, path, f"the target {goal!r} is {of_goal.about}, which leaves nothing to learn")
    classes, rows = _answers(found, of_goal, answer, missing, rows)
    return Plan(surveyed, of_goal, classes, rows)


def _check_mixed(found: Rows, used: Sequence[Column], mixed: str) -> None:
    """Refuse columns of numbers in which there are texts, unless these are to be missing values."""
    for column in used:
        if column.strange and mixed == "refuse":
            raise refused(
                found.kind, found.path, f"column {column.name!r} holds numbers and {len(column.strange):,} texts: "
                f"{some(column.strange)}; mend them, or take options={{'mixed': 'missing'}}"
            )  # fmt: skip


def _answers(found: Rows, goal: Column, answer: str, missing: str, rows: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Names of classes, none of a regression, and the rows less those without a target."""
    values = found.frame[goal.name]
    whole = values.dtype.kind in "iu" or (values.dtype.kind == "f" and (values.dropna() % 1 == 0).all())
    number = goal.kind in ("number", "time")
    few = whole and values.nunique() <= min(FEW, len(values) / 2)  # numbers that are each there once are no classes
    classes = answer == "class" or (answer == "auto" and (few or not number))
    if answer == "number" and not number:
        raise refused(found.kind, found.path, f"the target {goal.name!r} is no number: {goal.about}")
    there = (values if classes else columns.numbers(values)).notna().to_numpy()
    lost = int((~there & rows).sum())
    if lost and missing != "drop":
        line = found.first + int((~there).argmax())
        lacking = "row has" if lost == 1 else "rows have"
        why = f"{lost:,} {lacking} no {goal.name!r}, which is to be predicted, such as line {line:,}"
        raise refused(found.kind, found.path, f"{why}; fill them in, or take options={{'missing': 'drop'}}")
    rows = rows & there
    if not rows.any():
        raise refused(found.kind, found.path, "no row is left after those with missing values")
    if not classes:
        return [], rows
    labels = {
        part: _labels(values.iloc[[row for row in several if rows[row]]]) for part, several in found.parts.items()
    }
    check(found.kind, found.path, [], labels, "a target of two at least is needed")
    return sorted({*labels["train"]}, key=columns.order), rows


def _labels(values: Series[Any]) -> list[str]:
    """Names of classes; a whole number that missing values made a float is whole again."""
    if values.dtype.kind == "f":
        return [str(int(value)) if float(value).is_integer() else str(value) for value in values]
    return [str(value).strip() for value in values]


def made(found: Rows, plan: Plan, seed: int, scale_target: bool) -> Data:
    """The rows as numbers, dealt out."""
    import numpy as np
    import torch

    parts = deal({part: [row for row in rows if plan.rows[row]] for part, rows in found.parts.items()}, seed)
    train = np.array(parts["train"])
    x, _ = columns.features(found.frame, plan.inputs, train)
    goal = found.frame[plan.target.name]
    y = np.zeros(len(goal), np.int64 if plan.classes else np.float32)
    if plan.classes:
        labels = {name: number for number, name in enumerate(plan.classes)}
        y[plan.rows] = [labels[name] for name in _labels(goal[plan.rows])]
    else:
        values = columns.numbers(goal).to_numpy()
        mean, spread = (values[train].mean(), values[train].std() or 1.0) if scale_target else (0.0, 1.0)
        y[plan.rows] = ((values - mean) / spread)[plan.rows]
    splits: dict[str, tuple[Tensor, Tensor]] = {
        part: (torch.from_numpy(x[np.array(rows)]), torch.from_numpy(y[np.array(rows)])) for part, rows in parts.items()
    }
    about = {
        part: {one.name: found.frame[one.name].iloc[rows].tolist() for one in plan.left} for part, rows in parts.items()
    }
    return Data(splits["train"], splits.get("val"), splits.get("test"), x.shape[1:], plan.classes, about=about)
