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
    head = "".join(f'<th scope="col">{escaped(column)}</th>' for column in columns)
    body = ""
    for first, *rest in rows:
        kind = ' class="marked"' if marked and first.startswith(marked) else ""
        cells = "".join(f"<td{PROSE * (len(cell) > LONG)}>{escaped(cell)}</td>" for cell in rest)
        body += f'<tr{kind}><th scope="row">{escaped(first)}</th>{cells}</tr>'
    below = f'<p class="note">{escaped(note)}</p>' if note else ""
    region = f'<div class="scroll" tabindex="0" role="region" aria-label="{escaped(title)}">'
    kind = " class=numeric" if numeric else " class=many" if len(columns) > MANY else ""
    told = f"<table{kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return Section(
        f"{region}{told}</div>{below}",
        "\n".join([title, *(_row(row) for row in [columns, *rows]), *([note] if note else [])]),
    )


def _row(cells: Iterable[str]) -> str:
    return "  ".join(f"{cell:<22}" for cell in cells).rstrip()


def escaped(value: Any) -> str:
    """A value as text of a page."""
    return html.escape(str(value))
