"""What there is in a data set, before anything is trained on it: `look`, as text for a terminal and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from ..base import Data, Sample, length, rows
from .examples import Example, of_sample

SHOWN = 5  # samples
CLASSES = 12  # that are listed
UNREADABLE = 10  # files that are listed
UNEVEN = 3.0  # times as many samples in the largest class as in the smallest, from which on that is told
BAR = 24  # characters of the largest class's bar
STYLE = (
    "<style>.ll-look{font-size:13px;max-width:760px;color:inherit}"
    ".ll-look dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:3px 14px;margin:6px 0}"
    ".ll-look dt{color:inherit;opacity:.75;float:none;width:auto;margin:0;padding:0;font-weight:normal}"
    ".ll-look dd{float:none;width:auto;margin:0;padding:0;overflow-wrap:anywhere}"
    ".ll-look .bars{display:grid;grid-template-columns:max-content minmax(0,1fr) max-content;gap:2px 8px;"
    "align-items:center;max-width:420px}.ll-look .bars i{display:block;height:8px;border-radius:3px;"
    "background:currentColor;opacity:.45}.ll-look .shown{display:flex;flex-wrap:wrap;gap:10px;margin-top:8px}"
    ".ll-look figure{margin:0;max-width:100%}.ll-look figcaption{opacity:.65;font-size:12px;max-width:220px;"
    "overflow-wrap:anywhere}.ll-look img{height:72px;min-width:36px;border-radius:4px;display:block}"
    ".ll-look audio{height:32px;width:220px;max-width:100%}.ll-look pre{margin:0;max-width:220px;white-space:pre-wrap;"
    "overflow-wrap:anywhere;font-size:12px}</style>"
)


@dataclass(frozen=True)
class Look:
    """What was seen of a data set, without training on it."""

    name: str
    """As a Spec has it."""
    sample: Sample
    """What models are told: the shape of one sample, the number of classes, and kinds of tokens."""
    splits: dict[str, int]
    """Samples of each part that is there; what is held out of "train" is still in it."""
    classes: dict[str, int] = field(default_factory=dict)
    """Samples of each class, over all parts; empty of a regression and of texts to go on with."""
    facts: dict[str, str] = field(default_factory=dict)
    """What else there is to know, by what it is of."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """By file why it can't be read."""
    examples: Sequence[Example] = ()
    """A few samples, spread over the training part."""

    @classmethod
    def of(cls, name: str, data: Data) -> Look:
        """What data tell that have been read."""
        splits = {part: length(getattr(data, part)) for part in ("train", "val", "test")}
        there = {part: count for part, count in splits.items() if count}
        return cls(name, data.sample, there, _counts(data), {}, {}, _examples(data))

    def record(self) -> dict[str, Any]:
        """All of it but the examples' pictures and sounds, as JSON takes it."""
        parts = ("name", "sample", "splits", "classes", "facts", "unreadable")
        return {part: getattr(self, part) for part in parts} | {"examples": [one.line for one in self.examples]}

    @property
    def told(self) -> dict[str, str]:
        """All of it but classes and examples, in words, by what it is of."""
        shape, classes, vocabulary = self.sample
        parts = ", ".join(f"{part} {count:,}" for part, count in self.splits.items())
        held = {1: " (a tenth each is held out for validation and for testing)"}.get(len(self.splits), "")
        sample = " x ".join(map(str, shape)) if shape else "of several tensors"
        answers = f"{classes:,} classes" if classes else "numbers"
        lines = {"samples": parts + (held if ":" in self.name else ""), "a sample": sample, "to predict": answers}
        if vocabulary:
            lines["tokens"] = f"{vocabulary:,} kinds"
        return {**lines, **self.facts, **self._uneven, **self._lost}

    @property
    def _uneven(self) -> dict[str, str]:
        counts = sorted(self.classes.items(), key=lambda item: item[1])
        if not counts or counts[-1][1] < UNEVEN * max(1, counts[0][1]):
            return {}
        (least, few), (most, many) = counts[0], counts[-1]
        return {"imbalance": f"{most} has {many:,} samples, {least} {few:,}: accuracy alone will flatter a model"}

    @property
    def _lost(self) -> dict[str, str]:
        if not self.unreadable:
            return {}
        files = [f"{name} ({why})" for name, why in self.unreadable.items()]
        more = len(files) - UNREADABLE
        text = ", ".join(files[:UNREADABLE]) + (f" and {more:,} more" if more > 0 else "")
        return {"unreadable": f"{len(files):,}: {text}"}

    def __str__(self) -> str:
        lines = [*self.told.items(), *self._bars()]
        lines += [("" if place else "examples", example.line) for place, example in enumerate(self.examples)]
        wide = max(len(term) for term, _ in lines)
        return "\n".join([self.name, *(f"  {term:<{wide}}  {text}" for term, text in lines)])

    __repr__ = __str__

    def _bars(self) -> Iterator[tuple[str, str]]:
        """A line for each of the first classes: a term and its text."""
        first = [*self.classes.items()][:CLASSES]
        most, wide = max(self.classes.values(), default=1), max((len(name) for name, _ in first), default=0)
        for place, (name, count) in enumerate(first):
            bar = "#" * max(1, round(BAR * count / max(1, most)))
            yield "" if place else "classes", f"{name:<{wide}} {count:>7,} {bar}"
        if more := len(self.classes) - len(first):
            yield "", f"and {more:,} more"

    def _repr_html_(self) -> str:
        facts = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in self.told.items())
        most = max(self.classes.values(), default=1)
        bars = "".join(
            f"<span>{escape(name)}</span><i style='width:{max(1, 100 * count / max(1, most)):.1f}%'></i>"
            f"<span>{count:,}</span>"
            for name, count in [*self.classes.items()][:CLASSES]
        )
        more = len(self.classes) - CLASSES
        classes = f"<div class='bars'>{bars}</div>" if bars else ""
        classes += f"<small>and {more:,} more classes</small>" if more > 0 else ""
        shown = "".join(example.html for example in self.examples)
        title = f"<b>{escape(self.name)}</b>"
        return f"{STYLE}<div class='ll-look'>{title}<dl>{facts}</dl>{classes}<div class='shown'>{shown}</div></div>"


def spread(count: int) -> list[int]:
    """A few of so many places, evenly spread."""
    return [place * count // min(SHOWN, count) for place in range(min(SHOWN, count))]


def _counts(data: Data) -> dict[str, int]:
    """Samples of each class, where each sample of tensors has one label."""
    parts: list[Any] = [part for part in (data.train, data.val, data.test) if isinstance(part, tuple)]
    if not data.classes or not parts or any(y.dim() != 1 for _, y in parts):
        return {}
    return {name: sum(int((y == label).sum()) for _, y in parts) for label, name in enumerate(data.classes)}


def _examples(data: Data) -> tuple[Example, ...]:
    """A few training samples, of pairs of tensors."""
    if data.example is not None or data.collate is not None:
        return ()
    x, y = rows(data.train, spread(length(data.train)))
    return tuple(of_sample(x[place], y[place], data) for place in range(len(x)))
