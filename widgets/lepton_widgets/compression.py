"""The form of a compression: a choice for each link, what it would save at once, and beside it what it did save."""

from __future__ import annotations

import contextlib
import itertools
import threading
from html import escape
from typing import Any, NamedTuple

import ipywidgets as ipw

import lepton_lab as lab
from lepton_lab.compressors.base import Knob
from lepton_lab.errors import LabError
from lepton_lab.measures import judged
from lepton_lab.metrics import MEASURED, METRICS
from lepton_lab.run.estimates import Estimate, label, measured, shown
from lepton_lab.section import in_html
from lepton_lab.store.folder import ENDED
from lepton_lab.tables import keywords, table

from .about import meaning
from .frame import Shown
from .live import Live
from .newest import Newest
from .pieces import button, refusal, sentence, styled, terms
from .ranges import Range
from .stack import Stack

POLL = 0.3
"""Seconds between looks for what a run measured."""
HEADS = ("", "dense", "estimate", "measured", "error")
NOTE = "Estimates run nothing: parameters and multiply-adds are counted, and latency is a prediction, of one thread."


class Control(NamedTuple):
    """An option of a compressor, and the widget that holds its value."""

    knob: Knob
    widget: ipw.Widget

    @classmethod
    def of(cls, knob: Knob) -> Control:
        """A slider of a fraction, a list of names, or a box to tick."""
        common = {"description": knob.title, "tooltip": knob.about}
        if knob.high:
            return cls(knob, Range(**common))
        if not knob.choices:
            return cls(knob, ipw.Checkbox(indent=False, **common))
        choices = [(words, name) for name, words in knob.choices.items()]
        return cls(knob, ipw.Dropdown(options=[(knob.without, ""), *choices] if knob.without else choices, **common))

    @property
    def value(self) -> Any:
        """What is chosen; 0, "" or False is to do without."""
        return round(self.widget.value, 4) if self.knob.high else self.widget.value

    def show(self, value: Any) -> None:
        """Choose a value, unless it is none of the list."""
        if not self.knob.choices or value in self.knob.choices:
            self.widget.value = value


