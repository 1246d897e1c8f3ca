"""One rank of a run over several machines: started by the agent of its machine, as often as nodes come and go."""

from __future__ import annotations

import os
from pathlib import Path

from ...host import machine
from ...store.folder import RunFolder
from .. import remote
from .plan import Plan, served


def main(folder: str) -> None:
    """Be the rank that the agent's variables name, of the run in a folder; the agent takes a return as a good end."""
    path, run = Path(folder), RunFolder(Path(folder))
    plan = Plan.read(path)
    assert plan is not None, "nodes read it before they start ranks"
    number, here, world = (int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
    if number == 0:
        remote.begin(run, world)
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"  # or rank 0 makes one that listens at all addresses
    if number == 0 and world > 1:
        served(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    if code := remote.work(path, plan, number, here, world, _sharing(run, plan), plan.reached()):
        os._exit(code)


def _sharing(folder: RunFolder, plan: Plan) -> int:
    """Ranks of this machine: those of each node that is on it."""
    nodes = folder.facts.get("nodes") or ()
    return plan.ranks * max(1, sum(node["machine"] == machine() and not node["lost"] for node in nodes))
