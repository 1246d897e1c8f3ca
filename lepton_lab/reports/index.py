"""The index of many reports: a table that can be sorted, curves over one another, and what each cost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from ..chains import listed
from ..charts import Picture, picture
from ..charts.drawing import Chart, Nothing
from ..charts.lines import Line, Lines, losses
from ..charts.pareto import Point, against
from ..charts.series import footprint, number, read
from ..files import write_text
from ..metrics import MINIMISED, Figure, Known, figures, joined, main, summarised
from ..section import NONE, escaped
from ..store.folder import ENDED
from ..store.tracks import Curve
from ..values import brief
from .page import Part, page
from .sections import badge, seconds

if TYPE_CHECKING:
    from ..run.handle import Run

Groups = Mapping[str, list["Run"]]
"""Runs by what sets them apart but the seed, in a few words: one line each, or one point."""
FEW = 12  # lines in a figure
COSTS = ("seconds of training", "MB of memory, largest rank", "MB sent a step")
SCRIPT = Path(__file__).with_name("sort.js")
NOTE = (
    "Validation: the last evaluation. Samples/s: over all ranks, at the end; runs that trained at the same time shared "
    "the machine. A click on a head sorts."
)


@dataclass(frozen=True)
class Entry:
    """A run in the index, done or not."""

    values: Mapping[str, Any]
    """What sets it apart, by field."""
    state: str
    run: Run | None = None
    report: str | None = None
    """The file of its report, beside the index."""
    problem: str = ""
    """Why it is not done."""

    @cached_property
    def summary(self) -> dict[str, Any]:
        """As `Run.summary` gives it; {} where there is no run."""
        return self.run.summary() if self.run else {}


def write(path: Path, name: str, entries: list[Entry], again: str, source: str) -> None:
    """Write the index of a grid; `again` is the command line that does what is missing, `source` the grid's file."""
    repeated = f"<pre><code>{escaped(again)}</code></pre><p>with this grid:</p>"
    repeated += f"<pre><code>{escaped(source.strip())}</code></pre>"
    parts = [Part("", [_head(name, entries)]), Part("Runs", [_table(entries)]), *_charts(entries, again)]
    parts.append(Part("Again", [repeated]))
    write_text(path, page(f"Grid: {name}", parts, SCRIPT.read_text(encoding="utf-8")))


def _head(name: str, entries: list[Entry]) -> str:
    """Title, date, how many runs came to what, and the best of them."""
    counts = ", ".join(f"{count} {state}" for state, count in Counter(entry.state for entry in entries).items())
    words = [f"{len(entries)} runs: {counts}."]
    judge = Figure(MINIMISED, "val")
    judged = [(value, entry) for entry in entries if (value := entry.summary.get(judge.key)) is not None]
    if judged:
        value, best = min(judged, key=lambda pair: pair[0])
        words.append(f"Lowest {judge.label}: {number(value)} with {label(best.values)}.")
    if any(entry.state != "done" for entry in entries):
        words.append("What is not done is tried again by the command below.")
    made = time.strftime("%d %B %Y, %H:%M %Z")
    title = f"<h1>Grid: {escaped(name)}</h1>"
    return f'{title}<p class="made">Made {made}</p><p>{escaped(" ".join(words))}</p>{_problems(entries)}'


def _problems(entries: list[Entry]) -> str:
    """A card for each run that came to no good end."""
    return "".join(
        f'<section class="failure"><h2>{escaped(label(entry.values))}: {entry.state}</h2>'
        f"<p>{escaped(entry.problem)}</p></section>"
        for entry in entries
        if entry.problem
    )


def _counted(entries: list[Entry]) -> Known:
    """The metrics of all runs."""
    return joined(entry.run.metrics for entry in entries if entry.run)


def _table(entries: list[Entry]) -> str:
    """A line for each run, that links to its report."""
    fields = list(entries[0].values)
    columns = _columns(entries)
    heads = ["run", *fields, "state", *columns.values()]
    head = "".join(f'<th scope="col">{escaped(title)}</th>' for title in heads)
    rows = "".join(_line(i, entry, list(columns)) for i, entry in enumerate(entries, 1))
    region = '<div class="scroll" tabindex="0" role="region" aria-label="Runs">'
    table = f'<table class="numeric sortable"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return f'{region}{table}</div><p class="note">{NOTE}</p>'


def _line(place: int, entry: Entry, columns: list[str]) -> str:
    link = f"Run {place}"
    if entry.report:
        link = f'<a href="{escaped(entry.report)}" title="{escaped(label(entry.values))}">{link}</a>'
    cells = [_cell(_value(value), value) for value in entry.values.values()]
    cells.append(f'<td data-key="{entry.state}">{badge(entry.state)}</td>')
    for name in columns:
        value = entry.summary.get(name)
        shown = NONE if value is None else seconds(value) if name == "seconds" else number(value)
        cells.append(_cell(shown, value))
    return f'<tr><th scope="row" data-key="{place}">{link}</th>{"".join(cells)}</tr>'


def _columns(entries: list[Entry]) -> dict[str, str]:
    """The figures that have a column, and its head: all, but of averaged weights those that a run has."""
    figures = {
        key: figure.label
        for key, figure in summarised(_counted(entries)).items()
        if figure.split and (not figure.averaged or any(one.summary.get(key) is not None for one in entries))
    }
    return {"step": "steps", **figures, "samples_per_s": "samples/s", "seconds": "whole run"}


