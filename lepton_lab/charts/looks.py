"""How much each of some words looks at each of others: an alignment, attention, where an answer starts and ends."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import SpecError
from .drawing import COLORS, Chart, Ends, dress, head, plain
from .heat import Stops, heat_map, shade

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHADES: Stops = ((0.0, "#ffffff"), (1.0, COLORS[0]))


@dataclass(frozen=True)
class Looks(Chart):
    """Shares from 0 to 1 as colours: a row for each word that looks, a column for each that is looked at."""

    rows: list[str]
    columns: list[str]
    shares: list[list[float]]

    def _traces(self, layout: dict[str, Any]) -> list[dict[str, Any]]:
        across, down = (_ticks([html.escape(word) for word in words]) for words in (self.columns, self.rows))
        layout["xaxis"] |= {**across, "showgrid": False, "side": "top"}
        layout["yaxis"] |= {**down, "showgrid": False, "autorange": "reversed"}
        x, y = (range(len(words)) for words in (self.columns, self.rows))  # since a word may come twice
        details = {"showscale": False, "hovertemplate": "%{y} looks at %{x}: %{z:.0%}<extra></extra>"}
        return [heat_map(x, y, self.shares, (0, 1), SHADES, gap=1) | details]

    def _size(self) -> Ends:
        return 1.4 + 0.42 * len(self.columns), 1.5 + 0.3 * len(self.rows)

    def _draw(self, figure: Figure) -> None:
        axes = figure.add_subplot()
        shade(axes, self.shares, (0, 1), SHADES, aspect="auto")
        axes.xaxis.tick_top()
        axes.set_xticks(range(len(self.columns)), [plain(word) for word in self.columns], rotation=45, ha="left")
        axes.set_yticks(range(len(self.rows)), [plain(word) for word in self.rows])
        dress(axes, "", "")
        axes.grid(False)
        axes.tick_params(length=0)
        head(figure, self.title)


def _ticks(words: list[str]) -> dict[str, Any]:
    return {"tickvals": [*range(len(words))], "ticktext": words}


def looks(title: str, shares: Any, rows: Sequence[str], columns: Sequence[str]) -> Chart:
    """
    How much each row gives each column, such as the words of a target those of its source.

    Parameters
    ----------
    shares
        (R, C), each from 0 to 1: a tensor, an array or lists.
    rows, columns
        What stands beside and above them.

    Raises
    ------
    SpecError
        If there are not as many names as shares.
    """
    values = [[float(share) for share in row] for row in shares]
    if len(values) != len(rows) or any(len(row) != len(columns) for row in values) or not columns:
        size = f"{len(values)} rows of {' or '.join(str(n) for n in sorted({len(row) for row in values})) or 'none'}"
        raise SpecError(f"shares: {size} do not fit {len(rows)} names of rows and {len(columns)} of columns")
    most = [max(range(len(row)), key=row.__getitem__) for row in values]
    words = "; ".join(f"{name} {columns[i]} ({row[i]:.0%})" for name, row, i in zip(rows, values, most, strict=True))
    return Looks(title, f"{title}. Most of each: {words}.", [*rows], [*columns], values)
