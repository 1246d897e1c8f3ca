"""What the form's choice is predicted to cost, and what of it can't be done."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets as ipw

from lepton_lab import runs
from lepton_lab.errors import LabError, SpecError
from lepton_lab.run.checks import shares
from lepton_lab.run.own import Own
from lepton_lab.spec import OWN, Spec
from lepton_lab.tables import entry_options, table

from .pieces import button, sentence, styled, terms

PAIR = re.compile(r"(\w+)=('[^']*'|[\w.]+)")
CHECKED = ("dataset", "model", "optimizer", "precision", "options")
"""Fields on which it depends whether a model of the user's own takes a step."""
ALIKE = ("dataset", "model", "optimizer", "batch_size", "precision", "compile", "strategy", "world", "options")
"""Fields on which it depends how long an epoch takes."""
LOOKED_AT = 200
"""Runs, the newest, among which one alike is looked for."""


class Advisor(ipw.Box):
    """Says what a step of a spec would cost, once asked, and at once where the user's own code would fail in it.

    Both take torch and a second or so: they are done in a thread, and nothing is imported before.

    Parameters
    ----------
    own : dict
        The user's own model, data and loss by part, as in ``lab.launch``.
    refuse : callable
        Called with a sentence, from the thread, when the spec shown last turns out to be one that must fail.

    Attributes
    ----------
    button : ipywidgets.Button
        Asks for the cost, or puts it away. It stands beside others, wherever the line is.
    """

    def __init__(self, own: dict[str, Any], refuse: Callable[[str], None]) -> None:
        self._own = {part: own[part] for part in ("model", "data", "loss", "task", "collate") if part in own}
        self._refuse = refuse
        self.button = button("more", self._ask, tooltip="Memory, bytes sent, idle time and duration")
        self._line = ipw.HTML()
        self._lock = threading.Lock()
        self._spec: Spec | None = None
        self._known: dict[str, str] = {}
        self._asked = True
        self._busy = False
        super().__init__([self._line])
        styled(self, "cost")
        self._ask()

    def show(self, spec: Spec | None) -> None:
        """Advise on a spec; None says nothing."""
        with self._lock:
            self._spec = spec
            checks = spec is not None and self.known(spec) is None
            if (not self._asked and not checks) or self._busy:
                return
            self._busy = True
        if self._asked:
            self._line.value = "<span>Predicting \u2026</span>"
        threading.Thread(target=self._work, name="lepton-lab-advice", daemon=True).start()

    def known(self, spec: Spec) -> str | None:
        """Why a spec must fail, "" where nothing is known against it, None where that is to be found out."""
        if not chosen(spec, self._own):
            return ""
        return self._known.get(_key(spec))

    def _ask(self) -> None:
        self._asked = not self._asked
        self.button.description = "Hide its cost" if self._asked else "Predict its cost"
        if self._asked:
            self.show(self._spec)
        else:
            self._line.value = ""

    def _work(self) -> None:
        while True:
            spec, asked = self._spec, self._asked
            line, why = self._advise(spec, asked)
            with self._lock:
                if spec is not self._spec or asked != self._asked:  # the form has changed meanwhile
                    continue
                self._busy = False
                self._line.value = line
                if why:
                    self._refuse(why)
                return

    def _advise(self, spec: Spec | None, asked: bool) -> tuple[str, str]:
        """HTML of the cost, and why the spec must fail; whatever goes wrong ends in a sentence."""
        if spec is None:
            return "", ""
        try:
            if self.known(spec) is None:
                self._known[_key(spec)] = fault(spec, self._own)
            why = self.known(spec) or ""
            return cost(spec, self._own) if asked and not why else "", why
        except Exception as error:
            return f"<span>{escape(sentence(error))}</span>", ""


def _key(spec: Spec) -> str:
    return repr([getattr(spec, field) for field in CHECKED])


def chosen(spec: Spec, own: dict[str, Any]) -> dict[str, Any]:
    """What a spec uses of the user's own, by part, as in ``lab.launch``; a loss always, a collate with its data."""
    fields = {**OWN, "collate": OWN["data"]}
    return {part: value for part, value in own.items() if part not in fields or fields[part] in spec.own}


def fault(spec: Spec, own: dict[str, Any]) -> str:
    """Why a spec with the user's own model, data or loss would fail in its first step; "" where it would not."""
    from lepton_lab.studies.advice import rehearsed
    from lepton_lab.studies.advice.rehearsal import Unknown

    try:
        rehearsed(spec, Own(**chosen(spec, own)))
    except Unknown:
        return ""
    except SpecError as error:
        return str(error)
    return ""


def cost(spec: Spec, own: dict[str, Any]) -> str:
    """HTML of what a step of a spec is predicted to cost."""
    from lepton_lab.strategies.work import shown
    from lepton_lab.studies.advice import PARTS, advise

    try:
        candidate = {"strategy": spec.strategy, "options": spec.options}
        (row,) = advise(spec, [spec.world], [candidate], **chosen(spec, own)).rows
    except LabError as error:
        return f"<span>{escape(str(error))}</span>"
    if row.cost is None:
        return f"<span>{escape(row.why)}</span>"
    parts = ", ".join(f"{name} {shown(row.predicted[name])}" for name in PARTS)
    seconds, source = duration(spec)
    figures = {
        "Memory a rank": shown(row.cost.memory),
        "Sent a step": shown(row.cost.sent),
        "Idle": f"{row.cost.idle:.0%}",
        "The run": f"about {seconds:.2g} s" if seconds else "not known",
    }
    shown_figures = terms("figures", ((name, escape(text)) for name, text in figures.items()))
    return f"{shown_figures}<span>{escape(f'{parts}: {row.why}. Duration: {source}.')}</span>"


def duration(spec: Spec) -> tuple[float, str]:
    """Seconds that a run of a spec may take, and the newest run like it, by which they are judged; 0 where none was."""
    for run in runs()[:LOOKED_AT]:
        if all(getattr(run.spec, field) == getattr(spec, field) for field in ALIKE) and run.state == "done":
            return run.summary()["seconds"] * spec.epochs / run.spec.epochs, f"as {run.spec.name or run.id} took"
    return 0.0, "none like it has run"


def refusals(values: dict[str, Any], own: Own) -> dict[str, str]:
    """Why strategies can't do what the form asks for, by name; none where nothing could, whatever the strategy.

    Parameters
    ----------
    values : dict
        Fields of a Spec, not checked yet.
    own : Own
        What the user brings.
    """
    strategies = table("strategy")
    current = entry_options("strategy", values["strategy"])
    refused = {}
    for name in strategies:
        unknown = current.keys() - entry_options("strategy", name)
        options = {option: value for option, value in values["options"].items() if option not in unknown}
        try:
            shares(Spec(**{**values, "strategy": name, "options": options}), own)
        except SpecError as error:
            refused[name] = str(error)
    return {} if len(refused) == len(strategies) else refused


def brief(refusal: str) -> str:
    """What stands in a strategy's way, in a few words: "model cnn"."""
    pairs = [(field, value) for field, value in PAIR.findall(refusal) if field not in ("strategy", "options")]
    return " ".join((pairs[0][0], pairs[0][1].strip("'"))) if pairs else "these options"
