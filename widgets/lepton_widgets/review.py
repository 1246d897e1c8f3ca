"""Suspicious labels as a gallery: a person keeps, relabels or drops each, and saves what was decided as a file."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as ipw

from lepton_lab.charts.cards import drawn, tabled
from lepton_lab.errors import LabError
from lepton_lab.studies.label_errors import LabelErrors
from lepton_lab.transforms.decisions import ACTIONS, Decision, Decisions

from .frame import Shown
from .pieces import button, refusal, sentence, styled, terms

PAGE = 12
"""Samples that are shown at once."""
SAVED = 8
"""Samples that a saved notebook shows."""


class Choice(ipw.VBox):
    """One sample: what is to be seen of it, and what becomes of it.

    Parameters
    ----------
    review : Review
        Is told of each choice.
    decision : Decision
        The choice so far.
    html : str
        What is to be seen.
    classes : list of str
        Labels that it may get.
    """

    def __init__(self, review: Review, decision: Decision, html: str, classes: list[str]) -> None:
        what = f"sample {decision.sample}, given {decision.given}"
        self.action = ipw.ToggleButtons(options=list(ACTIONS), value=decision.action, tooltips=[what] * len(ACTIONS))
        self.label = ipw.Dropdown(options=classes, value=decision.label, description="as", tooltip=f"Label of {what}")
        self._review, self._sample = review, decision.sample
        super().__init__([ipw.HTML(html), styled(ipw.Box([self.action, self.label]), "decision")])
        styled(self, "suspect")
        self._show()
        for widget in (self.action, self.label):
            widget.observe(self._choose, names="value")

    def _choose(self, change: Any) -> None:
        if change["owner"] is self.label:
            self.action.value = "relabel"
        self._show()
        self._review.decide(self._sample, self.action.value, self.label.value)

    def _show(self) -> None:
        self.label.disabled = self.action.value == "drop"


class Review(Shown, ipw.VBox):
    """Look at suspicious labels, the likeliest errors first, and keep, relabel or drop each.

    Parameters
    ----------
    errors : LabelErrors
        What `lab.find_label_errors` found; its runs must be done.
    file : path
        Where decisions are saved, and read from where it is there: one may go on on another day.

    Attributes
    ----------
    decisions : Decisions
        As they stand.

    Raises
    ------
    LabError
        If a run is not done.
    SpecError
        If the file holds decisions on other samples.
    """

    def __init__(self, errors: LabelErrors, file: str | Path = "decisions.json") -> None:
        self.errors, self.file = errors, Path(file)
        self.decisions: Decisions = errors.decisions()
        self._first = 0
        if self.file.exists():
            self.decisions = self.decisions.over(Decisions.read(self.file))
        self._build()
        super().__init__([self._panel])
        styled(self, "workbench")
        self._turn(0)

    def decide(self, sample: int, action: str, label: str = "") -> None:
        """Decide on one sample, as its buttons do."""
        self.decisions = self.decisions.decided(sample, action, label)
        self._tell()

    def save(self) -> Path | None:
        """Write the file, as the button does; None if it could not be."""
        try:
            path = self.decisions.save(self.file)
        except (LabError, OSError) as error:  # shown in place: a button's traceback would go to the log, unseen
            self._error.value = refusal(sentence(error))
            return None
        self._error.value = ""
        self._tell(saved=True)
        self.keep(now=True)
        return path

    def still(self, picture: bool = True) -> dict[str, str]:
        """What is found, how far it is decided, and the first samples."""
        cards = [self.errors.card(i) for i in range(min(SAVED, len(self.decisions)))]
        table = tabled(cards) if picture else ""
        return {"text/html": f"<p>{escape(self._standing)}</p>{table}", "text/plain": repr(self)}

    def __repr__(self) -> str:
        rows = [
            f"{one.sample:>8}  given {one.given}  suggested {one.label}  {one.action}" for one in self.decisions.each
        ]
        more = [f"and {len(rows) - PAGE} more"] if len(rows) > PAGE else []
        return "\n".join([self._standing, *rows[:PAGE], *more])

    @property
    def _standing(self) -> str:
        counts = ", ".join(f"{count} {action}" for action, count in self.decisions.counts.items())
        return f"{self.errors.sentence}. Decided: {counts}"

    def _build(self) -> None:
        self._head, self._cards, self._error, self._use = (
            ipw.HTML(),
            styled(ipw.Box(), "suspects"),
            ipw.HTML(),
            ipw.HTML(),
        )
        self._where = ipw.HTML()
        self._back = button("stop", lambda: self._turn(-PAGE), description="Back", tooltip="The samples before these")
        self._next = button("stop", lambda: self._turn(PAGE), description="Next", tooltip="The samples after these")
        page = [
            button("stop", lambda a=action: self._page(a), description=f"{action} these", tooltip=f"{action} all shown")
            for action in ACTIONS
        ]
        save = button("launch", self.save, description="Save", tooltip=f"Write {self.file}")
        actions = styled(ipw.Box([self._back, self._where, self._next, *page, save, self._error]), "actions")
        self._panel = styled(ipw.VBox([self._head, self._cards, actions, self._use]), "root", "panel")

    def _turn(self, by: int) -> None:
        """Show other samples."""
        self._first = max(0, min(self._first + by, (len(self.decisions) - 1) // PAGE * PAGE))
        shown = self.decisions.each[self._first : self._first + PAGE]
        classes = list(self.decisions.classes)
        before = self._cards.children
        self._cards.children = [
            Choice(self, one, drawn([self.errors.card(self._first + i)]), classes) for i, one in enumerate(shown)
        ]
        for widget in before:
            widget.close()
        self._back.disabled, self._next.disabled = not self._first, self._first + PAGE >= len(self.decisions)
        self._where.value = f"{self._first + 1} to {self._first + len(shown)} of {len(self.decisions)}" if shown else ""
        self._tell()

    def _page(self, action: str) -> None:
        """One decision for all samples that are shown."""
        for choice in self._cards.children:
            choice.action.value = action

    def _tell(self, saved: bool = False) -> None:
        self._head.value = f"<p>{escape(self._standing)}</p>"
        code = f'transforms=[{{"mend": {{"file": {str(self.file)!r}}}}}]'
        done = [("Saved, and applied by", f"<code>{escape(code)}</code>")] if saved else []
        self._use.value = terms("repeat", done)
        self.stale()
