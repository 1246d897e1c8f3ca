"""Figures of a report: each with its words, and the command that draws it again."""

from __future__ import annotations

import html
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import CHARTS
from .drawing import Nothing

if TYPE_CHECKING:
    from ..run.handle import Run
    from . import Chart


@dataclass(frozen=True)
class Picture:
    """A chart, and the command that draws it again; shown as the chart is."""

    chart: Chart
    again: str

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = self.chart._repr_mimebundle_(include, exclude)
        return {**data, "text/html": self.html}, metadata

    @property
    def html(self) -> str:
        """As a page has it: a PNG within, its words, and the command; of a chart with nothing to draw, its sentence."""
        if isinstance(self.chart, Nothing):
            return self.chart.html
        below = f"<figcaption>Again: <code>{html.escape(self.again)}</code></figcaption>"
        return f'<figure style="margin: 0">{self.chart.html}{below}</figure>'


def picture(name: str, runs: list[Run]) -> Picture:
    """A chart of CHARTS for runs."""
    words = ["lepton-lab", "report", *(run.id for run in runs), "--figure", name, "--out", f"{name}.png"]
    return Picture(CHARTS[name](runs), shlex.join(words))
