"""What a user's code logged, on a page: numbers as charts, and a strip of the latest media of each name."""

from __future__ import annotations

import base64
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from ..charts.own import logged as chart
from ..charts.own import numbers, spread
from ..charts.series import read
from ..section import Section, escaped
from ..store.figures import Row
from ..store.inspection import content, place
from ..store.media import MEDIA, SAMPLES
from ..store.naming import labels

if TYPE_CHECKING:
    from pathlib import Path

    from ..run.handle import Run

CURVES = 12  # at most, of numbers
LATEST = 4  # steps of each name
LARGEST = 2**20  # bytes of a file that a page holds
WIDE, SHARP = 320, 150  # CSS pixels of a histogram, and its dots an inch


def logged(runs: list[Run]) -> Section:
    """Figures and media of one's own; nothing where runs logged none."""
    names = numbers(runs)
    charts = [chart(name, runs) for name in names[:CURVES]]
    grid = f'<div class="charts">{"".join(f"<figure>{one.html}</figure>" for one in charts)}</div>' if charts else ""
    strips = [_strip(run, label, name, rows) for run, label in _named(runs) for name, rows in _media(run).items()]
    notes = [f"Not drawn: {', '.join(names[CURVES:])}."] if names[CURVES:] else []
    notes += [f"{label}: {count:,} figures were dropped." for run, label in _named(runs) if (count := dropped(run))]
    if not (charts or strips or notes):
        return Section("", "Nothing was logged.")
    below = f'<p class="note">{escaped(" ".join(notes))}</p>' if notes else ""
    words = [one.text for one in charts] + [text for _, text in strips] + notes
    return Section(f"<h2>Logged</h2>{grid}{''.join(html for html, _ in strips)}{below}", "\n".join(words))


def dropped(run: Run) -> int:
    """How many figures were beyond what a run keeps."""
    return sum(rank.facts.get("dropped", 0) for rank in read(run).ranks.values())


def _named(runs: list[Run]) -> list[tuple[Run, str]]:
    return list(zip(runs, labels(runs), strict=True))


def _media(run: Run) -> dict[str, list[Row]]:
    """The latest rows of each name."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in (row for row in read(run).own.media if row["media"] != SAMPLES):
        rows[row["name"]].append(row)
    return {name: each[-LATEST:] for name, each in rows.items()}


def _strip(run: Run, label: str, name: str, rows: list[Row]) -> tuple[str, str]:
    """One name's latest, side by side, in HTML and in words."""
    items = "".join(
        f"<figure>{_item(name, row, place(run.folder, row))}<figcaption>step {row['step']}"
        f"{'' if row['split'] == 'train' else ', ' + escaped(row['split'])}</figcaption></figure>"
        for row in rows
    )
    steps = ", ".join(str(row["step"]) for row in rows)
    head = f"<p><strong>{escaped(name)}</strong> <small>{escaped(label)}</small></p>"
    region = f'<div class="scroll strip" tabindex="0" role="region" aria-label="{escaped(name)}">{items}</div>'
    return head + region, f"{label}: {rows[0]['media']} {name} at steps {steps}"


def _item(name: str, row: Row, path: Path) -> str:
    if not path.is_file() or path.stat().st_size > LARGEST:
        return f"<code>{escaped(path)}</code>"
    label = escaped(f"{name} at step {row['step']}")
    kind, figures = row["media"], content(path, row["media"])
    if kind == "text":
        return f"<pre>{escaped(figures.get('text', ''))}</pre>"
    if kind == "histogram":
        return spread(name, row["step"], figures).image(WIDE, SHARP) if figures else ""
    source = f"data:{MEDIA[kind].mime};base64,{base64.b64encode(path.read_bytes()).decode()}"
    if kind == "audio":
        return f'<audio controls src="{source}" aria-label="{label}"></audio>'
    return f'<img class="own" alt="{label}" src="{source}"{_size(row)}>'


def _size(row: Row) -> str:
    """Small images are shown larger, in whole steps."""
    times: Any = max(1, 128 // max(row["width"], row["height"], 1))
    return f' width="{row["width"] * times}" height="{row["height"] * times}"'
