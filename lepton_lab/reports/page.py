"""A page: its parts from top to bottom, and how they become one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from .. import metrics
from ..charts import picture
from ..section import escaped
from ..studies import races
from .compression import compressions
from .data import prepared, qualities
from .logged import logged
from .predictions import predictions
from .sections import costs, failures, figures, heading, provenance, spec, timings

if TYPE_CHECKING:
    from ..run.handle import Run

HERE = Path(__file__).parent


class Shown(Protocol):
    """A piece of a page."""

    @property
    def html(self) -> str:
        """As the page has it; "" is left out."""


@dataclass(frozen=True)
class Part:
    """A heading, a paragraph, and below them cells of HTML."""

    title: str
    cells: list[str]
    text: str = ""
    charts: bool = False
    """Whether its cells are figures, which stand beside each other where there is room."""


# What a report on runs holds, in its order: title, text, whether its cells are figures, what makes them. The notebook
# report.ipynb, for those who run papermill themselves, calls the same functions under the same words.
OUTLINE: tuple[tuple[str, str, bool, Callable[[list[Run]], Iterable[Shown]]], ...] = (
    ("", "", False, lambda runs: [heading(runs), failures(runs)]),
    ("Final figures", "", False, lambda runs: [figures(runs), races.among(runs), compressions(runs), *_trade(runs)]),
    (
        "Curves",
        "Thin: training, each step, all ranks together. Strong, with points: validation, on the whole validation set.",
        True,
        lambda runs: [picture(name, runs) for name in metrics.joined(run.metrics for run in runs)],
    ),
    (
        "Confusion",
        "Test set. Rows are the true classes, columns what the model said; blue is right, orange is wrong, and the "
        "deeper the larger the share of its row.",
        True,
        lambda runs: [picture(name, [run]) for name in metrics.tables() for run in runs],
    ),
    (
        "Predictions",
        "Samples beside what the model said of them when the run ended: the first ones, and those with the highest "
        "losses.",
        False,
        lambda runs: [predictions(runs)],
    ),
    ("", "", False, lambda runs: [logged(runs)]),
    ("", "", False, lambda runs: [prepared(runs)]),
    ("Timings", "", False, lambda runs: [timings(runs)]),
    ("", "", True, lambda runs: [picture("throughput", runs), picture("learning_rate", runs)]),
    (
        "Where the time went",
        "A few steps, recorded while the run went on. Each rank has a lane: above what it computes, below what it "
        "sends and waits for; lines join the ranks of an operation.",
        False,
        lambda runs: [costs(runs)],
    ),
    ("", "", True, lambda runs: [picture("timeline", [run]) for run in runs if run.spec.world > 1]),
    ("Specification", "", False, lambda runs: [spec(runs)]),
    ("Provenance", "", False, lambda runs: [provenance(runs)]),
)


QUALITY = ("Quality of the data", "As they were loaded for training.", False, lambda runs: [qualities(runs)])
"""What it holds too where that is asked for."""


def parts(runs: list[Run], quality: bool = False) -> list[Part]:
    """The parts of a report; one that can't be made says so, and the others stand."""
    outline = (*OUTLINE, QUALITY) if quality else OUTLINE
    return [Part(title, _made(make, runs), text, charts) for title, text, charts, make in outline]


def page(title: str, parts: list[Part], script: str = "") -> str:
    """One HTML file of parts, with the title of its tab; it shows all without the script, which is JavaScript."""
    import jinja2

    loader = jinja2.FileSystemLoader(HERE)
    template = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True).get_template("page.html.j2")
    style = (HERE / "style.css").read_text(encoding="utf-8")
    return template.render(title=title, parts=parts, style=style, script=script)


def _made(make: Callable[[list[Run]], Iterable[Shown]], runs: list[Run]) -> list[str]:
    try:
        return [piece.html for piece in make(runs)]
    except Exception as error:
        return [f'<p class="nothing">This part could not be made: {escaped(f"{type(error).__name__}: {error}")}</p>']


def _trade(runs: list[Run]) -> list[Shown]:
    compressed = [run for run in runs if run.spec.compress]
    return [picture("pareto", compressed)] if compressed else []
