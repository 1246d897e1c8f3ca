"""The live view of one or several runs: curves, progress, ranks and controls."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

import anywidget
import traitlets

from lepton_lab.errors import SpecError, unknown
from lepton_lab.metrics import joined
from lepton_lab.run.handle import Run
from lepton_lab.run.predictions import Predictions
from lepton_lab.store.folder import ENDED

from . import answers
from .curves import OWN, described
from .feed import Feed
from .frame import Shown, static
from .media import Files
from .pieces import sentence
from .stills import pictures, still

TICK = 0.05
"""Seconds between two looks at the run folders."""
HEAD_EVERY = 0.2
"""Least seconds between two updates of the figures; the curves come every tick."""
CATCH_UP = (0.3, 1.0, 3.0, 10.0)
"""Seconds after a page asked for the curves at which what followed is sent again: messages that came
while the page was still loading are lost, and a busy kernel could not answer if the page asked."""
FIRST = 0.25
"""Longest wait for the curves, in seconds, before the view is shown."""
MOST = 4
"""Charts that are drawn before someone chooses, of metrics that were asked for too."""
_CHOSEN: dict[str, list[str] | None] = {}  # by id of a run, what was chosen in its last view
COMMANDS = ("pause", "resume", "stop", "set")

log = logging.getLogger(__name__)


class Live(Shown, anywidget.AnyWidget):
    """Curves, progress, ranks and controls of runs, drawn while they train.

    A thread of its own tails the run folders, so the view moves on while cells run, and it never
    raises into the kernel. The buttons control the first run, until another is chosen.

    Parameters
    ----------
    *runs : Run
        Several are overlaid, each in its own colour.
    smoothing : float
        Weight of the past in the exponential mean drawn over the training curve, in [0, 1).
    log_scale : bool
        Loss on a logarithmic axis.
    by_rank : bool
        One training curve a rank in place of the mean over ranks.
    steered : int
        Place of the run that the buttons control, from 0.
    metrics : list of str, optional
        Of what it draws charts, until others are chosen in it: metrics of the runs, or numbers that their code logs.
        Without it the loss and what tells most at the runs' task, what was asked for by name, and two logged numbers.
        What is chosen in a view is so in the next one of the same run.

    Raises
    ------
    SpecError
        If it is given no runs, or a metric that none of them has.
    """

    _esm = static(
        "base.js", "chooser.js", "chart.js", "store.js", "lines.js", "tables.js", "panes.js", "own.js", "live.js"
    )
    _css = static("lepton.css")

    header = traitlets.Dict().tag(sync=True, to_json=lambda _, live: {"runs": live._feed.heads()})
    snapshot = traitlets.Bytes().tag(sync=True, to_json=lambda _, live: live._snapshot())
    smoothing = traitlets.Float(0.6, min=0.0, max=0.99).tag(sync=True)
    log_scale = traitlets.Bool(False).tag(sync=True)
    by_rank = traitlets.Bool(False).tag(sync=True)
    steered = traitlets.Int(0, min=0).tag(sync=True)
    metrics = traitlets.Dict().tag(sync=True)
    charts = traitlets.List(traitlets.Unicode(), default_value=None, allow_none=True).tag(sync=True)

    def __init__(self, *runs: Any, metrics: Sequence[str] | None = None, **options: Any) -> None:
        self._closed = threading.Event()  # first of all, since an object that is refused is closed too
        self._thread: threading.Thread | None = None
        if not runs:
            raise SpecError("Live() needs at least one run, for example Live(lab.attach())")
        if wrong := [type(run).__name__ for run in runs if not isinstance(run, Run)]:
            raise SpecError(f"Live takes runs, not a {wrong[0]}: Live(lab.attach())")
        self.runs = list(runs)
        self._feed = Feed(self.runs)
        self._files = Files(self.runs)
        self._metrics = joined(run.metrics for run in self.runs)
        self._told = False  # whether all runs have said which metrics they have
        self._again: list[tuple[float, list]] = []
        self._head_due = 0.0
        self._sent_heads: list[dict[str, Any]] = []
        self._phase: Any = None
        self._pictured: tuple[list[tuple[int, int]], str] = [], ""  # what of the curves a picture was made of, and it
        # A long run takes a while to read: the cell waits only for a short one, the view gets the rest as it comes.
        first = threading.Thread(target=self._feed.poll, name="lepton-live-first", daemon=True)
        first.start()
        first.join(FIRST)
        chosen = _CHOSEN.get(self.runs[0].id) if metrics is None else self._charted(metrics)
        super().__init__(metrics=self._described(), charts=chosen, **options)
        self.observe(self._choose, names="charts")
        self.on_msg(self._on_message)
        self._watch()

    def close(self) -> None:
        """Take the view away and end its thread; the runs go on."""
        self._closed.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=2.0)
        self.take_away()
        super().close()

    def __repr__(self) -> str:
        return "\n".join(f"Live: {line}" for line in self._feed.lines())

    def still(self, picture: bool = True) -> dict[str, str]:
        """The runs as a picture and words."""
        heads = self._feed.heads()
        names = [head["label"] for head in heads]
        points = self._feed.points()
        if picture and points != self._pictured[0]:
            wanted = self.metrics["shown"] if self.charts is None else self.charts
            drawn = {name: metric for name, metric in self._metrics.items() if name in wanted}
            self._pictured = points, pictures(self._feed.learning(), names, drawn)
        shown = self._pictured[1] if picture else ""
        return {"text/html": still(heads, shown, self._metrics), "text/plain": repr(self)}

    def going(self) -> bool:
        """Whether a run has not ended."""
        return any(run.state not in ENDED for run in self.runs)

    def _described(self) -> dict[str, Any]:
        """What a page must know of the metrics that the runs have said by now to have."""
        # The metrics are read last: a run may say what it has in between, and no chart is shown that they don't know.
        self._told = all("metrics" in run.facts for run in self.runs)
        shown = dict.fromkeys(name for run in self.runs for name in run.charts)
        asked = [name for run in self.runs for name in run.asked]
        self._metrics = joined(run.metrics for run in self.runs)
        return described(self._metrics, [*dict.fromkeys([*shown, *asked])][: max(MOST, len(shown))])

    def _charted(self, names: Sequence[str]) -> list[str]:
        """Names of charts; of runs that have not ended a number may yet be logged."""
        logged = {name for story in self._feed.stories for name, _ in story.logged}
        known = [*self._metrics, *logged]
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise SpecError(f"metrics={names!r}: must be a list of names")
        if not self.going() and (strange := [name for name in names if name not in known]):
            raise SpecError(f"metrics={strange[0]!r}: {unknown('metric', strange[0], known, 'of these runs')}")
        return [name if name in self._metrics else f"{OWN}{name}" for name in dict.fromkeys(names)]

    def _choose(self, change: Any) -> None:
        for run in self.runs:
            _CHOSEN[run.id] = change["new"]
        self.stale()

    def _snapshot(self) -> bytes:
        block, marks = self._feed.snapshot()
        now = time.monotonic()
        self._again = [(now + delay, marks) for delay in CATCH_UP]
        return block

    def _watch(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._follow, name="lepton-live", daemon=True)
            self._thread.start()

    def _follow(self) -> None:
        while not self._closed.is_set():
            try:
                alive = self._feed.poll()
                self._send_news(final=not alive)
                self._keep_still(alive)
                if not alive and not self._again:
                    return
            except Exception:  # a view never fails a run, nor the kernel
                log.exception("the live view could not be updated")
                self._closed.wait(1.0)
            self._closed.wait(TICK)

    def _keep_still(self, alive: bool) -> None:
        phase = alive, [head["state"] for head in self._sent_heads]
        begun, self._phase = phase != self._phase, phase
        self.keep(now=begun)

    def _send_news(self, final: bool = False) -> None:
        now = time.monotonic()
        if self._again and self._again[0][0] <= now:
            self._feed.go_back(self._again.pop(0)[1])
        block = self._feed.delta()
        message: dict[str, Any] = {"type": "delta"}
        if now >= self._head_due or final:
            heads = self._feed.heads()
            if not self._told and (about := self._described()) != self.metrics:
                self.metrics = about
            if heads != self._sent_heads:
                message["runs"] = self._sent_heads = heads
                self._head_due = now + HEAD_EVERY
        if block or "runs" in message:
            self.send(message, [block] if block else None)
        for run, names, bodies in self._files.newest(message.get("runs", [])):
            self.send({"type": "media", "run": run, "files": names}, bodies)

    def _on_message(self, _: Any, content: dict[str, Any], buffers: Any) -> None:
        if content.get("type") == "reset":
            self._feed.go_back([{} for _ in self.runs])
            self._sent_heads = []
            self._send_news(final=True)
        elif content.get("type") == "media":
            run, names, bodies = self._files.asked(content.get("run"), content.get("files", []))
            self.send({"type": "media", "run": run, "files": names}, bodies)
        elif content.get("command") in COMMANDS:
            run = next((run for run in self.runs if run.id == content.get("run")), self.runs[0])
            self._obey(run, content["command"], content.get("values", {}))

    def _obey(self, run: Any, command: str, values: dict[str, Any]) -> None:
        try:
            getattr(run, command)(**values)
            self.send({"type": "ack", "command": command})
        except Exception as error:
            self.send({"type": "refused", "command": command, "text": sentence(error)})
        self._watch()  # a stopped run that resumes is to be followed again


def bundle(what: Run | Predictions) -> None:
    """Show a run, or its predictions, below the cell that runs (entry point of group ``lepton_lab.view``)."""
    if isinstance(what, Predictions):
        answers.show(what)
    else:
        Live(what)._ipython_display_()
