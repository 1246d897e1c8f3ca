"""One rank of a run over several machines: started by the agent of its machine, as often as nodes come and go."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ...host import machine
from ...store.folder import RunFolder
from ...store.objects.mirror import base
from .. import remote
from .apart import begin
from .plan import Plan, served

if TYPE_CHECKING:
    from torch.distributed import TCPStore

LOOK = 0.05  # seconds between looks for a later beginning


def main(place: str) -> None:
    """
    Be the rank that the agent's variables name; the agent takes a return as a good end.

    Parameters
    ----------
    place
        The run's folder, or what its node has in place of one that it shares (`store.objects.mirror`).
    """
    number, here, world = (int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"  # or rank 0 makes one that listens at all addresses
    path = Path(place)
    apart = not (path / "spec.json").exists()
    plan = Plan.read(base(path) if apart else path)
    assert plan is not None, "nodes read it before they start ranks"
    beginning = _counted(plan) if number == 0 else 0
    if number == 0 and not apart:
        folder = RunFolder(path)
        if beginning > 1 and folder.facts["state"] == "paused":
            time.sleep(2 * LOOK)  # for rank 0 of the one before, which would take the pause that is asked for anew
        remote.begin(folder, world)
    if number == 0 and (world > 1 or apart):
        served(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    folder = begin(path, plan, beginning, number, here, world) if apart else RunFolder(path, world)
    if code := remote.work(folder, plan, number, here, _sharing(folder, plan), plan.reached()):
        os._exit(code)


def _counted(plan: Plan) -> int:
    """
    Count a beginning of which this process is rank 0, which ends as soon as there is a later one; returns the number.

    An agent whose signs of life came late is out of the rendezvous. Its ranks, where they wait for no others, would
    work on beside those that begin without them; once they end, it comes back.
    """
    store = plan.connect()
    number = store.add("beginnings", 1)
    threading.Thread(target=_watch, args=(store, number), name="lepton-watch", daemon=True).start()
    return number


def _watch(store: TCPStore, number: int) -> None:
    with contextlib.suppress(RuntimeError):  # the coordinator is gone, and its nodes end for that
        while store.add("beginnings", 0) == number:
            time.sleep(LOOK)
        try:
            print("others have begun without this node: its ranks end, to begin anew", file=sys.stderr, flush=True)
        finally:
            os._exit(1)


def _sharing(folder: RunFolder, plan: Plan) -> int:
    """Ranks of this machine: those of each node that is on it."""
    nodes = folder.facts.get("nodes") or ()
    return plan.ranks * max(1, sum(node["machine"] == machine() and not node["lost"] for node in nodes))
