"""The supervisor of a run over several machines: it keeps the rendezvous, starts the nodes and watches them."""

from __future__ import annotations

import json
import shlex
import signal
import socket
import sys
import time
from typing import Any

from ...errors import LabError
from ...files import remote
from ...host import LOOPBACK
from ...store import control
from ...store.failure import Failure
from ...store.objects.mirror import PATIENCE
from .. import failures
from ..remote import said
from ..supervision import POLL, End, Supervision
from .apart import Apart
from .hosts import Host
from .plan import JOIN, SAVED, Plan, served

SILENT = 4.0  # seconds without a sign of life after which a node counts as lost
FUTILE = 5  # beginnings without a step further after which the run has failed
LAST = 10.0  # seconds for nodes to end


class Coordination(Supervision):
    """One run over several machines, from its place among those that are launched to its last state."""

    def __init__(self, needs: dict[str, Any], lock: int, order: dict[str, Any], safe: bool) -> None:
        super().__init__(needs, lock, order, safe)
        self.asks = needs["launcher"]
        self.nodes: Nodes | None = None
        self.started: list[Host] = []
        self.reason: str | None = None  # why it waits, as it was told last
        self.tries, self.best = 0, -1
        self.apart: Apart | None = None  # where the nodes share no disk with this machine
        self.joining: dict[int, tuple[list[int], float]] = {}
        """Nodes for which ranks are to save: the checkpoints before that, and since when."""

    def lease(self) -> list[str]:
        """Nothing of this machine; but nodes that come from now on are to wait for the new plan."""
        Plan.forget(self.folder.path)
        return []

    @property
    def _store(self) -> str:
        """Address of the store that nodes have the run from; "" where they share its folder."""
        return remote() or ""

    @property
    def _where(self) -> str:
        """What nodes know the run by."""
        return f"{self._store}/runs/{self.folder.id}" if self._store else str(self.folder.path)

    def start(self, slots: list[str]) -> None:
        """Keep the rendezvous, say how to take part, and start the nodes that are named."""
        address = self.asks["address"] or own_address([host for host in self.asks["hosts"] if host not in LOOPBACK])
        store = served(address)
        sizes = {name: self.asks[name] for name in ("least", "most")}
        ranks = self.needs["world"] // self.asks["most"]
        self.plan = Plan.of(self, address=address, port=store.port, ranks=ranks, store=self._store, **sizes)
        if self.plan.store:
            self.apart = Apart(self.folder, self.plan, store)
            self.apart.start()
        self.plan.write(self.folder.path)
        self.nodes = Nodes(store)
        self.log.write("note", text=f"ranks start by torchrun's agents, which meet at {address}:{store.port}")
        python = self.asks["python"] or sys.executable
        words, logs = [self._where, self.plan.life], self.folder.path / "logs"
        self.started = [Host(host, python, words, logs / f"node{i}.log") for i, host in enumerate(self.asks["hosts"])]
        self.progressed = time.monotonic()

    def state(self) -> End | None:
        """Keep the nodes going, and say which are there."""
        if (end := self._end()) is not None:
            return end
        changed, reason = self._present.look(), self._waits()
        self._welcome()
        if self.apart is not None:
            self.apart.look()
        if changed or reason != self.reason:
            self.reason = reason
            self.folder.note(nodes=self._present.facts, reason=reason)
        for host in self.started:
            if host.keep():
                self.log.write("note", text=f"{host.name} takes no part: {host.refusal}")
        time.sleep(POLL)
        return None

    def signal(self, number: int) -> None:
        """An end by force; a step that stands still is not known to be that of one rank alone."""
        if number == signal.SIGKILL:
            self._present.dismiss()

    def collect(self) -> None:
        """As the contract says; nodes whose ranks are done end by themselves."""
        if self.nodes is None:
            return
        if said(self.folder.path, self.plan.life):
            self._wait_for_nodes()
        self.nodes.dismiss()
        late = self._wait_for_nodes()
        for host in self.started:
            host.kill()
        if self.apart is not None and (trouble := self.apart.end() or late):
            self.log.write("note", text=f"the last of what ranks did may be missing: {trouble}")
        Plan.forget(self.folder.path)
        if self.folder.path.exists():
            self.folder.note(nodes=None, **({"reason": None} if self.reason else {}))

    def _welcome(self) -> None:
        """Let nodes in that come, once ranks at work have saved: they begin again for them."""
        present, facts, now = self._present, self.folder.facts, time.monotonic()
        for number in present.waiting():
            others = present.count - (number in present.live)
            if facts["state"] in ("running", "paused") and others >= self.asks["least"]:
                if number not in self.joining:
                    self.joining[number] = self.folder.checkpoints(), now
                    control.send(self.folder.path, "checkpoint")
                before, since = self.joining[number]
                if self.folder.checkpoints() == before and now < since + SAVED:
                    continue
            present.welcome(number)

    def _wait_for_nodes(self) -> str:
        """Until all are gone that live, for some seconds at most; returns that some are not, or ""."""
        patience = LAST + (PATIENCE if self.apart else 0.0)  # for the last that these send
        until = time.monotonic() + patience
        while self._present.staying() or any(host.there for host in self.started):
            if time.monotonic() > until:
                return f"not all nodes have ended within {patience:.0f} s"
            for number in self._present.waiting():  # they find that all is over
                self._present.welcome(number)
            time.sleep(POLL)
        return ""

    @property
    def _present(self) -> Nodes:
        assert self.nodes is not None, "asked of a run that has started"
        return self.nodes

    def _end(self) -> End | None:
        """How the run ended, or None while it goes on."""
        if outcome := said(self.folder.path, self.plan.life):
            return outcome, {}
        if (failure := failures.blamed(self.folder)) is not None:
            return "failed", {"failure": vars(failure)}
        now = time.monotonic()
        if self.stopped is not None and self._lacks(now - self.stopped):
            return "stopped", {"reason": "stopped while it waited for nodes"}
        return self._given_up(now)

    def _lacks(self, seconds: float) -> bool:
        """Whether there are no ranks to which a stop that was asked for some seconds ago could be left."""
        if self._present.count >= self.asks["least"]:
            return False
        # Nodes that only seemed lost may be back in time for ranks to save.
        begun = self.folder.facts["state"] != "starting"
        return not begun or seconds >= LAST

    def _given_up(self, now: float) -> tuple[str, dict[str, Any]] | None:
        """The failure of a run that lacks nodes for long, or whose ranks end again and again at one step."""
        facts = self.folder.facts
        saved = max(self.folder.checkpoints(), default=0)
        if saved > self.best:
            self.best, self.tries = saved, facts.get("attempt", 0)
        if self._present.count >= self.asks["least"]:
            self.progressed = now
        refusals = [f"{host.name}: {host.refusal}" for host in self.started if host.refusal]
        if refusals and len(self.started) - len(refusals) < self.asks["least"]:
            message = f"it lacks nodes, and would for ever: {'; '.join(refusals)}"
        elif now > self.progressed + JOIN:
            message = (
                f"{self._present.count} of at least {self.asks['least']} nodes came within {JOIN} s{self._last_words()}"
            )
        elif facts.get("attempt", 0) - self.tries >= FUTILE:
            message = (
                f"its ranks ended {FUTILE} times without a checkpoint after step {saved}; their logs have the cause"
            )
        else:
            return None
        return "failed", {"failure": vars(Failure(-1, "LabError", message, checkpoint=saved or None))}

    def _waits(self) -> str | None:
        """What the run lacks, as a sentence, and how to give it."""
        if self._present.count >= self.asks["least"]:
            return None
        more = f"; give on each: lepton-lab node {shlex.quote(self._where)}"
        more = self._last_words() if self.asks["hosts"] else more
        return f"waits for nodes: {self._present.count} of at least {self.asks['least']} are there{more}"

    def _last_words(self) -> str:
        """What the nodes that are to be started again said last, such as ssh's error, as the end of a sentence."""
        return "".join(f"; {host.name} said: {host.said}" for host in self.started if host.said and not host.there)


