"""Pieces of a page: a table, as HTML where it can be shown and as text elsewhere."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

NONE = "–"
MANY = 5  # columns: where there are more, their names stand upright on paper
LONG = 40  # characters from which a cell is a sentence, which notebooks must not align to the right
PROSE = ' style="text-align: left; min-width: 18em"'


@dataclass(frozen=True)
class Section:
    """A piece of a report: HTML where it can be shown, text elsewhere."""

    html: str
    text: str

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.text}


def table(
    title: str, columns: list[str], rows: list[list[str]], note: str = "", numeric: bool = False, marked: str = ""
) -> Section:
    """A table whose first column names its rows; `marked` rows begin with that sign."""
    kind = "numeric" if numeric else "many" if len(columns) > MANY else ""
    below = f'<p class="note">{escaped(note)}</p>' if note else ""
    region = f'<div class="scroll" tabindex="0" role="region" aria-label="{escaped(title)}">'
    text = "\n".join([title, in_text(columns, rows), *([note] if note else [])])
    return Section(f"{region}{in_html(columns, rows, kind, marked)}</div>{below}", text)


def in_html(columns: Iterable[str], rows: Iterable[Iterable[str]], kind: str = "", marked: str = "") -> str:
    """A table of a class `kind`, whose first column names its rows; `marked` rows begin with that sign."""
    head = "".join(f'<th scope="col">{escaped(column)}</th>' for column in columns)
    body = ""
    for first, *rest in rows:
        mark = ' class="marked"' if marked and first.startswith(marked) else ""
        cells = "".join(f"<td{PROSE * (len(cell) > LONG)}>{escaped(cell)}</td>" for cell in rest)
        body += f'<tr{mark}><th scope="row">{escaped(first)}</th>{cells}</tr>'
    named = f' class="{kind}"' if kind else ""
    return f"<table{named}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def in_text(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table as lines of text, each column as wide as its longest cell."""
    lines = [list(columns), *map(list, rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def escaped(value: Any) -> str:
    """A value as text of a page."""
    return html.escape(str(value))
