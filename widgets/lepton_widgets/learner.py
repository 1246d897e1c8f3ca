"""A playground of one small run: move a slider, and see the curve that it changes beside those before."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

import lepton_lab as lab
from lepton_lab.errors import LabError, SpecError
from lepton_lab.launchers import local
from lepton_lab.metrics import Figure, main
from lepton_lab.section import in_html
from lepton_lab.spec import Spec
from lepton_lab.store.folder import ENDED
from lepton_lab.tables import pick

from .about import code
from .curves import Key, Mark, described, pack, passes
from .frame import Shown, static
from .knobs import START, Knobs
from .live import CATCH_UP, TICK
from .pieces import sentence
from .sketches import PATIENCE, Sketch, adopt, labels, tidy, worded

if TYPE_CHECKING:
    from lepton_lab.charts import Chart

SHOWN = 6
"""Curves side by side; the runs of older ones are removed."""
DEBOUNCE = 0.1
"""Seconds for which a slider must rest before its run begins."""

JUDGE = Figure(main(), "val")

log = logging.getLogger(__name__)


class Learner(Shown, anywidget.AnyWidget):
    """One small run and a slider for each of its fields: a moved slider draws the new curve beside those before.

    Each position of the sliders is a run like any other. One that a newer position overtakes is stopped and removed;
    of all others the newest six that Learners made stay on the shelf, so that they can be looked into.

    Parameters
    ----------
    spec : Spec, optional
        Where the sliders stand at first; a small network on the digits otherwise.
    **fields
        Fields of Spec, in place of those of ``spec``.

    Raises
    ------
    SpecError
        If a value is refused.
    """

    _esm = static("base.js", "chart.js", "store.js", "lines.js", "learner.js")
    _css = static("lepton.css")

    controls = traitlets.List().tag(sync=True)
    chosen = traitlets.Dict().tag(sync=True)
    metrics = traitlets.Dict().tag(sync=True)
    header = traitlets.Dict().tag(sync=True, to_json=lambda _, learner: learner._header())
    snapshot = traitlets.Bytes().tag(sync=True, to_json=lambda _, learner: learner._snapshot())

    def __init__(self, spec: Spec | None = None, **fields: Any) -> None:
        from lepton_lab.run.launching import changed

        self._closed, self._moved = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.RLock()  # of all below, which the page's thread and ours use
        self._sketches: list[Sketch] = []
        self._marks: list[dict[Key, Mark]] = []
        self._round = self._made = 0
        self._wanted: Spec | None = None
        self._rests, self._starting, self._message = 0.0, False, ""
        self._again: list[float] = []
        self._sent: Any = None
        if not isinstance(spec, Spec | None):
            raise SpecError(f"Learner takes a Spec, not a {type(spec).__name__}: Learner(lab.Spec(...))")
        start = changed(spec or Spec(**START), fields)
        super().__init__(metrics=described())
        local.warm()
        self.spec = start
        self.on_msg(self._on_message)
        self._thread = threading.Thread(target=self._work, name="lepton-learner", daemon=True)
        self._thread.start()

    @property
    def spec(self) -> Spec:
        """What the sliders show; assigning one moves them.

        Raises
        ------
        SpecError
            If their values can't go together.
        """
        return self._knobs.spec(self.chosen)

    @spec.setter
    def spec(self, spec: Spec) -> None:
        self._knobs = Knobs(spec)
        self.unobserve_all("chosen")
        self.controls, self.chosen = self._knobs.controls(), self._knobs.chosen
        self.observe(lambda _: self._wish(), names="chosen")
        self._wish()

    @property
    def runs(self) -> list[lab.Run]:
        """Whose curves are shown, the newest last."""
        return [sketch.run for sketch in self._sketches]

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the curve of what the sliders show is whole, or for ``timeout`` seconds; whether it is."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (busy := self._busy()) and not self._closed.is_set():
            if deadline is not None and time.monotonic() > deadline:
                break
            time.sleep(TICK)
        return not busy

    def figure(self, name: str = JUDGE.name) -> Chart:
        """The curves as a finished figure, once the newest is whole; ``name`` is one of CHARTS."""
        from lepton_lab.charts import CHARTS

        draw = pick(CHARTS, name, "name")
        self.wait()
        if not self._sketches:
            raise LabError(self._message or "there is no curve yet")
        return draw(self.runs)

    def close(self) -> None:
        """Take the view away; a run that still goes is stopped."""
        self._closed.set()
        self._moved.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(2 * PATIENCE)
            self._thread = None
            for sketch in self._sketches[-1:]:
                sketch.end()
        self.take_away()
        super().close()

    def still(self, picture: bool = True) -> dict[str, str]:
        """The curves as a picture, and what they came to."""
        from lepton_lab.charts import CHARTS

        with self._lock:
            heads, runs = self._heads(), self.runs
        table = in_html(["run", "state", JUDGE.label], [[h["label"], h["state"], _main(h)] for h in heads])
        drawn = CHARTS[JUDGE.name](runs).html if picture and runs else ""
        return {"text/html": table + drawn, "text/plain": repr(self)}

    def going(self) -> bool:
        """Whether a curve is still to come or to grow."""
        return self._busy()

    def __repr__(self) -> str:
        with self._lock:
            heads = self._heads()
            lines = [f"{head['label']}: {head['state']}, {JUDGE.label} {_main(head)}\n" for head in heads]
        try:
            chosen = self.spec.to_yaml()
        except LabError as error:
            chosen = f"{error}\n"
        return f"Learner\n{chosen}{''.join(lines)}{self._message}"

    def _wish(self) -> None:
        """Want a run of what the sliders show, once they rest."""
        with self._lock:
            try:
                self._wanted, self._message = self.spec, ""
            except LabError as error:
                self._wanted, self._message = None, str(error)
            self._rests = time.monotonic() + DEBOUNCE
        self._moved.set()

    def _busy(self) -> bool:
        with self._lock:
            going = any(sketch.state not in ENDED for sketch in self._sketches[-1:])
            return self._wanted is not None or self._starting or going

    def _work(self) -> None:
        busy = True
        while not self._closed.is_set():
            self._moved.clear()
            try:
                following = self._turn()
                busy, before = self._busy(), busy
                self.keep(now=before and not busy)
            except Exception:  # a view never fails the kernel
                log.exception("the learner could not go on")
                following = not self._closed.wait(1.0)
            self._moved.wait(TICK if following else None)

    def _turn(self) -> bool:
        """Begin what is wanted, and tell the page what is new; whether there is more to come by itself."""
        if self._wanted is not None and time.monotonic() >= self._rests:
            self._begin()
        now = time.monotonic()
        with self._lock:
            alive = any([sketch.poll() for sketch in self._sketches[-1:]])
            whole = bool(self._again) and self._again[0] <= now
            self._again = [due for due in self._again if due > now]
            self._tell(whole)
            return alive or bool(self._again) or self._wanted is not None

    def _begin(self) -> None:
        """Start the run that is wanted, in place of one that still goes."""
        with self._lock:
            self._starting = True
            last = self._sketches[-1] if self._sketches else None
        try:
            if last is not None and last.asked != self._wanted:
                self._leave(last)
            with self._lock:  # the newest, which may have come meanwhile
                spec, self._wanted = self._wanted, None
                same = next((sketch for sketch in self._sketches if sketch.asked == spec), None)
            if same is not None:  # the same again would be the same curve
                self._show(same)
            elif spec is not None and not self._closed.is_set():
                self._launch(spec)
        except Exception as error:  # shown in place, as the workbench does
            self._message = sentence(error)
        finally:
            self._starting = False

    def _leave(self, sketch: Sketch) -> None:
        """Make room for another run; half a curve would mislead, so a run that still goes is removed."""
        going = sketch.run.state not in ENDED
        sketch.end()
        if going:
            with self._lock:
                self._sketches = self._sketches[:-1]
            shutil.rmtree(sketch.run.folder, ignore_errors=True)

    def _launch(self, spec: Spec) -> None:
        values = self._knobs.values(spec)
        before = self._sketches[-1].values if self._sketches else {**values, "lr": None}
        new = ", ".join(worded(field, value) for field, value in values.items() if value != before.get(field))
        run = lab.launch(spec.replace(name=spec.name or f"learner, {new}"[:80]))
        adopt(run)
        self._made += 1
        self._show(Sketch(run, spec, values, self._made - 1))
        tidy(SHOWN)

    def _show(self, newest: Sketch) -> None:
        with self._lock:
            others = [sketch for sketch in self._sketches if sketch is not newest]
            self._sketches = [*others[1 - SHOWN :], newest]
            self._round += 1
            self._tell(whole=True)

    def _tell(self, whole: bool = False) -> None:
        """Send what the page lacks, or all of it."""
        message, stories = self._header(), [sketch.story for sketch in self._sketches]
        if whole:
            self._marks = [{} for _ in stories]
        block = pack(stories, self._marks, passes)
        if whole or block or message != self._sent:
            self._sent = message
            self.send({"type": "whole" if whole else "delta", **message}, [block] if block else None)

    def _heads(self) -> list[dict[str, Any]]:
        named = zip(self._sketches, labels(self._sketches), strict=True)
        return [sketch.head(label) for sketch, label in named]

    def _header(self) -> dict[str, Any]:
        with self._lock:
            words = {"message": self._message, "code": code(self._sketches[-1].asked) if self._sketches else ""}
            return {"round": self._round, "runs": self._heads(), "told": words}

    def _snapshot(self) -> bytes:
        with self._lock:
            now = time.monotonic()
            self._again = [now + delay for delay in CATCH_UP]
            self._moved.set()
            return pack([sketch.story for sketch in self._sketches], unit=passes)

    def _on_message(self, _: Any, content: dict[str, Any], buffers: Any) -> None:
        if content.get("type") == "reset":
            with self._lock:
                self._tell(whole=True)


def _main(head: dict[str, Any]) -> str:
    """The main figure of a run."""
    name, value = head["figure"] or ("", None)
    return JUDGE.metric.text(value) if name == JUDGE.name else "not known"
