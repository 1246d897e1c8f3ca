"""Runs as a picture and words: what a saved notebook keeps of a view."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from lepton_lab.charts import training
from lepton_lab.metrics import Figure, Known, summarised
from lepton_lab.section import in_html
from lepton_lab.store.nodes import named
from lepton_lab.store.tracks import Curve

Head = Mapping[str, Any]
WIDE, SHARP = 450, 120
"""CSS pixels of a picture, and its dots an inch."""


def still(heads: Sequence[Head], pictures: str = "", of: Known | None = None) -> str:
    """HTML of how runs stand, around their ``pictures``; ``of`` are their metrics."""
    return "".join([table(heads, of), *map(_problem, heads), pictures, _again(heads)])


def pictures(curves: Sequence[dict[str, Curve]], names: Sequence[str], of: Known) -> str:
    """HTML of the runs' metrics by step, side by side where there is room; "" before the first step."""
    wanted = {name: it for name, it in of.items() if any(name in each or f"val_{name}" in each for each in curves)}
    charts = (training(name, list(names), list(curves), metric=metric) for name, metric in wanted.items())
    return "".join(chart.image(WIDE, SHARP) for chart in charts)


def table(heads: Sequence[Head], of: Known | None = None) -> str:
    """HTML of a line a run: state, how far, how well."""
    split = {key: figure for key, figure in summarised(of).items() if figure.split}
    columns = [figure for key, figure in split.items() if any(head["figures"].get(key) is not None for head in heads)]
    rows = [["run", "state", "epoch", "step", *(figure.label for figure in columns)]]
    for head in heads:
        steps = f"{head['step']:,} of {head['steps']:,}" if head["steps"] else f"{head['step']:,}"
        figures = [text(figure, head["figures"].get(figure.key)) for figure in columns]
        rows.append([head["label"], head["state"], f"{head['epoch']} of {head['epochs']}", steps, *figures])
    return in_html(rows[0], rows[1:])


def text(figure: Figure, value: float | None) -> str:
    """A figure as people write it."""
    return "–" if value is None else figure.metric.text(value)


def _problem(head: Head) -> str:
    """HTML of why a run failed, waits or was stopped; "" where nothing is to be said."""
    failure, name = head["failure"], head["label"]
    if failure is None:
        told = "; ".join(text for text in (head["remark"], named(head["nodes"])) if text)
        return f"<p>{escape(name)}: {escape(told)}</p>" if told else ""
    who = f"rank {failure['rank']}" if failure["rank"] >= 0 else "the supervisor"
    where = f", {failure['where']}" if failure["where"] else ""
    return "<p>" + escape(f"{name}: {who} failed{where}: {failure['type']}: {failure['message']}") + "</p>"


def _again(heads: Sequence[Head]) -> str:
    made = time.strftime("%d %B %Y, %H:%M")
    calls = ", ".join(f"lab.attach('{head['id']}')" for head in heads[:8])
    more = f" and {len(heads) - 8} more" if len(heads) > 8 else ""
    shows = "shows its" if len(heads) == 1 else "show their"
    return f"<p><small>As of {made}. <code>{escape(calls)}</code>{more} {shows} live view.</small></p>"
