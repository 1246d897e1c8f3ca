"""Runs and figures on a terminal: one run whole, runs as a table, figures as a table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ..charts.series import number
from ..metrics import MINIMISED, Figure, joined, main, summarised
from ..store.nodes import named

if TYPE_CHECKING:
    from rich.console import Console

    from ..run.handle import Run
    from ..store.failure import Failure

WIDE = 80  # characters that all columns need
NARROW = ("id", "state", "what", f"test_{main()}")
"""Columns on narrower terminals."""


def tell(run: Run, as_json: bool, text: Callable[[], str]) -> None:
    """Print a run as JSON, or the text."""
    click.echo(json.dumps(record(run), indent=1) if as_json else text())


def record(run: Run) -> dict[str, Any]:
    """All about a run, as JSON takes it."""
    failure = run.failure
    return {
        **run.summary(),
        "remark": run.remark,
        "nodes": run.nodes,
        "folder": str(run.folder),
        "failure": asdict(failure) if failure else None,
        "command": run.command,
        "spec": run.spec.to_dict(),
    }


def described(run: Run) -> str:
    """A run as people read it: state, figures, failure, spec, and how to repeat it."""
    summary = run.summary()
    head = "  ".join(filter(None, [run.id, run.name, run.state, "archived" * run.archived]))
    machines = f"On {named(run.nodes)}" if run.nodes else ""
    labels = [f"Tags: {', '.join(run.tags)}" * bool(run.tags), run.note]
    lines = [click.style(head, bold=True), *filter(None, [run.remark, machines, *labels]), ""]
    figures = {"step": f"{summary['step']} of {summary['steps'] or '?'}", "time": f"{summary['seconds']:.1f} s"}
    heads = {key: figure.label for key, figure in summarised(run.metrics).items()} | {"samples_per_s": "samples/s"}
    figures |= {head: number(summary[name]) for name, head in heads.items() if summary[name] is not None}
    lines += [f"  {name:<20} {value}" for name, value in figures.items()]
    if failure := run.failure:
        lines += ["", click.style(f"Failed: {failure}", fg="red"), *_calls(run, failure)]
    lines += ["", "Spec:", *(f"  {line}" for line in run.spec.to_yaml().splitlines())]
    lines += ["", "Folder:", f"  {run.folder}", "Again:", f"  {run.command}"]
    return "\n".join(lines)


def _calls(run: Run, failure: Failure) -> list[str]:
    """The user's own line, then the last calls; nothing where no traceback is known."""
    from ..launchers.failures import calls

    own, last = calls(run.store, failure)
    lines = [own] if own else []
    if last:
        lines.append("Last calls, the innermost at the end:")
        lines += [f"  {line}" for call in last for line in call.splitlines()]
    if failure.traceback:
        lines += [f"The whole traceback: lepton-lab logs {run.id}"]
    return [f"  {line}" for text in lines for line in text.splitlines()]


def show_table(runs: list[Run]) -> None:
    """Print a line for each run; on a narrow terminal fewer columns, but ids always whole."""
    screen, rows = console(), [run.summary() for run in runs]
    figures = summarised(joined(run.metrics for run in runs))
    columns = {key: figure for key, figure in figures.items() if figure.split and _wanted(key, figure, rows)}
    names: Sequence[str] = NARROW
    if screen.width >= WIDE:
        names = ["id", "state", "what", "steps", *columns]
    heads = [f"{columns[name].split} {columns[name].metric.short}" if name in columns else name for name in names]
    lines = [[cells[name] for name in names] for cells in (_cells(row, columns) for row in rows)]
    print_table(screen, heads, lines, left=("id", "state", "what"), wraps="what", whole="id")


def show_figures(heads: Sequence[str], lines: Sequence[Sequence[str]], note: str = "") -> None:
    """Print lines of figures as a table; where a terminal is too narrow, each line figure below figure."""
    screen = console()
    widths = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
    if sum(widths) + 2 * len(widths) <= screen.width:
        print_table(screen, heads, lines, left=heads)
    else:
        for first, *rest in lines:
            screen.print(first, style="bold", markup=False)
            for head, cell in zip(heads[1:], rest, strict=True):
                if cell:
                    screen.print(f"  {head:<{max(map(len, heads[1:]))}}  {cell}", markup=False)
    if note:
        screen.print(note, markup=False)


def console(piped: int = 400) -> Console:
    """Standard output; a file or a pipe wraps at `piped` characters."""
    from rich.console import Console

    screen = Console(highlight=False, emoji=False)
    return screen if screen.is_terminal else Console(highlight=False, emoji=False, width=piped)


def print_table(
    screen: Console,
    heads: Sequence[str],
    lines: Iterable[Sequence[str]],
    left: Sequence[str],
    wraps: str = "",
    whole: str = "",
) -> None:
    """
    Print a table without lines.

    By their heads: columns on the `left`; one that `wraps`; one that stays `whole`, since a cut id is of no use.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    lines = [list(line) for line in lines]
    for i, head in enumerate(heads):
        width = max((len(line[i]) for line in lines), default=0) if head == whole else None
        table.add_column(head, justify="left" if head in left else "right", no_wrap=head != wraps, min_width=width)
    for line in lines:
        table.add_row(*line)
    screen.print(table, markup=False)


def _wanted(key: str, figure: Figure, rows: list[dict[str, Any]]) -> bool:
    """Whether a figure has a column: what is minimised and the most telling have, others where a run has any."""
    usual = figure.name in (MINIMISED, main()) and not figure.averaged
    return usual or any(row.get(key) is not None for row in rows)


def _cells(row: dict[str, Any], columns: Iterable[str]) -> dict[str, str]:
    figures = {key: row.get(key) for key in columns}
    return {
        "id": row["id"],
        "state": row["state"],
        "what": row["name"] or row["title"],
        "steps": f"{row['step']}/{row['steps']}" if row["steps"] else "-",
        **{name: "-" if figure is None else f"{figure:.4f}" for name, figure in figures.items()},
    }
