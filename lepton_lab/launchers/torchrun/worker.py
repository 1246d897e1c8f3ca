"""One rank of a run over several machines: started by the agent of its machine, as often as nodes come and go."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil

from ...files import write_json
from ...store import control
from ...store.folder import RunFolder
from .. import devices, failures, rank
from .plan import Plan, served

OUTCOME = "outcome.json"
ENDED = 30.0  # seconds in which the coordinator ends a run of which a rank failed


class Outcome:
    """Takes a rank's last word: of rank 0 it is kept, for the coordinator, as that of all."""

    def __init__(self, folder: Path, number: int, life: str) -> None:
        self.folder, self.number, self.life = folder, number, life

    def send_bytes(self, word: bytes) -> None:
        """Keep "done" or "stopped"."""
        if self.number == 0:
            write_json(self.folder / OUTCOME, {"life": self.life, "outcome": word.decode()})


def main(folder: str) -> None:
    """Be the rank that the agent's variables name, of the run in a folder; the agent takes a return as a good end."""
    path = Path(folder)
    plan = Plan.read(path)
    assert plan is not None, "nodes read it before they start ranks"
    number, here, world = (int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
    if number == 0:
        _begin(RunFolder(path), world)
    gpu = devices.gpus()[here] if plan.device == "cuda" else None
    outcome = Outcome(path, number, plan.life)
    os.environ.setdefault("LEPTON_LAB_DATA", plan.data)  # which ssh does not pass on
    # Or gloo takes what the host's name resolves to, which often is the loopback.
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(name, _interface(plan.reached()))
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"  # or rank 0 makes one that listens at all addresses
    if number == 0 and world > 1:
        served(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    seat = rank.Seat(number, gpu, plan.ranks, world, plan.timeout)
    if code := rank.work(folder, seat, plan.cwd, plan.modules, outcome):
        os._exit(code)


def _interface(address: str) -> str:
    """Name of this machine's network interface with an address."""
    found = psutil.net_if_addrs().items()
    return next(name for name, each in found if any(one.address == address for one in each))


def _begin(folder: RunFolder, world: int) -> None:
    """Note that ranks begin, before any of them can go on: the others wait for this one."""
    if failures.began(failures.reports(folder)) is not None:
        time.sleep(ENDED)  # the agent has begun again, but the coordinator is about to end the run
    for path in (folder.path / "errors").iterdir():
        path.unlink(missing_ok=True)
    control.begin(folder.path)
    if folder.facts["state"] == "paused":  # whoever asked for that is still to have it
        control.send(folder.path, "pause")
    attempt = folder.facts.get("attempt", 0) + 1
    folder.set_state("starting", attempt=attempt, world=world, evaluating=False)  # where ranks died in an evaluation