def _cell(shown: str, key: Any) -> str:
    key = "" if key is None else key if isinstance(key, int | float) else shown
    return f'<td data-key="{escaped(key)}">{escaped(shown)}</td>'


def _charts(entries: list[Entry], again: str) -> list[Part]:
    """The curves over one another, and accuracy against cost."""
    groups = _groups(entries)
    validated = any(f"val_{MINIMISED}" in read(run).curves for runs in groups.values() for run in runs)
    wanted = figures("val" if validated else "train", of=_counted(entries))
    charts = [curves(groups, figure) for figure in wanted.values()]
    costs = [Picture(trade(groups), again)]
    compressed = [entry.run for entry in entries if entry.run and entry.run.spec.compress]
    costs += [picture("pareto", compressed)] if compressed else []
    return [
        Part("Curves", [Picture(chart, again).html for chart in charts], charts=True),
        Part("What it cost", [cost.html for cost in costs]),
    ]


def _groups(entries: list[Entry]) -> dict[str, list[Run]]:
    """Ended runs that differ in nothing but the seed, by what sets them apart: in full where labels are the same."""
    groups: dict[str, list[Run]] = {}
    words: dict[str, str] = {}
    for entry in entries:
        if entry.run and entry.run.state in ENDED:
            apart = {name: value for name, value in entry.values.items() if name != "seed"}
            groups.setdefault(str(apart), []).append(entry.run)
            words[str(apart)] = label(apart)
    alike = Counter(words.values())
    return {words[key] if alike[words[key]] == 1 else key: runs for key, runs in groups.items()}


def label(values: Mapping[str, Any], exact: bool = False) -> str:
    """What sets a run apart, in a few words, such as `lr=0.001, seed=0`; numbers to 4 digits, or exactly."""
    short = {name: brief(value) for name, value in values.items() if isinstance(value, float) and not exact}
    words = {name: short.get(name) or _value(value) for name, value in values.items()}
    return ", ".join(f"{name}={text}" for name, text in words.items()) or "all runs"


def _value(value: Any) -> str:
    """A field's value in a few words."""
    if isinstance(value, list):
        return listed(value) or "nothing"
    if isinstance(value, dict):
        return " ".join(f"{name}={item}" for name, item in value.items()) or "none"
    return str(value)


def curves(groups: Groups, figure: Figure) -> Chart:
    """A figure of each group by step, as the mean over its seeds; of many groups the best are shown."""
    title, metric = figure.label.capitalize(), figure.metric
    means = {label: curve for label, runs in groups.items() if (curve := _mean(runs, figure.key)).x}
    if not means:
        return Nothing(title, f"{title}: no run has any yet.")
    ranked = sorted(means, key=lambda label: means[label].y[-1], reverse=metric.higher)
    shown = [label for label in means if label in ranked[:FEW]]
    lines = tuple(Line(label, means[label], i) for i, label in enumerate(shown))
    seeds = max(len(runs) for runs in groups.values())
    title += f", mean over {seeds} seeds" if seeds > 1 else ""
    title += f", the {FEW} best of {len(means)}" if len(means) > FEW else ""
    words = [f"{label}: {number(means[label].y[0])} to {number(means[label].y[-1])}" for label in shown]
    best = "Highest" if metric.higher else "Lowest"
    text = f"{title}, by optimizer step. {best} at the end: {ranked[0]}. {'. '.join(words)}."
    if not metric.higher:
        return losses(title, text, lines, shown, metric.axis)
    return Lines(title, text, metric.axis, lines, highest=metric.highest)


def trade(groups: Groups) -> Chart:
    """Accuracy against what training cost: seconds, memory, bytes sent; with seeds as error bars."""
    title = "Accuracy against what training cost"
    measured = {label: pairs for label, runs in groups.items() if (pairs := _accuracies(runs))}
    if not measured:
        return Nothing(title, f"{title}: no run has measured an accuracy.")
    costs = {label: [_costs(run) for _, run in pairs] for label, pairs in measured.items()}
    axes = [i for i in range(len(COSTS)) if all(cost[i] for each in costs.values() for cost in each)]
    if not axes:
        return Nothing(title, f"{title}: no run has recorded what it cost.")
    points = [
        Point(
            label,
            pairs[0][1].command,
            tuple(accuracy for accuracy, _ in pairs),
            tuple(tuple(float(cost[i] or 0) for cost in costs[label]) for i in axes),
        )
        for label, pairs in measured.items()
    ]
    return against(title, points, tuple(COSTS[i] for i in axes))


def _mean(runs: list[Run], name: str) -> Curve:
    """The mean over runs at the steps that all of them have."""
    curves = [dict(zip(*curve, strict=True)) for run in runs if (curve := read(run).curves.get(name))]
    steps = sorted(set.intersection(*map(set, curves))) if curves else []
    return Curve(steps, [mean(values[step] for values in curves) for step in steps])


def _accuracies(runs: list[Run]) -> list[tuple[float, Run]]:
    """Of the test set, else of the last validation; of those runs that measured one."""
    curves = [(read(run).curves, run) for run in runs]
    accuracies = [(own.get(f"test_{main()}") or own.get(f"val_{main()}"), run) for own, run in curves]
    return [(curve.y[-1], run) for curve, run in accuracies if curve]


def _costs(run: Run) -> tuple[float | None, ...]:
    """What training cost, in the order of COSTS; None or 0 where it is not known, or nothing."""
    needs = footprint(run)
    return read(run).seconds, (needs.memory or 0) / 1e6, (needs.sent or 0) / 1e6
