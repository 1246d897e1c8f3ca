"""The table of runs on a terminal."""

from __future__ import annotations

from typing import Any

COLUMNS = ("id", "state", "what", "steps", "val loss", "val acc", "test acc")
WIDE = 80  # characters that all columns need
DROPPED = ("steps", "val loss", "val acc")  # on narrower terminals


def show_table(rows: list[dict[str, Any]]) -> None:
    """Print a line for each run, from its summary; on a narrow terminal fewer columns, but ids always whole."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)  # a file or a pipe wraps nothing
    names = COLUMNS if console.width >= WIDE else [name for name in COLUMNS if name not in DROPPED]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        right = name not in ("id", "state", "what")
        whole = max(len(row["id"]) for row in rows) if name == "id" else None  # an id that was cut is of no use
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "what", min_width=whole)
    for row in rows:
        cells = _cells(row)
        table.add_row(*(cells[name] for name in names))
    console.print(table, markup=False)


def _cells(row: dict[str, Any]) -> dict[str, str]:
    figures = {"val loss": row["val_loss"], "val acc": row["val_accuracy"], "test acc": row["test_accuracy"]}
    return {
        "id": row["id"],
        "state": row["state"],
        "what": row["name"] or row["title"],
        "steps": f"{row['step']}/{row['steps']}" if row["steps"] else "-",
        **{name: "-" if figure is None else f"{figure:.4f}" for name, figure in figures.items()},
    }
