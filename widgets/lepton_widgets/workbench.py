"""The workbench: form, launch, live view and the shelf of runs in one panel."""

from __future__ import annotations

import math
import time
from html import escape
from typing import Any

import ipywidgets as ipw

import lepton_lab as lab
from lepton_lab import provenance, shipping, supervisor
from lepton_lab.spec import CELL, OWN, LabError, Spec, SpecError

from .advisor import CostLine
from .form import MAIN, MORE, Form, code, describe, preview
from .frame import Shown
from .live import Live
from .shelf import Shelf

AGAIN = 0.7
"""Seconds after a launch in which the button starts no other: the second half of a double click."""


class Workbench(Shown, ipw.VBox):
    """Choose, launch, watch, steer and compare runs.

    Parameters
    ----------
    spec : Spec, optional
        What the form shows at first; the defaults otherwise.
    model : str or Module or callable, optional
        A name of MODELS, or a model of your own, as in ``lab.launch``.
    data : object, optional
        Data of your own, as in ``lab.launch``.
    loss : callable, optional
        A loss of your own, as in ``lab.launch``.
    strategy : str or type, optional
        A name of STRATEGIES, or a class of your own, as in ``lab.launch``.
    **fields
        Fields of Spec, in place of those of ``spec``.

    Attributes
    ----------
    run : Run or None
        The run launched last.
    live : Live or None
        Its view.

    Raises
    ------
    SpecError
        If a value is refused.
    """

    def __init__(
        self,
        spec: Spec | None = None,
        *,
        model: Any = None,
        data: Any = None,
        loss: Any = None,
        strategy: Any = None,
        **fields: Any,
    ) -> None:
        self.run: lab.Run | None = None
        self.live: Live | None = None
        self._shelf: Shelf | None = None
        self._launched = -math.inf
        if not isinstance(spec, Spec | None):
            raise SpecError(f"Workbench takes a Spec, not a {type(spec).__name__}: Workbench(lab.Spec(...))")
        own = {"model": model, "data": data, "loss": loss, "strategy": strategy}
        for part in ("model", "strategy"):
            if isinstance(own[part], str):
                fields[part] = own.pop(part)
        self._own = {part: value for part, value in own.items() if value is not None}
        names = {OWN[part]: CELL + shipping.name(self._own[part]) for part in OWN if part in self._own}
        chosen = (spec or Spec()).replace(**fields, **names)
        self._names = names
        self._form = Form(chosen, names, self._refresh)
        self._build()
        self._shelf = Shelf()
        self._shelf.within = self
        super().__init__([self._panel, self._slot, self._shelf])
        self.add_class("ll-workbench")
        self._refresh()
        supervisor.warm()

    @property
    def spec(self) -> Spec:
        """The spec that the form shows; assigning one changes the form.

        Raises
        ------
        SpecError
            If the form holds a value that is refused.
        """
        return self._form.read()

    @spec.setter
    def spec(self, spec: Spec) -> None:
        self._form.show(spec)

    def close(self) -> None:
        """Take the workbench away; runs go on."""
        for part in (self.live, self._shelf):
            if part is not None:
                part.close()
        self.take_away()
        super().close()

    def still(self, picture: bool = True) -> dict[str, str]:
        """What is chosen as code, the runs that it shows, and the shelf."""
        parts = [view.still(picture)["text/html"] for view in (self.live, self._shelf) if view is not None]
        return {"text/html": self._repeat.value + "".join(parts), "text/plain": repr(self)}

    def going(self) -> bool:
        """Whether a run has not ended."""
        return any(view is not None and view.going() for view in (self.live, self._shelf))

    def __repr__(self) -> str:
        try:
            chosen = self.spec.to_yaml()
        except LabError as error:
            chosen = f"{error}\n"
        return f"Workbench\n{chosen}" + (f"{self.live!r}" if self.live else "")

    def _build(self) -> None:
        controls = self._form.controls
        main = ipw.Box([controls[field] for field in MAIN])
        self._more = ipw.Box([controls[field] for field in MORE])
        for box in (main, self._more):
            box.add_class("ll-form")
        self._more.layout.display = "none"
        self._button = ipw.Button(description="Launch", tooltip="Start this run; the notebook stays free")
        self._button.add_class("ll-launch")
        self._button.on_click(lambda _: self._press())
        self._toggle = ipw.Button(description="More settings")
        self._toggle.add_class("ll-more")
        self._toggle.on_click(lambda _: self._unfold())
        self._error, self._about, self._repeat = ipw.HTML(), ipw.HTML(), ipw.HTML()
        self._cost = CostLine(self._own)
        actions = ipw.Box([self._button, self._toggle, self._cost.button, self._error])
        actions.add_class("ll-actions")
        self._panel = ipw.VBox([main, self._more, self._about, self._cost, actions, self._repeat])
        self._panel.add_class("ll-root")
        self._panel.add_class("ll-panel")
        self._slot = ipw.VBox()

    def _unfold(self) -> None:
        hidden = self._more.layout.display == "none"
        self._more.layout.display = None if hidden else "none"
        self._toggle.description = "Fewer settings" if hidden else "More settings"

    def _refresh(self) -> None:
        try:
            self._form.grey()
            spec = self.spec
            self._about.value = f"<div class='ll-about'>{describe(spec)}{preview(spec)}</div>"
            self._repeat.value = repeat(spec, self.run)
        except LabError as error:
            self._cost.show(None)
            self._refuse(error)
        else:
            self._cost.show(spec)
            self._refuse(None)

    def _refuse(self, error: Exception | None) -> None:
        text = "" if error is None else str(error) or type(error).__name__
        self._error.value = f"<div class='ll-refusal' role='alert'>{escape(text)}</div>" if text else ""
        self._form.mark({line.split("=")[0] for line in text.splitlines()})
        self._button.disabled = error is not None

    def _press(self) -> None:
        if time.monotonic() - self._launched >= AGAIN:
            self.launch()

    def launch(self) -> lab.Run | None:
        """Start a run with the form's spec, as the button does; None if it was refused."""
        try:
            spec = self.spec
            own = {part: value for part, value in self._own.items() if self._is_chosen(part, spec)}
            self.run = lab.launch(spec, **own)
        except Exception as error:  # shown in place: a button's traceback would go to the log, unseen
            self._refuse(error)
            self._button.disabled = False
            return None
        old, self.live = self.live, Live(self.run)
        self.live.within = self
        self._slot.children = [self.live]
        if old is not None:
            old.close()
        self._refresh()
        self._launched = time.monotonic()  # the end of it: a second click waits until then to be heard
        return self.run

    def _is_chosen(self, part: str, spec: Spec) -> bool:
        return part not in OWN or getattr(spec, OWN[part]) == self._names[OWN[part]]


def repeat(spec: Spec, run: lab.Run | None) -> str:
    """HTML of the code that repeats a spec without the form."""
    lines = {"Python": code(spec)}
    if spec.own:
        lines = {"Command": run.command} if run is not None else {}
    else:
        lines["Command"] = provenance.command(spec, "")
    rows = "".join(f"<div><dt>{name}</dt><dd><code>{escape(text)}</code></dd></div>" for name, text in lines.items())
    return f"<dl class='ll-repeat'>{rows}</dl>"
