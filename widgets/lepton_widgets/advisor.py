"""What the form's choice is predicted to cost, and which strategies can't do what it asks for."""

from __future__ import annotations

import re
import threading
from html import escape
from typing import Any

import ipywidgets as ipw

from lepton_lab.spec import OWN, LabError, Spec, SpecError, keywords, table

PAIR = re.compile(r"(\w+)=('[^']*'|[\w.]+)")


class CostLine(ipw.Box):
    """A line that tells what a step of a spec would cost, from when it was first asked for.

    Predicting takes torch and a second or so: it is done in a thread, and nothing is imported before.

    Parameters
    ----------
    own : dict
        The user's own model, data and loss by part, as in ``lab.launch``.

    Attributes
    ----------
    button : ipywidgets.Button
        Asks for it; gone afterwards. It stands beside others, wherever the line is.
    """

    def __init__(self, own: dict[str, Any]) -> None:
        self._own = {part: own[part] for part in ("model", "data", "loss") if part in own}
        self.button = ipw.Button(description="Predict its cost", tooltip="Memory, bytes sent and idle time of a step")
        self.button.add_class("ll-more")
        self.button.on_click(lambda _: self._ask())
        self._told = ipw.HTML()
        self._lock = threading.Lock()
        self._spec: Spec | None = None
        self._asked = self._busy = False
        super().__init__([self._told])
        self.add_class("ll-cost")

    def show(self, spec: Spec | None) -> None:
        """Tell about a spec, if it was asked for; None tells nothing."""
        with self._lock:
            self._spec = spec
            if not self._asked or self._busy:
                return
            self._busy = True
        self._told.value = "<span>Predicting \u2026</span>"
        threading.Thread(target=self._work, name="lepton-lab-cost", daemon=True).start()

    def _ask(self) -> None:
        self._asked = True
        self.button.layout.display = "none"
        self.show(self._spec)

    def _work(self) -> None:
        while True:
            spec = self._spec
            told = "" if spec is None else cost(spec, self._own)
            with self._lock:
                if spec is self._spec:  # else the form has changed meanwhile
                    self._told.value = told
                    self._busy = False
                    return


def cost(spec: Spec, own: dict[str, Any]) -> str:
    """HTML of what a step of a spec is predicted to cost."""
    from lepton_lab.advice import PARTS, advise
    from lepton_lab.strategies.work import shown

    try:
        chosen = {part: value for part, value in own.items() if part not in OWN or OWN[part] in spec.own}
        (row,) = advise(spec, [spec.world], [{"strategy": spec.strategy, "options": spec.options}], **chosen).rows
    except LabError as error:
        return f"<span>{escape(str(error))}</span>"
    if row.cost is None:
        return f"<span>{escape(row.why)}</span>"
    parts = ", ".join(f"{name} {shown(row.predicted[name])}" for name in PARTS)
    memory, sent, idle = shown(row.cost.memory), shown(row.cost.sent), f"{row.cost.idle:.0%}"
    told = f"holds {memory} a rank ({parts}), sends {sent}, idles {idle}: {row.why}."
    return f"<span><b>A step</b> {escape(told)}</span>"


def refusals(values: dict[str, Any]) -> dict[str, str]:
    """Why strategies can't do what the form asks for, by name; none where nothing could, whatever the strategy.

    Parameters
    ----------
    values : dict
        Fields of a Spec, not checked yet.
    """
    strategies = table("strategy")
    options = {name: set(keywords(kind)) for name, kind in strategies.items()}
    chosen = options.get(values["strategy"], set())
    refused = {}
    for name in strategies:
        kept = {k: v for k, v in values["options"].items() if k not in chosen or k in options[name]}
        try:
            Spec(**{**values, "strategy": name, "options": kept}).check_strategy()
        except SpecError as error:
            refused[name] = str(error)
    return {} if len(refused) == len(strategies) else refused


def brief(refusal: str) -> str:
    """What stands in a strategy's way, in a few words: "model cnn"."""
    pairs = [(field, value) for field, value in PAIR.findall(refusal) if field not in ("strategy", "options")]
    return " ".join((pairs[0][0], pairs[0][1].strip("'"))) if pairs else "these options"
