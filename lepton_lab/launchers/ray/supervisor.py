"""The supervisor of a run on a Ray cluster: it places the ranks as actors, watches them, and replaces the lost."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import asdict
from typing import Any

from ...errors import LabError
from ...store.failure import Failure
from .. import failures, remote
from ..local.leases import Queue
from ..local.supervisor import LAST, ticket, waited, waited_for_devices
from ..supervision import POLL, End, Supervision
from ..torchrun.plan import served
from .actor import versions
from .cluster import LOCAL, joined

FUTILE = 5  # losses without a step further after which the run has failed
SEES = 0.25  # seconds between two looks whether there is room
ASKS = 1.0  # seconds between two looks at what the cluster has free
TURNS = [f"turn{i}" for i in range(4)]  # runs that ask one cluster for room at a time; the others wait at little cost
PASSED = ("LEPTON_LAB_", "GOMP_")  # variables of these names go to the ranks, on whatever node


class Actors(Supervision):
    """One run whose ranks are actors of a placement group."""

    queue: Queue | None = None
    gang: Any = None  # a Gang, whose module imports Ray
    reason: str | None = None  # why it waits, as it was told last
    seen = 0.0  # when it was last asked whether there is room
    looked = 0.0  # when that was found out
    ended: float | None = None  # when rank 0 said its last word
    killed = False

    def lease(self) -> list[str] | None:
        """Devices of this machine for a cluster of its own; else a turn at asking, since who asks takes 80 MB."""
        address = self.needs["launcher"]["address"]
        self.own = address == LOCAL
        self.queue = ticket(self, self.needs["device"] if self.own else f"ray-{address}")
        if self.own:
            return waited_for_devices(self, self.queue)
        return waited(self, self.queue, TURNS, 1, "waits for its turn to ask the Ray cluster for room")

    def start(self, slots: list[str]) -> None:
        """Join the cluster and ask it for room."""
        asks, self.world = self.needs["launcher"], self.needs["world"]
        self.cpus, gpus = asks["cpus"], self.world if self.needs["device"] == "cuda" else 0
        if self.own and gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(slot.removeprefix("gpu") for slot in slots)
        self.variables = {name: value for name, value in os.environ.items() if name.startswith(PASSED)}
        self.cluster = contextlib.ExitStack()
        self.cluster.enter_context(joined(asks["address"], self.world * self.cpus, gpus, self.folder.id))
        self.demand: dict[str, float] = {"CPU": self.cpus} | ({"GPU": 1} if gpus else {})
        self._fits()
        self.best, self.tries = -1, 0
        self.log.write("note", text="ranks start as actors of a Ray cluster")
        self._place()

    def state(self) -> End | None:
        """Wait for room, then for the actors, then for the ranks' end."""
        if self.killed:
            return None
        if not self.gang.begun:
            return self._wait()
        self.gang.look(POLL)
        if word := remote.said(self.folder.path, self.life.life):
            self.ended = self.ended or time.monotonic()
            return (word, {}) if not self.gang.working or time.monotonic() > self.ended + LAST else None
        if (failure := failures.blamed(self.folder)) is not None:
            return "failed", {"failure": vars(failure)}
        # Else the one whose error is read of may be why the other was lost.
        waits = failures.began(failures.reports(self.folder)) is not None
        return self._again() if self.gang.lost and not waits else None

    def signal(self, number: int) -> None:
        """As the contract says; several ranks could not leave the same step, and so none is told to."""
        if number == signal.SIGKILL:
            self.killed = True
            self.gang.end()
        elif self.world == 1 and self.gang.working:
            self.gang.tell(0, number)

    def collect(self) -> None:
        """As the contract says."""
        with contextlib.suppress(Exception):  # a cluster that is gone
            if self.gang is not None:
                self.gang.end()
        if hasattr(self, "cluster"):
            self.cluster.close()
        if self.queue is not None:
            self.queue.release()
        if self.folder.path.exists():
            self.folder.note(reason=None, nodes=None)

    def _place(self) -> None:
        from .gang import Gang

        self.gang = Gang(self.demand, self.world, self.folder.id)

    def _wait(self) -> End | None:
        """Until all ranks have begun: for room, then for their processes."""
        if self.stopped is not None:
            return "stopped", {"reason": "stopped before its ranks began"}
        if not self.gang.actors and time.monotonic() < self.seen + SEES:
            time.sleep(POLL)
        elif not self.gang.actors and not self.gang.placed:
            self.seen = time.monotonic()
            self._queue()
        elif not self.gang.actors:
            self._fill()
        elif self.gang.settle(POLL):
            if self.gang.lost:
                return self._again()
            self._begin()
        return None

    def _queue(self) -> None:
        """Say what it waits for."""
        if time.monotonic() < self.looked + ASKS:
            return
        self.looked, reason = time.monotonic(), self._lacks()
        if self.reason is None:
            self.tell("queued", reason=reason, queue="")
        elif reason != self.reason:
            self.folder.note(reason=reason)
        self.reason = reason

    def _fill(self) -> None:
        """Start the ranks' processes, which are to meet at a store of ours, new for each beginning."""
        import ray

        if self.queue is not None and not self.own:
            self.queue.release()
        if self.reason is not None:
            self.reason = None
            self.tell("starting", reason=None)
        address = ray.util.get_node_ip_address()
        meeting = {"MASTER_ADDR": address, "MASTER_PORT": str(served(address).port), "WORLD_SIZE": str(self.world)}
        meeting["TORCHELASTIC_USE_AGENT_STORE"] = "True"  # or rank 0 makes one
        self.gang.fill(self.folder.path, self.variables | meeting)

    def _begin(self) -> None:
        """Have the ranks begin, if all nodes are alike."""
        self._alike()
        self.life = remote.Life.of(self)
        remote.begin(self.folder, self.world)
        self.folder.note(nodes=self._nodes())
        self.gang.begin(str(self.folder.path), asdict(self.life), self.world, self.cpus)

    def _again(self) -> End | None:
        """Begin again with all ranks after one was lost; the run's end if that leads nowhere."""
        lost, saved = self.gang.lost, max(self.folder.checkpoints(), default=0)
        if self.stopped is not None:
            return "stopped", {"reason": f"{lost} before it had stopped"}
        if saved > self.best:
            self.best, self.tries = saved, 0
        self.tries += 1
        if self.tries >= FUTILE:
            message = f"ranks were lost {FUTILE} times without a checkpoint after step {saved}; at last {lost}"
            return "failed", {"failure": vars(Failure(-1, "LabError", message, checkpoint=saved or None))}
        self.log.write("note", text=f"{lost}; all ranks begin again from step {saved}")
        self.gang.end()
        self._place()
        return None

    def _fits(self) -> None:
        """Refuse what the cluster has no room for when it is empty."""
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        room = sum(int(min(has.get(name, 0) // count for name, count in self.demand.items())) for has in nodes)
        if room < self.world:
            has = ray.cluster_resources()
            held = " and ".join(f"{has.get(name, 0):g} {name}s" for name in self.demand)
            raise LabError(
                f"world={self.world}: the Ray cluster has room for {room} ranks of {self._each()}, with {held} on "
                f"{len(nodes)} node{'s' * (len(nodes) > 1)} in all: take world={max(room, 1)}, or add nodes to it"
            )

    def _lacks(self) -> str:
        import ray

        has, free = ray.cluster_resources(), ray.available_resources()
        held = " and ".join(f"{free.get(name, 0):g} of {has.get(name, 0):g} {name}s" for name in self.demand)
        ranks = f"{self.world} rank{'s' * (self.world > 1)}"
        return f"waits for room on the Ray cluster for {ranks} of {self._each()}: {held} are free"

    def _each(self) -> str:
        cpus = f"{self.cpus} CPU{'s' * (self.cpus > 1)}"
        return f"{cpus} and 1 GPU" if "GPU" in self.demand else cpus

    def _alike(self) -> None:
        """Refuse nodes that don't have the run's folder, or other versions than this machine."""
        for place in self.gang.places:
            if not place["folder"]:
                raise LabError(
                    f"node {place['host']} does not see the run's folder {str(self.folder.path)!r}: set "
                    "LEPTON_LAB_HOME to a folder that all machines share, at the same path"
                )
            for name, ours in versions().items():
                if (theirs := place["versions"][name]) != ours:
                    raise LabError(
                        f"node {place['host']} has {name} {theirs}, this machine {ours}: install the same on all nodes"
                    )

    def _nodes(self) -> list[dict[str, Any]]:
        """The nodes that it is on, as views show them."""
        nodes: dict[str, dict[str, Any]] = {}
        for rank, place in enumerate(self.gang.places):
            about = {name: place[name] for name in ("host", "address", "pid")}
            node = nodes.setdefault(place["node"], {**about, "since": time.time(), "lost": False, "ranks": []})
            node["ranks"].append(rank)
        return [*nodes.values()]
