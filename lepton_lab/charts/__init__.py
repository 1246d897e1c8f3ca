"""
Finished figures: CHARTS maps a name to a function `(runs) -> Chart`.

Each kind is a file: a `Chart` with `_traces` for plotly and `_draw` for matplotlib, and what makes it of runs.
"""

from __future__ import annotations

import html
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import metrics
from ..tables import pick
from .descent import descent
from .drawing import Chart, Nothing
from .heat import matrix
from .lines import curves
from .looks import looks
from .means import trends
from .panels import race
from .pareto import pareto
from .placement import placement
from .results import results
from .steps import by_step, learning_rate, throughput, training
from .thresholds import calibration, precision_recall, roc
from .timeline import timeline

if TYPE_CHECKING:
    from ..run.handle import Run

__all__ = ["CHARTS", "Chart", "Picture", "chart", "curves", "descent", "looks", "picture", "placement", "results"]
__all__ += ["training", "trends"]

CHARTS: dict[str, Callable[[list[Run]], Chart]] = {
    **{name: partial(by_step, name) for name in metrics.steps()},
    "learning_rate": learning_rate,
    "throughput": throughput,
    **{name: partial(matrix, name) for name in metrics.tables()},
    "roc": roc,
    "precision_recall": precision_recall,
    "calibration": calibration,
    "timeline": timeline,
    "race": race,
    "pareto": pareto,
}


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


def chart(name: str, runs: list[Run]) -> Chart:
    """
    A chart of CHARTS for runs, or one of a metric that any of them has, by step.

    Raises
    ------
    SpecError
        If there is none of this name.
    """
    counted = {metric: partial(by_step, metric) for metric in metrics.joined(run.metrics for run in runs)}
    return pick({**CHARTS, **counted}, name, "figure")(runs)


def picture(name: str, runs: list[Run]) -> Picture:
    """A chart of runs, see `chart`."""
    words = ["lepton-lab", "report", *(run.id for run in runs), "--figure", name, "--out", f"{name}.png"]
    return Picture(chart(name, runs), shlex.join(words))


def __getattr__(name: str) -> Callable[[list[Run]], Chart]:
    """A chart, or that of a metric of the table, by its name."""
    if name in CHARTS or name in metrics.METRICS:
        return partial(chart, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
