"""A run's data on a page: what transforms did to them, and, where it is asked for, whether they were ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..measures.candidates import run_data
from ..section import Section, escaped, table
from ..store.naming import labels
from ..studies.quality import looked

if TYPE_CHECKING:
    from ..run.handle import Run


def prepared(runs: list[Run]) -> Section:
    """What transforms did to the data before training; nothing where none did anything."""
    rows = [
        [label, str(row["transform"]), str(row["text"]).removeprefix(f"{row['transform']}: ")]
        for run, label in zip(runs, labels(runs), strict=True)
        for row in run.rows("note")
        if "transform" in row
    ]
    if not rows:
        return Section("", "Nothing was done to the data.")
    note = "Which samples these were is in transforms/history.json of the run's folder."
    section = table("Data", ["run", "transform", "what it did"], rows, note)
    return Section(f"<h2>Data</h2>{section.html}", section.text)


def qualities(runs: list[Run]) -> Section:
    """Whether the data of each run were ready; they are loaded again, and nothing is trained."""
    pages, words = [], []
    for run, label in zip(runs, labels(runs), strict=True):
        quality = looked(run_data(run), run.spec.dataset, run.spec.seed)
        pages.append(f"<h3>{escaped(label)}</h3>{quality.html}")
        words.append(f"{label}: {quality.section().text}")
    return Section("".join(pages), "\n\n".join(words))
