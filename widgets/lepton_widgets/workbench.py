"""The workbench: form, launch, live view and the shelf of runs in one panel."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import ipywidgets as ipw

import lepton_lab as lab
from lepton_lab.errors import LabError, SpecError
from lepton_lab.launchers import HERE, Launcher, asked, devices, local, texts
from lepton_lab.run.own import Own
from lepton_lab.spec import CELL, OWN, Spec
from lepton_lab.store import provenance
from lepton_lab.values import called

from .about import code, describe, preview
from .advisor import Advisor, chosen
from .form import MAIN, MORE, Form
from .frame import Shown
from .live import Live
from .pieces import button, refusal, sentence, styled, terms
from .places import in_code
from .shelf import Shelf
from .stack import Stack

AGAIN = 0.7
"""Seconds after a launch in which the button starts no other: the second half of a double click."""


class Workbench(Shown, ipw.VBox):
    """Choose, launch, watch, steer and compare runs.

    Several values in a field, such as ``1e-4, 1e-3`` as the learning rate, launch a run for each, overlaid in one view.
    A view stays at least until its run has ended; what goes on under this home is shown from the start.

    Parameters
    ----------
    spec : Spec, optional
        What the form shows at first; otherwise the defaults, with ``precision="auto"`` where this machine computes in
        bfloat16, so that the first steps tell whether that is faster.
    model : str or Module or callable, optional
        A name of MODELS, or a model of your own, as in ``lab.launch``.
    data : object, optional
        Data of your own, as in ``lab.launch``.
    loss : callable, optional
        A loss of your own, as in ``lab.launch``.
    strategy : str or type, optional
        A name of STRATEGIES, or a class of your own, as in ``lab.launch``.
    task : str or type, optional
        A name of TASKS, or a class of your own, as in ``lab.launch``.
    collate, hooks : optional
        As in ``lab.launch``.
    metrics : list of str or dict, optional
        Names of METRICS, or metrics of your own, as in ``lab.launch``.
    on : str or launcher
        Where runs go at first: "local", or such as ``lab.Torchrun(nodes=2)``.
    **fields
        Fields of Spec, in place of those of ``spec``.

    Attributes
    ----------
    runs : list of Run
        Those launched last.
    run : Run or None
        The last of them.
    live : Live or None
        Their view.

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
        task: Any = None,
        collate: Any = None,
        hooks: Any = None,
        metrics: Any = None,
        on: Any = "local",
        **fields: Any,
    ) -> None:
        self.runs: list[lab.Run] = []
        self.live: Live | None = None
        self._shelf: Shelf | None = None
        self._launched = -math.inf
        if not isinstance(spec, Spec | None):
            raise SpecError(f"Workbench takes a Spec, not a {type(spec).__name__}: Workbench(lab.Spec(...))")
        own = {"model": model, "data": data, "loss": loss, "strategy": strategy, "task": task, "collate": collate}
        own |= {"hooks": hooks, "metrics": metrics}
        for part in ("model", "strategy", "task"):
            if isinstance(own[part], str):
                fields[part] = own.pop(part)
        if not isinstance(metrics, Mapping | None):
            fields["metrics"] = own.pop("metrics")
        self._own = {part: value for part, value in own.items() if value is not None}
        names = {OWN[part]: CELL + called(self._own[part]) for part in OWN if part in self._own}
        if spec is None and task is None and strategy is None and devices.bf16_may_win():
            fields = {"precision": "auto", **fields}
        first = (spec or Spec()).replace(**fields, **names)
        self._preview = ""
        self._ready = False  # the form tells of its first values before there is anything to show them in
        self._form = Form(first, names, self._refresh, Own(**self._own), asked(on))
        self._build()
        self._shelf = Shelf()
        self._shelf.within = self
        super().__init__([self._panel, self._slot, self._shelf])
        styled(self, "workbench")
        self._ready = True
        self._refresh()
        self._slot.find()
        local.warm()

    @property
    def run(self) -> lab.Run | None:
        """The run launched last."""
        return self.runs[-1] if self.runs else None

    @property
    def specs(self) -> list[Spec]:
        """The specs that the form shows, one for each combination of several values in its fields.

        Raises
        ------
        SpecError
            If the form holds a value that is refused.
        """
        return self._form.read()

    @property
    def on(self) -> Launcher:
        """Where runs go, as the form shows it.

        Raises
        ------
        SpecError
            If a setting is refused.
        """
        return self._form.place.read()

    @property
    def spec(self) -> Spec:
        """The spec that the form shows; assigning one changes the form.

        Raises
        ------
        SpecError
            If the form holds a value that is refused.
        LabError
            If it shows several.
        """
        spec, *others = self._form.read()
        if others:
            raise LabError(f"the form shows {1 + len(others)} specs, since a field has several values: see `specs`")
        return spec

    @spec.setter
    def spec(self, spec: Spec) -> None:
        self._form.show(spec)

    def close(self) -> None:
        """Take the workbench away; runs go on."""
        if self._shelf is not None:  # else it was refused
            self._shelf.close()
            self._slot.close()
        self.take_away()
        super().close()

    def still(self, picture: bool = True) -> dict[str, str]:
        """What is chosen as code, the runs that it shows, and the shelf."""
        parts = [view.still(picture)["text/html"] for view in (*self._slot.children, self._shelf)]
        return {"text/html": self._repeat.value + "".join(parts), "text/plain": repr(self)}

    def going(self) -> bool:
        """Whether a run has not ended."""
        return any(view.going() for view in (*self._slot.children, self._shelf))

    def __repr__(self) -> str:
        try:
            specs = "---\n".join(spec.to_yaml() for spec in self.specs)
        except LabError as error:
            specs = f"{error}\n"
        return f"Workbench\n{specs}" + (f"{self.live!r}" if self.live else "")

    def _build(self) -> None:
        controls = self._form.controls
        main = styled(ipw.Box([*(controls[field] for field in MAIN), self._form.place]), "form")
        more = styled(ipw.Box([controls[field] for field in MORE if field != "options"]), "form")
        self._more = styled(ipw.VBox([controls["options"], more]), "rest")
        self._more.layout.display = "none"
        tooltip = "Start this run; the notebook stays free"
        self._button = button("launch", self._press, description="Launch", tooltip=tooltip)
        self._toggle = button("more", self._unfold, description="More settings")
        self._error, self._about, self._seen, self._repeat = ipw.HTML(), ipw.HTML(), ipw.HTML(), ipw.HTML()
        self._advisor = Advisor(self._own, lambda why: self._refuse(SpecError(why)))
        actions = styled(ipw.Box([self._button, self._toggle, self._advisor.button, self._error]), "actions")
        panel = ipw.VBox([main, self._more, self._about, self._seen, self._advisor, actions, self._repeat])
        self._panel = styled(panel, "root", "panel")
        self._slot = Stack(self)

    def _unfold(self) -> None:
        hidden = self._folded
        self._more.layout.display = None if hidden else "none"
        self._toggle.description = "Fewer settings" if hidden else "More settings"

    @property
    def _folded(self) -> bool:
        return self._more.layout.display == "none"

    def _refresh(self) -> None:
        if not self._ready:
            return
        try:
            self._form.grey()
            specs = self.specs
            spec = specs[0]
            self._describe(spec)
            self._repeat.value = repeat(specs, self.run, self._called(spec), self.on)
            self._button.description = "Launch" if len(specs) == 1 else f"Launch {len(specs)} runs"
        except LabError as error:
            self._advisor.show(None)
            self._repeat.value = ""
            with contextlib.suppress(LabError):
                self._describe()
            self._refuse(error)
        else:
            why = self._advisor.known(spec)
            self._refuse(SpecError(why) if why else None)
            self._advisor.show(spec)

    def _describe(self, spec: Spec | None = None) -> None:
        """Say what is chosen, beside the rate of the spec that was possible last."""
        if spec is not None:
            self._preview = preview(spec)
        self._seen.value = self._form.seen
        about = describe(self._form.chosen, self._form.place.rows)
        self._about.value = f"<div class='ll-about'>{about}{self._preview}</div>"

    def _refuse(self, error: Exception | None) -> None:
        """Say at the button why the form can't be launched, and mark the fields that it is about."""
        text = "" if error is None else sentence(error)
        self._error.value = refusal(text)
        if self._form.mark(text) & set(MORE) and self._folded:
            self._unfold()
        self._button.disabled = error is not None

    def _press(self) -> None:
        if time.monotonic() - self._launched >= AGAIN:
            self.launch()

    def launch(self) -> lab.Run | None:
        """Start the runs of the form's specs, as the button does; the last of them, or None if one was refused."""
        try:
            specs = self.specs
            if why := self._advisor.known(specs[0]):
                raise SpecError(why)
            self.runs = lab.launch(specs, on=self.on, **chosen(specs[0], self._own))
        except Exception as error:  # shown in place: a button's traceback would go to the log, unseen
            self._refuse(error)
            self._button.disabled = isinstance(error, SpecError)  # what else it is may pass
            return None
        self.live = self._slot.show(*self.runs)
        self._refresh()
        self._launched = time.monotonic()  # the end of it: a second click waits until then to be heard
        return self.run

    def _called(self, spec: Spec) -> dict[str, str]:
        """What the user's own may be called in code: classes and functions by their names, all else by its part."""
        return {part: getattr(value, "__name__", part) for part, value in chosen(spec, self._own).items()}


def repeat(specs: Sequence[Spec], run: lab.Run | None, own: dict[str, str], on: Launcher) -> str:
    """HTML of the code that repeats specs without the form."""
    lines = {"Python": code(*specs, own=own, on="" if on == HERE else in_code(on))}
    if not own and len(specs) == 1:
        lines["Command"] = provenance.command(specs[0], "", texts.text(on))
    elif own and run is not None:
        lines["Command"] = run.command
    return terms("repeat", ((name, f"<code>{escape(text)}</code>") for name, text in lines.items()))
