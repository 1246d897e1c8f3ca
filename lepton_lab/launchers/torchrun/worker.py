"""One rank of a run over several machines: started by the agent of its machine, as often as nodes come and go."""

from __future__ import annotations

import os
from pathlib import Path

from ...host import machine
from ...store.folder import RunFolder
from ...store.objects.mirror import base
from .. import remote
from .apart import begin
from .plan import Plan, served


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
    if number == 0 and not apart:
        remote.begin(RunFolder(path), world)
    if number == 0 and (world > 1 or apart):
        served(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    folder = begin(path, plan, number, here, world) if apart else RunFolder(path, world)
    if code := remote.work(folder, plan, number, here, _sharing(folder, plan), plan.reached()):
        os._exit(code)


def _sharing(folder: RunFolder, plan: Plan) -> int:
    """Ranks of this machine: those of each node that is on it."""
    nodes = folder.facts.get("nodes") or ()
    return plan.ranks * max(1, sum(node["machine"] == machine() and not node["lost"] for node in nodes))
