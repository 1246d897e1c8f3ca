"""One rank of a run over several machines: started by the agent of its machine, as often as nodes come and go."""

from __future__ import annotations

import os
from pathlib import Path

from ...store.folder import RunFolder
from .. import remote
from .plan import Plan, served


def main(folder: str) -> None:
    """Be the rank that the agent's variables name, of the run in a folder; the agent takes a return as a good end."""
    path = Path(folder)
    plan = Plan.read(path)
    assert plan is not None, "nodes read it before they start ranks"
    number, here, world = (int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
    if number == 0:
        remote.begin(RunFolder(path), world)
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"  # or rank 0 makes one that listens at all addresses
    if number == 0 and world > 1:
        served(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    if code := remote.work(path, plan, number, here, world, plan.ranks, plan.reached()):
        os._exit(code)
