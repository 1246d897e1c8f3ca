"""The live view of one or several runs: curves, progress, ranks and controls."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from lepton_lab.run import Run
from lepton_lab.spec import SpecError

from .feed import Feed

STATIC = Path(__file__).parent / "static"
TICK = 0.05
"""Seconds between two looks at the run folders."""
HEAD_EVERY = 0.2
"""Least seconds between two updates of the figures; the curves come every tick."""
CATCH_UP = (0.3, 1.0, 3.0, 10.0)
"""Seconds after a page asked for the curves at which what followed is sent again: messages that came
while the page was still loading are lost, and a busy kernel could not answer if the page asked."""
FIRST = 0.25
"""Longest wait for the curves, in seconds, before the view is shown."""
COMMANDS = ("pause", "resume", "stop", "set")

log = logging.getLogger(__name__)


def static(*names: str) -> str:
    """Text of the files ``static/<name>``, one after the other."""
    return "\n".join((STATIC / name).read_text(encoding="utf-8") for name in names)


class Live(anywidget.AnyWidget):
    """Curves, progress, ranks and controls of runs, drawn while they train.

    A thread of its own tails the run folders, so the view moves on while cells run, and it never
    raises into the kernel. The first run is the one that the buttons control.

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
    """

    _esm = static("base.js", "chart.js", "store.js", "live.js")
    _css = static("lepton.css")

    header = traitlets.Dict().tag(sync=True, to_json=lambda _, live: {"runs": live._feed.heads()})
    snapshot = traitlets.Bytes().tag(sync=True, to_json=lambda _, live: live._snapshot())
    smoothing = traitlets.Float(0.6, min=0.0, max=0.99).tag(sync=True)
    log_scale = traitlets.Bool(False).tag(sync=True)
    by_rank = traitlets.Bool(False).tag(sync=True)

    def __init__(self, *runs: Any, **options: Any) -> None:
        self._closed = threading.Event()  # first of all, since an object that is refused is closed too
        self._thread: threading.Thread | None = None
        if not runs:
            raise SpecError("Live() needs at least one run, for example Live(lab.attach())")
        if wrong := [type(run).__name__ for run in runs if not isinstance(run, Run)]:
            raise SpecError(f"Live takes runs, not a {wrong[0]}: Live(lab.attach())")
        self.runs = list(runs)
        self._feed = Feed(self.runs)
        self._again: list[tuple[float, list]] = []
        self._head_due = 0.0
        self._sent_heads: list[dict[str, Any]] = []
        # A long run takes a while to read: the cell waits only for a short one, the view gets the rest as it comes.
        first = threading.Thread(target=self._feed.poll, name="lepton-live-first", daemon=True)
        first.start()
        first.join(FIRST)
        super().__init__(**options)
        self.on_msg(self._on_message)
        self._watch()

    def close(self) -> None:
        """Take the view away and end its thread; the runs go on."""
        self._closed.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=2.0)
        super().close()

    def __repr__(self) -> str:
        return "\n".join(f"Live: {status}" for status in self._feed.statuses)

    def _snapshot(self) -> bytes:
        block, given = self._feed.snapshot()
        now = time.monotonic()
        self._again = [(now + delay, given) for delay in CATCH_UP]
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
                if not alive and not self._again:
                    return
            except Exception:  # a view never fails a run, nor the kernel
                log.exception("the live view could not be updated")
                self._closed.wait(1.0)
            self._closed.wait(TICK)

    def _send_news(self, final: bool = False) -> None:
        now = time.monotonic()
        if self._again and self._again[0][0] <= now:
            self._feed.go_back(self._again.pop(0)[1])
        block = self._feed.delta()
        message: dict[str, Any] = {"type": "delta"}
        if now >= self._head_due or final:
            heads = self._feed.heads()
            if heads != self._sent_heads:
                message["runs"] = self._sent_heads = heads
                self._head_due = now + HEAD_EVERY
        if block or "runs" in message:
            self.send(message, [block] if block else None)

    def _on_message(self, _: Any, content: dict[str, Any], buffers: Any) -> None:
        if content.get("type") == "reset":
            self._feed.go_back([{} for _ in self.runs])
            self._send_news(final=True)
        elif content.get("command") in COMMANDS:
            self._obey(self.runs[0], content["command"], content.get("values", {}))

    def _obey(self, run: Any, command: str, values: dict[str, Any]) -> None:
        try:
            getattr(run, command)(**values)
            self.send({"type": "ack", "command": command})
        except Exception as error:
            self.send({"type": "refused", "command": command, "text": str(error) or type(error).__name__})
        self._watch()  # a stopped run that resumes is to be followed again


def bundle(run: Any, **kwargs: Any) -> Any:
    """Mime bundle that shows ``run`` in Jupyter as a live view (entry point of group ``lepton_lab.view``)."""
    return Live(run)._repr_mimebundle_(**kwargs)
