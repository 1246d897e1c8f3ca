"""Figures of a report: each with its words, and the command that draws it again."""

from __future__ import annotations

import base64
import html
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import CHARTS

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
        if "image/png" in metadata:
            del data["text/html"]  # a report has a figure of its own for the picture
            metadata["image/png"]["again"] = self.again
            data["image/png"] = base64.b64encode(self.chart.png()).decode()  # sharper, for paper
        return data, metadata

    @property
    def html(self) -> str:
        """As a page has it: a PNG within, its words, and the command."""
        below = f"<figcaption>Again: <code>{html.escape(self.again)}</code></figcaption>"
        return f'<figure style="margin: 0">{self.chart.html}{below}</figure>'


def picture(name: str, runs: list[Run]) -> Picture:
    """A chart of CHARTS for runs."""
    words = ["lepton-lab", "report", *(run.id for run in runs), "--figure", name, "--out", f"{name}.png"]
    return Picture(CHARTS[name](runs), shlex.join(words))