class Nodes:
    """Those that have come, and when each last gave a sign of life."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.facts: list[dict[str, Any]] | None = None
        self._beats: dict[int, tuple[int, float]] = {}
        self.live: set[int] = set()  # numbers of those that are there
        self._in: set[int] = set()  # and of those that were let in

    @property
    def count(self) -> int:
        """How many live."""
        return sum(not node["lost"] for node in self.facts or ())

    @property
    def come(self) -> int:
        """How many have come, whatever became of them."""
        return int(self.store.add("nodes", 0))

    def waiting(self) -> list[int]:
        """Numbers of those that wait to be let in."""
        return [i for i in range(self.come) if i not in self._in and self.store.check([f"join{i}"])]

    def welcome(self, number: int) -> None:
        """Let one in."""
        self._in.add(number)
        self.store.set(f"welcome{number}", "")

    def dismiss(self) -> None:
        """Have all end, now or when they come."""
        self.store.set("over", "")

    def staying(self) -> bool:
        """Whether one that lives has not ended."""
        self.look()
        return any(not node["lost"] for node in self.facts or ())

    def look(self) -> bool:
        """Ask the store; whether anything changed."""
        now, nodes, live = time.monotonic(), [], set[int]()
        for i in range(self.come):
            beats = self.store.add(f"beat{i}", 0)
            if i not in self._beats or self._beats[i][0] != beats:
                self._beats[i] = beats, now
            if self.store.check([f"node{i}"]) and not self.store.check([f"left{i}"]):
                about = json.loads(self.store.get(f"node{i}"))
                lost = now > self._beats[i][1] + SILENT
                nodes.append({**about, "lost": lost})
                live |= set() if lost else {i}
        self.live = live
        changed, self.facts = nodes != self.facts, nodes
        return changed


def own_address(hosts: list[str]) -> str:
    """The address of this machine on the way to the first of other machines; to any, where none is named."""
    host = hosts[0].rpartition("@")[2] if hosts else "10.255.255.255"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
        except (OSError, UnicodeError) as error:
            raise LabError(
                f"by which address {host!r} reaches this machine is not known ({error}): say it with address=..."
            ) from None
        return str(probe.getsockname()[0])
