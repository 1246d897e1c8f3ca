"""quality(): is a data set ready to be trained on? Yes or no, with a sentence for each reason."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import datasets
from ..charts.shares import shares
from ..errors import SpecError, shown
from ..preparation import kind
from ..run.checks import named
from ..run.own import Own
from ..section import Section, escaped, table
from ..spec import Spec
from ..transforms import findings
from ..transforms.nearness import KNOWN
from ..transforms.picking import length, parts
from .drift import drift

if TYPE_CHECKING:
    import pandas as pd

    from ..charts import Chart
    from ..datasets import Data
    from .label_errors import LabelErrors

GOOD, LOOK, BAD, UNKNOWN = "good", "look", "bad", "not looked at"
SIGNS = {GOOD: "✓", LOOK: "!", BAD: "✗", UNKNOWN: "?"}
NAMES = {"train": "training", "val": "validation", "test": "test"}
SOME = 0.01
"""Fraction of the training samples from which on duplicates, blank samples and wrong labels are no trifle."""
MUCH = 0.05
FEW = 10  # samples of a class
UNEVEN = 10.0  # times that one class is as frequent as another
DRIFT, SHIFT = 0.1, 0.25
"""Largest gap of two distributions (Kolmogorov and Smirnov, or total variation) to look at, and too large."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    verdict: str
    """"good", "look" (worth a look), "bad" (not ready), or "not looked at"."""
    text: str
    """Why, in a sentence."""


def quality(
    spec: Spec, *, data: Any = None, errors: LabelErrors | None = None, distance: float = 0.0, sigmas: float = 6.0
) -> Quality:
    """
    Look through the data that a spec would train on, after its transforms, for what spoils training or its figures.

    Nothing is trained. Labels are judged by what `find_label_errors` found, where that is given.

    Parameters
    ----------
    spec
        Names the data set, its options and its transforms.
    data
        Your own data in its place, as `launch` takes them.
    errors
        Of the same data, done.
    distance
        How far apart duplicates may be, as the transform `deduplicate` takes it; 0 looks for equal samples.
    sigmas
        From where on a sample is an outlier, as the transform `drop_outliers` takes it.

    Raises
    ------
    SpecError, LabError
        If the data can't be had, or are a stream.
    """
    if not isinstance(spec, Spec):
        raise SpecError(f"quality takes a Spec, not a {type(spec).__name__}: lab.quality(lab.Spec(dataset='digits'))")
    if not (errors is None or hasattr(errors, "fraction")):
        raise SpecError(f"errors={shown(errors)}: must be what lab.find_label_errors gave")
    spec.replace(transforms=[("deduplicate", distance), ("drop_outliers", sigmas)])  # refuses what they don't take
    own = Own(data=data)
    spec = named(spec, own.parts)
    loaded = own.splits(spec) or datasets.load(spec)
    name = spec.dataset if data is None else "this data set"
    return looked(loaded, name, spec.seed, errors, distance, sigmas)


def looked(
    data: Data,
    name: str,
    seed: int = 0,
    errors: LabelErrors | None = None,
    distance: float = 0.0,
    sigmas: float = 6.0,
) -> Quality:
    """What there is to say of data as they are loaded; see `quality`."""
    checks = [
        *_sizes(data),
        *_twins(data, distance),
        *_groups(data),
        *_blank(data),
        *_outliers(data, sigmas, seed),
        *_classes(data),
        *_drift(data, seed),
        *_wrong(data, errors),
    ]
    return Quality(name, data, checks)


