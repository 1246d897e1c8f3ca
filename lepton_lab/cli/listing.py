"""Tables on a terminal: of runs, and of figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..metrics import MINIMISED, main, summarised

if TYPE_CHECKING:
    from rich.console import Console

FIGURES = {key: figure for key, figure in summarised().items() if figure.split}
WIDE = 80  # characters that all columns need
NARROW = ("id", "state", "what", f"test_{main()}")
"""Columns on narrower terminals."""


def show_table(rows: list[dict[str, Any]]) -> None:
    """Print a line for each run, from its summary; on a narrow terminal fewer columns, but ids always whole."""
    from rich.table import Table

    console = _console()
    names: Sequence[str] = NARROW
    if console.width >= WIDE:
        names = ["id", "state", "what", "steps", *(key for key in FIGURES if _wanted(key, rows))]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        right = name not in ("id", "state", "what")
        whole = max(len(row["id"]) for row in rows) if name == "id" else None  # an id that was cut is of no use
        head = f"{FIGURES[name].split} {FIGURES[name].metric.short}" if name in FIGURES else name
        table.add_column(head, justify="right" if right else "left", no_wrap=name != "what", min_width=whole)
    for row in rows:
        cells = _cells(row)
        table.add_row(*(cells[name] for name in names))
    console.print(table, markup=False)


def show_figures(heads: Sequence[str], lines: Sequence[Sequence[str]], note: str = "") -> None:
    """Print lines of figures as a table; where a terminal is too narrow, each line figure below figure."""
    from rich.table import Table

    console = _console()
    widths = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
    if sum(widths) + 2 * len(widths) <= console.width:
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for head in heads:
            table.add_column(head, no_wrap=True)
        for line in lines:
            table.add_row(*line)
        console.print(table, markup=False)
    else:
        for first, *rest in lines:
            console.print(first, style="bold", markup=False)
            for head, cell in zip(heads[1:], rest, strict=True):
                if cell:
                    console.print(f"  {head:<{max(map(len, heads[1:]))}}  {cell}", markup=False)
    if note:
        console.print(note, markup=False)


def _console() -> Console:
    """Standard output; a file or a pipe wraps nothing."""
    from rich.console import Console

    console = Console(highlight=False, emoji=False)
    return console if console.is_terminal else Console(highlight=False, emoji=False, width=400)


def _wanted(key: str, rows: list[dict[str, Any]]) -> bool:
    """Whether a figure has a column: what is minimised and the most telling have, others where a run has any."""
    return FIGURES[key].name in (MINIMISED, main()) or any(row[key] is not None for row in rows)


def _cells(row: dict[str, Any]) -> dict[str, str]:
    figures = {key: row[key] for key in FIGURES}
    return {
        "id": row["id"],
        "state": row["state"],
        "what": row["name"] or row["title"],
        "steps": f"{row['step']}/{row['steps']}" if row["steps"] else "-",
        **{name: "-" if figure is None else f"{figure:.4f}" for name, figure in figures.items()},
    }
