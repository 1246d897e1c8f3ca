"""The shelf: all runs as a table, any of them overlaid in a live view below."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as ipw
import traitlets

from lepton_lab import Run
from lepton_lab.charts.cards import drawn
from lepton_lab.charts.samples import kept
from lepton_lab.errors import LabError
from lepton_lab.files import home, remote
from lepton_lab.metrics import Known, figures
from lepton_lab.section import escaped, in_html
from lepton_lab.store.folder import ENDED
from lepton_lab.store.objects.following import bring

from .catalogue import Catalogue
from .curves import described
from .frame import Shown, static
from .live import Live
from .pieces import sentence
from .stills import text

FETCH = 5.0  # seconds between looks at a store
EVERY = 1.0
"""Seconds between two looks at the folder of runs."""
SAVED = 20
"""Runs of which a saved notebook tells."""
PICTURED, SIZE = 4, 200_000
"""Ticked runs whose samples are shown, and the most characters of each kind of them."""
_CHOSEN: dict[Path, list[str] | None] = {}  # by folder of runs, what was chosen in its last shelf

log = logging.getLogger(__name__)


def listed(rows: list[dict[str, Any]], of: Known, shown: list[str]) -> str:
    """HTML of the newest runs of a shelf, with the metrics that it shows."""
    split = figures("val", "test", names=[name for name in shown if name in of], of=of)
    columns = {key: figure for key, figure in split.items() if any(row.get(key) is not None for row in rows[:SAVED])}
    lines = [
        [row["name"] or row["title"], row["id"], row["state"], *(text(it, row.get(key)) for key, it in columns.items())]
        for row in rows[:SAVED]
    ]
    more = f"<p>and {len(rows) - SAVED} older ones</p>" if len(rows) > SAVED else ""
    return in_html(["run", "id", "state", *(figure.label for figure in columns.values())], lines) + more


def samples(runs: list[Run]) -> str:
    """HTML of what the ticked runs said of their last samples; "" before that."""
    pieces = []
    for run in runs[:PICTURED]:
        for name, cards in kept(run).groups():
            head = escaped(f"{run.name or run.id}: predictions, {name}")
            pieces.append(f"<details><summary>{head}</summary>{drawn(cards, SIZE)}</details>")
    return "".join(pieces)


class Table(anywidget.AnyWidget):
    """
    The table of the shelf.

    ``selected`` holds the ids of the ticked runs, ``columns`` the metrics that someone chose to have columns, or None.
    """

    _esm = static("base.js", "chooser.js", "shelf.js")
    _css = static("lepton.css")

    rows = traitlets.List().tag(sync=True, to_json=lambda _, table: table.ordered())
    selected = traitlets.List(traitlets.Unicode()).tag(sync=True)
    metrics = traitlets.Dict().tag(sync=True)
    columns = traitlets.List(traitlets.Unicode(), default_value=None, allow_none=True).tag(sync=True)

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.moved = threading.Event()
        self.shown = False  # a page that begins to show it asks for all rows: what was sent before reached nobody
        super().__init__(metrics=self.described(), columns=_CHOSEN.get(catalogue.root))
        self.observe(self._choose, names="columns")
        self.on_msg(self._on_message)

    def described(self) -> dict[str, Any]:
        """What the page must know of the metrics of all runs."""
        return described(self.catalogue.metrics, self.catalogue.leading())

    def _choose(self, change: Any) -> None:
        _CHOSEN[self.catalogue.root] = change["new"]

    def _on_message(self, _: Any, content: dict[str, Any], buffers: Any) -> None:
        try:
            if content["action"] == "show":
                self.shown = True
            for name in content.get("ids", ()):
                self._obey(self.catalogue.run(name), content)
        except Exception as error:  # shown in place: a traceback would go to the log, unseen
            self.send({"refused": sentence(error)})
        self.moved.set()

    def _obey(self, run: Run, content: dict[str, Any]) -> None:
        action = content["action"]
        if action == "describe":
            run.rename(content["name"])
            run.tag(*content["tags"])
            run.annotate(content["note"])
        elif action == "archive":
            run.archive(content["archived"])
        elif action == "delete":
            if run.state in ENDED:  # else it is refused, and stays where it is
                self.selected = [name for name in self.selected if name != run.id]
            run.delete()

    def ordered(self) -> list[dict[str, Any]]:
        """All rows, newest first."""
        return sorted(self.catalogue.rows.copy().values(), key=lambda row: row["created"], reverse=True)


class Shelf(Shown, ipw.VBox):
    """All runs as a table, newest first; ticked runs are overlaid in a live view below.

    Parameters
    ----------
    root : path, optional
        Folder of run folders; that of LEPTON_LAB_HOME otherwise.

    Attributes
    ----------
    table : Table
        Its ``selected`` may be assigned: a list of run ids.
    live : Live or None
        The overlay.
    """

    def __init__(self, root: str | Path | None = None) -> None:
        self._catalogue = Catalogue(Path(root) if root is not None else home() / "runs")
        self._address, self._fetched = remote() if root is None else None, 0.0
        self._catalogue.look(limit=10)  # enough to be seen at once; the thread reads the rest
        self.table = Table(self._catalogue)
        self.live: Live | None = None
        super().__init__([self.table])
        self.table.observe(lambda _: self._overlay(), names="selected")
        self.table.observe(lambda _: self.stale(), names="columns")
        self._closed = threading.Event()
        self._sent: list[str] = []
        self._states: dict[str, str] = {}
        self._thread = threading.Thread(target=self._follow, name="lepton-shelf", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take the shelf away and end its thread."""
        self._closed.set()
        self.table.moved.set()
        self._thread.join(timeout=5.0)
        if self.live is not None:
            self.live.close()
        self.table.close()
        self.take_away()
        super().close()

    def still(self, picture: bool = True) -> dict[str, str]:
        """The newest runs as a table, and what is overlaid."""
        overlay = self.live.still(picture)["text/html"] if self.live else ""
        rows = [row for row in self.table.ordered() if not row["archived"]]
        chosen = [self._catalogue.run(name) for name in self.table.selected if name in self._catalogue.rows]
        shown = self.table.columns if self.table.columns is not None else self.table.metrics["shown"]
        table = listed(rows, self._catalogue.metrics, shown)
        return {"text/html": table + overlay + samples(chosen), "text/plain": repr(self)}

    def going(self) -> bool:
        """Whether a run has not ended."""
        return any(row["state"] not in ENDED for row in self.table.ordered())

    def __repr__(self) -> str:
        lines = [
            f"{row['id']}  {row['state']:<12} {row['name'] or row['title']}" for row in self.table.ordered()[:SAVED]
        ]
        return "\n".join([f"Shelf of {len(self._catalogue.rows)} runs", *lines])

    def _follow(self) -> None:
        while not self._closed.is_set():
            self.table.moved.wait(0.05 if self._catalogue.more else EVERY)
            self.table.moved.clear()
            try:
                self._fetch()
                changed = self._catalogue.look()
                self.table.metrics = self.table.described()  # sent where there is another than before
                rows = self.table.ordered()
                order = [row["id"] for row in rows]
                shown, self.table.shown = self.table.shown, False
                if shown or changed or order != self._sent:
                    self.table.send({"rows": rows if shown else changed, "order": order})
                    self._sent = order
                states = {row["id"]: row["state"] for row in rows}
                begun, self._states = states != self._states, states
                self.keep(now=begun)
            except Exception:  # a view never fails the kernel
                log.exception("the shelf could not be updated")

    def _fetch(self) -> None:
        """Bring down which runs a store has by now, where they lie on one; each that is live is followed of itself."""
        if self._address and time.monotonic() > self._fetched + FETCH:
            with contextlib.suppress(LabError):  # each run's remark says that it is late, and why
                bring(self._address)
            self._fetched = time.monotonic()

    def _overlay(self) -> None:
        old, self.live = self.live, None
        chosen = [self._catalogue.run(name) for name in self.table.selected if name in self._catalogue.rows]
        # The first run is the one that the buttons control, so one that still runs comes first.
        chosen.sort(key=lambda run: run.state in ENDED)
        if chosen:
            self.live = Live(*chosen)
            self.live.within = self
        shown = samples(chosen)
        self.children = [self.table, *([self.live] if self.live else []), *([ipw.HTML(shown)] if shown else [])]
        if old is not None:
            old.close()
        self.stale()