class Compression(Shown, ipw.VBox):
    """Choose a chain for a run's model, see at once what it would save, run it, and see what it did save.

    Parameters
    ----------
    run : Run or str
        The parent, or its id.
    chain : list, optional
        What the controls show at first, as ``lab.compress`` takes it: links of compressors that have a ``knob``.
    **changes
        Fields of the spec to change, as for ``lab.compress``.

    Attributes
    ----------
    run : Run or None
        The run launched last.
    live : Live or None
        Its view.
    estimate : Estimate or None
        Of the chain that the controls show, once it is known.

    Raises
    ------
    SpecError, LabError
        If the chain is refused, or the run has no model yet.
    """

    def __init__(self, run: lab.Run | str, chain: Any = (("prune", 0.5), ("quantize", "int8")), **changes: Any) -> None:
        self._closed = threading.Event()  # first of all, since an object that is refused is closed too
        self.live: Live | None = None
        self._slot: Stack | None = None
        self.parent = lab.attach(run)
        self.run: lab.Run | None = None
        self.estimate: Estimate | None = None
        self._changes = changes
        self._dense: dict[str, float] = {}
        self._newest: Newest[list[dict[str, Any]], Estimate] = Newest(
            lambda chain: lab.estimate(self.parent, chain or (), **self._changes),
            self._estimated,
            "lepton-lab-estimate",
        )
        self._build()
        self._show_chain(lab.estimate(self.parent, chain, **changes).chain)
        for control in itertools.chain(*self._controls.values()):
            control.widget.observe(lambda _: self._refresh(), names="value")
        super().__init__([self._panel, self._slot])
        styled(self, "workbench")
        self._refresh(wait=True)

    @property
    def chain(self) -> list[dict[str, Any]]:
        """The chain that the controls show."""
        chain: list[dict[str, Any]] = []
        for name, (main, *others) in self._controls.items():
            if main.value:
                options = {main.knob.option: main.value} if main.knob.option else {}
                usual = _defaults(name)
                changed = (other for other in others if other.value != usual[other.knob.option])
                chain.append({name: options | {other.knob.option: other.value for other in changed}})
        return chain

    def close(self) -> None:
        """Take the form away; runs go on."""
        self._closed.set()
        if self._slot is not None:  # else it was refused
            self._slot.close()
        self.take_away()
        super().close()

    def launch(self) -> lab.Run | None:
        """Start the run that the controls show, as the button does; None if it was refused."""
        try:
            if not self.chain:
                raise lab.SpecError("chain: holds nothing yet: move a slider, or choose another arithmetic")
            self.run = lab.compress(self.parent, self.chain, **self._changes)
        except Exception as error:  # shown in place: a button's traceback would go to the log, unseen
            self._refuse(error)
            return None
        self.live = self._slot.show(self.run)
        threading.Thread(target=self._follow, args=(self.run,), name="lepton-lab-compression", daemon=True).start()
        return self.run

    def still(self, picture: bool = True) -> dict[str, str]:
        """What the chain saves, estimated and measured, and the run."""
        run = self.live.still(picture)["text/html"] if self.live else ""
        return {"text/html": self._figures.value + run, "text/plain": repr(self)}

    def going(self) -> bool:
        """Whether its run has not ended."""
        return self.live is not None and self.live.going()

    def __repr__(self) -> str:
        lines = [list(HEADS), *self._rows()]
        rows = "\n".join("  ".join(f"{cell:<16}" for cell in line).rstrip() for line in lines)
        return f"Compression of {self.parent.id}: {self.chain}\n{rows}\n{NOTE}"

    def _build(self) -> None:
        knobs = {name: compressor.knob for name, compressor in table("compressor").items() if compressor.knob}
        self._controls = {
            name: [Control.of(each) for each in (knob, knob.beside) if each] for name, knob in knobs.items()
        }
        controls = [control.widget for control in itertools.chain(*self._controls.values())]
        form = styled(ipw.Box(controls), "form", "chain")
        tooltip = "Start this compression; the notebook stays free"
        self._button = button("launch", self.launch, description="Launch", tooltip=tooltip)
        self._error, self._about, self._figures, self._repeat = ipw.HTML(), ipw.HTML(), ipw.HTML(), ipw.HTML()
        actions = styled(ipw.Box([self._button, self._error]), "actions")
        self._panel = styled(ipw.VBox([form, self._about, self._figures, actions, self._repeat]), "root", "panel")
        self._slot = Stack(self)

    def _show_chain(self, chain: list[dict[str, Any]]) -> None:
        """Set the controls to a chain, refused where they can't show it."""
        for link in chain:
            for name, options in link.items():
                values = _defaults(name) | options
                for control in self._controls.get(name, ()):
                    control.show(values.get(control.knob.option, True))
        if [*map(_complete, self.chain)] != [*map(_complete, chain)]:
            raise lab.SpecError(f"chain={chain!r}: has more than this form shows; lab.compress(run, chain) takes it")

    def _refresh(self, wait: bool = False) -> None:
        """Estimate what the controls show; nothing waits for it unless asked to."""
        self._newest.ask(self.chain, wait)

    def _estimated(self, estimate: Estimate | None, error: Exception | None) -> None:
        """Show what the newest chain saves, or why it is refused."""
        self.estimate = estimate
        self._refuse(error)
        self._button.disabled = error is not None
        self._tell()

    def _follow(self, run: lab.Run) -> None:
        """Show what a run measured, once it has ended."""
        while not self._closed.is_set() and run.wait(POLL) not in ENDED:
            pass
        if not self._closed.is_set() and run is self.run:
            self._tell()
            self.keep(now=True)

    def _tell(self) -> None:
        with contextlib.suppress(LabError):
            self._figures.value = self._table()
            names = enumerate((name for link in self.chain for name in link), 1)
            links = ((f"Link {i}", meaning(name, table("compressor")[name])) for i, name in names)
            self._about.value = terms("choices", links)
            code = f"lab.compress(lab.attach({self.parent.id!r}), {self.chain!r})"
            self._repeat.value = terms("repeat", [("Python", f"<code>{escape(code)}</code>")])

    def _rows(self) -> list[list[str]]:
        """Lines of the table: figure, dense, estimate (and how many times less), measured, error."""
        guess = self.estimate
        if guess is None:  # refused: what it is compared with stays
            return [[label(name), shown(name, value), "–", "–", "–"] for name, value in self._dense.items()]
        figures = measured(self.run) if self.run is not None and self.run.spec.compress == guess.chain else {}
        made = figures.get("artifact") or {}
        errors = guess.errors(made) if made else {}
        self._dense = dense = (guess.dense or guess).figures()
        lines = []
        for name, value in guess.figures().items():
            actual = made.get(name)
            if made and name.startswith("latency "):
                actual = (made["latency"].get(name.removeprefix("latency ")) or {}).get("median")
            cells = [label(name), shown(name, dense[name]), f"{shown(name, value)} ({_times(dense[name] / value)})"]
            lines.append([*cells, shown(name, actual), f"{errors[name]:+.1%}" if name in errors else "–"])
        metric = made.get("metric") or MEASURED
        if figure := judged(made, metric):
            lines.append([METRICS[metric].word(), judged(figures["dense"], metric) or "–", "–", figure, "–"])
        return lines

    def _table(self) -> str:
        region = "<div class='ll-scroll' tabindex='0' role='region' aria-label='Estimate beside what was measured'>"
        return f"{region}{in_html(HEADS, self._rows(), 'll-table')}</div><small>{escape(NOTE)}</small>"

    def _refuse(self, error: Exception | None) -> None:
        self._error.value = refusal("" if error is None else sentence(error))


def _defaults(name: str) -> dict[str, Any]:
    """Values of a compressor's options that hold where none are given."""
    return {option: rule.default for option, rule in keywords(table("compressor")[name]).items()}


def _complete(link: dict[str, Any]) -> dict[str, Any]:
    """A link with the values of all its options."""
    return {name: _defaults(name) | options for name, options in link.items()}


def _times(less: float) -> str:
    """How a figure compares with what it was, in words."""
    return "as before" if f"{less:.2f}" == "1.00" else f"{less:.3g}x less" if less > 1 else f"{1 / less:.3g}x more"