class Quality:
    """
    What was found; last in a cell it shows the answer, a figure and a table.

    Attributes
    ----------
    checks : list of Check
        What was looked at, in order.
    ready : bool
        Whether no check is bad.
    """

    def __init__(self, name: str, data: Data, checks: list[Check]) -> None:
        self.name, self._data, self.checks = name, data, checks
        self.ready = all(check.verdict != BAD for check in checks)

    def __repr__(self) -> str:
        return f"<Quality: {self.sentence}>"

    @property
    def sentence(self) -> str:
        """Yes or no, and the reasons."""
        bad = [check.text for check in self.checks if check.verdict == BAD]
        look = [check.name for check in self.checks if check.verdict == LOOK]
        also = f"; worth a look: {', '.join(look)}" if look else ""
        if bad:
            return f"{self.name} is not ready: {'; '.join(bad)}{also}"
        return f"{self.name} is ready: nothing was found that spoils training or its figures{also}"

    def frame(self) -> pd.DataFrame:
        """The checks as a pandas table: check, verdict, why."""
        import pandas as pd

        return pd.DataFrame([{"check": c.name, "verdict": c.verdict, "why": c.text} for c in self.checks])

    def figure(self) -> Chart | None:
        """How often each class is in each split; None where samples have no label."""
        counts = {NAMES[name]: of.tolist() for name, of in findings.counts(self._data).items()}
        if not counts:
            return None
        text = f"Fraction of each class by split of {self.name}."
        return shares(f"Classes of {self.name} by split", text, counts, list(self._data.classes))

    def section(self) -> Section:
        """The answer and the checks, as HTML and as text."""
        rows = [[f"{SIGNS[check.verdict]} {check.name}", check.verdict, check.text] for check in self.checks]
        whole = table(f"Quality of {self.name}", ["check", "verdict", "why"], rows)
        head = f"<p><strong>{escaped(self.sentence)}.</strong></p>"
        return Section(f"{head}{whole.html}", f"{self.sentence}.\n\n{whole.text}")

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a page of its own that needs no network; the folder must be there."""
        place = Path(path).expanduser().absolute()
        if place.suffix != ".html" or not place.parent.is_dir():
            raise SpecError(f"path={str(path)!r}: must be a file that ends in .html, in a folder that is there")
        head = f"<!doctype html><meta charset=utf-8><title>Quality of {escaped(self.name)}</title>{STYLE}"
        place.write_text(f"{head}<body>{self.html}</body>", encoding="utf-8")
        return place

    @property
    def html(self) -> str:
        """The answer, the figure and the table."""
        figure = self.figure()
        return f"{self.section().html}{figure.html if figure else ''}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.section().text}


STYLE = "<style>body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2rem auto}td,th{text-align:left}</style>"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' if count != 1 else ''}"


def _share(count: int, whole: int) -> str:
    """The verdict of so many of the training samples."""
    return GOOD if not count else LOOK if count < SOME * whole else BAD


def _sizes(data: Data) -> list[Check]:
    splits = {name: length(split) for name, split in parts(data).items()}
    sizes = ", ".join(f"{NAMES[name]} {count:,}" for name, count in splits.items())
    missing = [NAMES[name] for name in ("val", "test") if name not in splits]
    text = f"samples: {sizes}" + f"; there is no {' and no '.join(missing)} set to measure on" * bool(missing)
    return [Check("splits", BAD if len(missing) == 2 else LOOK if missing else GOOD, text)]


def _twins(data: Data, distance: float) -> list[Check]:
    twins = findings.twins(data, distance)
    n = length(data.train)
    within = [twin for twin in twins if not twin.leaks and twin.sample[0] == "train"]
    inside, differ = len(within), sum(twin.differ for twin in within)
    leaks = [twin for twin in twins if twin.leaks]
    what = f"the same as another, up to a distance of {distance:g}," if distance else "equal to another"
    text = f"{_counted(inside, 'training sample')} {what} in the training set"
    text += f"; {differ:,} have another label than the sample that they are like" if differ else ""
    between = sorted({f"{NAMES[one.first[0]]} and {NAMES[one.sample[0]]}" for one in leaks})
    leak = f"{_counted(len(leaks), 'sample')} of one split {'are' if len(leaks) != 1 else 'is'} also in another"
    leak += f" ({', '.join(between)} set)" if leaks else ""
    other = sum(twin.differ for twin in leaks)
    leak += f"; {other:,} have another label there" if other else ""
    return [
        Check("duplicates", _share(inside, n), text),
        Check("leakage between splits", BAD if leaks else GOOD, leak),
    ]


def _groups(data: Data) -> list[Check]:
    """What is known of samples that are trained on and of those that are measured on: the same speaker in both."""
    checks, train = [], data.about.get("train", {})
    for name, values in train.items():
        mine = {*map(str, values)}
        theirs = {str(one) for split in ("val", "test") for one in data.about.get(split, {}).get(name, ())}
        if len(mine) <= len(values) / 2 and theirs:
            common = len(mine & theirs)
            text = f"{common:,} of {len(theirs):,} values of {name} that are measured on are trained on too"
            remedy = f"; transforms=[{{'split': {{'by': 'group', 'of': '{name}'}}}}] keeps each in one split"
            checks.append(Check(f"{name} in one split", LOOK if common else GOOD, text + remedy * bool(common)))
    return checks


def _blank(data: Data) -> list[Check]:
    blank = findings.blank(data)
    text = f"{_counted(len(blank), 'sample')} of one value all over"
    return [Check("blank samples", _share(len(blank), length(data.train)), text)]


def _outliers(data: Data, sigmas: float, seed: int) -> list[Check]:
    if kind(data) not in KNOWN:
        return []
    count = len(findings.outliers(data, sigmas, seed))
    text = f"{_counted(count, 'training sample')} far from all others, by {sigmas:g} sigmas"
    return [Check("outliers", LOOK if count else GOOD, text)]


def _classes(data: Data) -> list[Check]:
    counts = findings.counts(data)
    if "train" not in counts:
        return []
    train, names = counts["train"], data.classes
    absent = [names[i] for i in np.flatnonzero(train == 0) if any(of[i] for of in counts.values())]
    if absent:
        text = f"measured on, and never trained on: {', '.join(absent[:8])}"
        return [Check("balance of classes", BAD, text)]
    there = train[train > 0]
    most, least = int(train.argmax()), int(np.where(train > 0, train, train.max() + 1).argmin())
    ratio = float(there.max() / there.min())
    text = f"{names[most]} has {there.max():,} training samples and {names[least]} {there.min():,}: {ratio:.1f} to one"
    text += "; accuracy tells little, look at f1" if ratio > UNEVEN else ""
    return [Check("balance of classes", LOOK if ratio > UNEVEN or there.min() < FEW else GOOD, text)]


def _drift(data: Data, seed: int) -> list[Check]:
    """Whether validation and test samples are like those that are trained on."""
    checks = []
    for other in (name for name in ("val", "test") if name in parts(data)):
        gaps = drift(data, other, seed)
        real = [gap for gap in gaps if gap.size > gap.chance]
        text, verdict = f"{len(gaps)} distributions differ no more than by chance", GOOD
        if real:
            largest = max(real, key=lambda gap: gap.size)
            text = f"{largest.name} differ most from those of the training set, by {largest.size:.2f} of 1"
            verdict = BAD if largest.size > SHIFT else LOOK if largest.size > DRIFT else GOOD
        checks += [Check(f"drift to the {NAMES[other]} set", verdict, text)] * bool(gaps)
    return checks


def _wrong(data: Data, errors: LabelErrors | None) -> list[Check]:
    """What `find_label_errors` found, where it was asked."""
    if not data.classes:
        return []
    if errors is None:
        text = "lab.find_label_errors(spec) estimates how many are wrong"
        return [Check("labels", UNKNOWN, text)]
    fraction = errors.fraction
    verdict = BAD if fraction > MUCH else LOOK if fraction > SOME else GOOD
    return [Check("labels", verdict, errors.sentence)]
