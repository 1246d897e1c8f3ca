"""The supervisor of a run over several machines: it keeps the rendezvous, starts the nodes and watches them."""

from __future__ import annotations

import json
import secrets
import shlex
import socket
import subprocess
import sys
import time
from typing import Any

from ...errors import LabError
from ...files import data_root, read_json
from ...host import child
from ...spec import Spec
from ...store import control
from ...store.failure import Failure
from .. import failures
from ..local.supervisor import GRACE, POLL, STOP, Supervision
from .plan import JOIN, Plan, served
from .settings import LOCAL
from .worker import OUTCOME

CODE = "import sys; from lepton_lab.launchers.torchrun.node import main; sys.exit(main(sys.argv[1], attached=True))"
LONGEST = 60.0  # seconds that a rank waits for another, if nobody asks for others: as long as it takes to see its loss
SILENT = 4.0  # seconds without a sign of life after which a node counts as lost
FUTILE = 5  # beginnings without a step further after which the run has failed
LAST = 10.0  # seconds for nodes to end
AGAIN = (1.0, 10.0)  # seconds until a node that ended is started again: at first, and at most


class Coordination(Supervision):
    """One run over several machines, from its place among those that are launched to its last state."""

    def _lease(self, queue: Any) -> list[str]:
        """Nothing of this machine: its ranks are elsewhere, or few."""
        return []

    def _start(self, device: str, slots: list[str], sharing: int) -> None:
        """Keep the rendezvous, say how to take part, and start the nodes that are named."""
        self.asks = self.needs["launcher"]
        address = self.asks["address"] or _own_address([host for host in self.asks["hosts"] if host not in LOCAL])
        self.store = served(address)
        port = self.store.port
        (self.folder.path / OUTCOME).unlink(missing_ok=True)
        for path in (self.folder.path / "errors").iterdir():
            path.unlink()
        self.reason: str | None = None  # why it waits, as it was told last
        self.life = f"{self.folder.id}-{secrets.token_hex(4)}"
        timeout = LONGEST if (asked := self.folder.spec.timeout) == Spec().timeout else asked
        sizes = self.asks["least"], self.asks["most"], self.needs["world"] // self.asks["most"]
        place = self.order["cwd"], self.order["path"], str(data_root())
        Plan(self.life, address, port, *sizes, device, timeout, *place).write(self.folder.path)
        self.nodes = Nodes(self.store)
        self.log.write("note", text=f"ranks start by torchrun's agents, which meet at {address}:{port}")
        self.started = [Started(self, host, i) for i, host in enumerate(self.asks["hosts"])]
        self.began = self.progressed = time.monotonic()
        self.tries, self.best = 0, -1
        self.asked: float | None = None  # when a stop was seen

    def _watch(self) -> None:
        """Until the run has come to an end: keep its nodes going, and say which are there."""
        while self.folder.path.exists() and (end := self._end()) is None:
            changed, reason = self.nodes.look(), self._waits()
            if changed or reason != self.reason:
                self.reason = reason
                self.folder.note(nodes=self.nodes.facts, reason=reason)
            for node in self.started:
                node.keep()
            time.sleep(POLL)
        else:
            self.end = end if self.folder.path.exists() else None
        if self.end and self._said():
            self._wait_for_nodes()  # which end by themselves, where their ranks are done
        self.store.set("over", "")
        self._wait_for_nodes()
        for node in self.started:
            node.kill()

    def _wait_for_nodes(self) -> None:
        """Until all are gone that live, for some seconds at most."""
        until = time.monotonic() + LAST
        while time.monotonic() < until and (self.nodes.staying() or any(node.there for node in self.started)):
            time.sleep(POLL)

    def _finish(self) -> None:
        if self.end is not None:
            state, facts = self.end
            self._state(state, **{"reason": None, "nodes": None, **facts})

    def _kill(self, ranks: Any) -> None:
        """After an error of ours: nodes end by themselves once the store is gone."""

    def _end(self) -> tuple[str, dict[str, Any]] | None:
        """State and facts of the run's end, or None while it goes on."""
        now = time.monotonic()
        if outcome := self._said():
            return outcome, {}
        if (blamed := self._blamed()) is not None:
            return "failed", {"failure": vars(blamed)}
        if self.asked is None and control.stopping(self.folder.path):
            self.asked = now
        if self.asked is not None and (why := self._without_ranks(now - self.asked)):
            return "stopped", {"reason": why}
        return self._given_up(now)

    def _without_ranks(self, seconds: float) -> str:
        """Why a stop that was asked for some seconds ago is not left to the ranks; "" where it is."""
        if self.nodes.present >= self.asks["least"]:
            return _LATE if seconds > STOP and not self._busy() else ""
        # Nodes that only seemed lost may be back in time for ranks to save.
        begun = self.folder.facts["state"] != "starting"
        return "" if begun and seconds < LAST else "stopped while it waited for nodes"

    def _said(self) -> str:
        """What the ranks of this life ended as: "done" or "stopped"; "" before that."""
        word = read_json(self.folder.path / OUTCOME)
        return str(word["outcome"]) if word and word["life"] == self.life else ""

    def _blamed(self) -> Failure | None:
        """The failure of a rank that no other's end explains, once the others had time to report theirs."""
        reports = failures.reports(self.folder)
        began = failures.began(reports)
        if began is None or time.time() < began + GRACE:
            return None
        return failures.first(self.folder, {rank: (1, report["t"]) for rank, report in reports.items()}, set())

    def _given_up(self, now: float) -> tuple[str, dict[str, Any]] | None:
        """The failure of a run that lacks nodes for long, or whose ranks end again and again at one step."""
        facts = self.folder.facts
        saved = max(self.folder.checkpoints(), default=0)
        if saved > self.best:
            self.best, self.tries = saved, facts.get("attempt", 0)
        if self.nodes.present >= self.asks["least"]:
            self.progressed = now
        if now > self.progressed + JOIN:
            message = (
                f"{self.nodes.present} of at least {self.asks['least']} nodes came within {JOIN} s{self._last_words()}"
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
        if self.nodes.present >= self.asks["least"]:
            return None
        more = f"; give on each: lepton-lab node {shlex.quote(str(self.folder.path))}"
        more = self._last_words() if self.asks["hosts"] else more
        return f"waits for nodes: {self.nodes.present} of at least {self.asks['least']} are there{more}"

    def _last_words(self) -> str:
        """What the nodes that are to be started again said last, such as ssh's error, as the end of a sentence."""
        return "".join(f"; {node.host} said: {node.said}" for node in self.started if node.said and not node.there)


_LATE = f"did not reach the end of a step within {STOP:.0f} s of the stop: ended by force"


class Nodes:
    """Those that have come, and when each last gave a sign of life."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.facts: list[dict[str, Any]] | None = None
        self._beats: dict[int, tuple[int, float]] = {}

    @property
    def present(self) -> int:
        """How many live."""
        return sum(not node["lost"] for node in self.facts or ())

    def staying(self) -> bool:
        """Whether one that lives has not ended."""
        self.look()
        return any(not node["lost"] for node in self.facts or ())

    def look(self) -> bool:
        """Ask the store; whether anything changed."""
        now, nodes = time.monotonic(), []
        for i in range(self.store.add("nodes", 0)):
            beats = self.store.add(f"beat{i}", 0)
            if i not in self._beats or self._beats[i][0] != beats:
                self._beats[i] = beats, now
            if self.store.check([f"node{i}"]) and not self.store.check([f"left{i}"]):
                about = json.loads(self.store.get(f"node{i}"))
                nodes.append({**about, "lost": now > self._beats[i][1] + SILENT})
        changed, self.facts = nodes != self.facts, nodes
        return changed


class Started:
    """A node that we start, and start again when it ends before the run."""

    def __init__(self, run: Coordination, host: str, number: int) -> None:
        self.run, self.host = run, host
        self.log = run.folder.path / "logs" / f"node{number}.log"
        self.pause, self.due = AGAIN[0], 0.0
        self.process: subprocess.Popen[Any] | None = None

    def keep(self) -> None:
        """Start it where it is not there and due."""
        now = time.monotonic()
        if self.process is not None and self.process.poll() is not None:
            self.process, self.due = None, now + self.pause
            self.pause = min(2 * self.pause, AGAIN[1])
        if self.process is None and now >= self.due:
            self.process = self._start()

    def _start(self) -> subprocess.Popen[Any]:
        words = ["-c", CODE, str(self.run.folder.path)]
        with self.log.open("ab") as log:
            options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            if self.host in LOCAL:
                return child(words, **options)
            command = shlex.join([self.run.asks["python"] or sys.executable, "-P", *words])
            return subprocess.Popen(["ssh", "-o", "BatchMode=yes", self.host, command], **options)

    @property
    def said(self) -> str:
        """The last line of its log, once it has ended; "" before."""
        lines = self.log.read_text(errors="replace").splitlines() if self.due else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    @property
    def there(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """End it by force where it is there still."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def _own_address(hosts: list[str]) -> str:
    """The address of this machine on the way to the first of other machines; to any, where none is named."""
    host = hosts[0].rpartition("@")[2] if hosts else "10.255.255.255"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
        except (OSError, UnicodeError) as error:
            raise LabError(
                f"by which address {host!r} reaches this machine is not known ({error}): say it, as "
                "lab.Torchrun(..., address=...)"
            ) from None
        return str(probe.getsockname()[0])
