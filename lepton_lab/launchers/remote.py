"""What ranks share that an engine starts, on whatever machine: their part of the contract."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil
import torch

from ..errors import LabError
from ..files import data_root, read_json, write_json
from ..host import version
from ..spec import Spec
from ..store import control
from ..store.apart import ApartFolder
from ..store.board import Board
from ..store.folder import RunFolder
from . import devices, failures, rank

if TYPE_CHECKING:
    from .supervision import Supervision

OUTCOME = "outcome.json"
LONGEST = 60.0  # seconds that a rank waits for another, if nobody asks for others: as long as it takes to see its loss
ENDED = 30.0  # seconds in which the supervisor ends a run of which a rank failed


@dataclass(frozen=True, kw_only=True)
class Life:
    """
    What ranks must know of a run's present life, beside its folder.

    Attributes
    ----------
    life
        Told apart from earlier lives of the run, whose processes may linger.
    device
        "cuda" or "cpu".
    timeout
        Seconds that a rank waits for another.
    cwd, modules, data
        Working directory, sys.path and folder of data sets of the launching process.
    versions
        Of what must be alike on all machines, by name.
    """

    life: str
    device: str
    timeout: float
    cwd: str
    modules: list[str]
    data: str
    versions: dict[str, str]

    @classmethod
    def of(cls, run: Supervision, **more: object) -> Self:
        """A new life of a run, in which no rank has said or reported anything yet."""
        path = run.folder.path
        for left in (path / OUTCOME, *(path / "errors").iterdir()):
            left.unlink(missing_ok=True)
        timeout = LONGEST if (asked := run.folder.spec.timeout) == Spec().timeout else asked
        place = {"cwd": run.order["cwd"], "modules": run.order["path"], "data": str(data_root())}
        life = f"{run.folder.id}-{secrets.token_hex(4)}"
        about = {"life": life, "device": run.needs["device"], "timeout": timeout, "versions": versions()}
        return cls(**about, **place, **more)  # type: ignore[arg-type]


def versions() -> dict[str, str]:
    """Here, of what must be alike on all machines; torch's without what it was built for."""
    torch_version = torch.__version__.partition("+")[0]
    return {
        "lepton-lab": version("lepton-lab") or "0",
        "torch": torch_version,
        "Python": "{}.{}".format(*sys.version_info),
    }


def refuse(life: Life) -> None:
    """Refuse, with an `Unfit`, a life whose ranks can't be on this machine, since versions differ."""
    host, here = socket.gethostname(), versions()
    for name, there in life.versions.items():
        if here.get(name) != there:
            raise Unfit(
                f"{host} has {name} {here.get(name)}, and the run was launched with {there}: install the same "
                "environment on all machines"
            )


class Unfit(LabError):
    """Why a machine can't take part in a run, now or later."""


class Outcome:
    """Takes a rank's last word: of rank 0 it is kept, for the supervisor, as that of all."""

    def __init__(self, folder: Path, number: int, life: str) -> None:
        self.folder, self.number, self.life = folder, number, life

    def send_bytes(self, word: bytes) -> None:
        """Keep "done" or "stopped"."""
        if self.number == 0:
            write_json(self.folder / OUTCOME, {"life": self.life, "outcome": word.decode()})


def said(folder: Path, life: str) -> str:
    """What the ranks of a life ended as: "done" or "stopped"; "" before that."""
    word = read_json(folder / OUTCOME)
    return str(word["outcome"]) if word and word["life"] == life else ""


def work(folder: RunFolder, life: Life, number: int, here: int, sharing: int, address: str) -> int:
    """
    Be a rank whose group meets where MASTER_ADDR and MASTER_PORT say; returns what its process is to exit with.

    Its error, if any, is reported in the folder, and its last word kept there (`said`).

    Parameters
    ----------
    folder
        The run's, with as many ranks as there are now.
    number, here
        The rank among all, and among those of its machine, which says its GPU.
    sharing
        Ranks of the machine.
    address
        Of this machine, by which the others reach it.
    """
    gpu = devices.gpus()[here] if life.device == "cuda" else None
    # Or gloo takes what the host's name resolves to, which often is the loopback.
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(name, _interface(address))
    cwd, modules = life.cwd, life.modules
    apart = isinstance(folder, ApartFolder)
    if not apart or Path(life.data).is_dir():
        os.environ.setdefault("LEPTON_LAB_DATA", life.data)
    if apart:  # on a machine that may have its files elsewhere
        cwd = cwd if Path(cwd).is_dir() else str(folder.path)
        modules = list(dict.fromkeys([*(path for path in modules if Path(path).exists()), *sys.path]))
    else:
        folder.board = Board(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), life.timeout)
    seat = rank.Seat(number, gpu, sharing, folder.world, life.timeout)
    return rank.work(folder, seat, cwd, modules, Outcome(folder.path, number, life.life))


def begin(folder: RunFolder, world: int) -> None:
    """By rank 0, before any rank can go on: note that ranks begin, which they may do more than once in a life."""
    if failures.began(failures.reports(folder)) is not None:
        time.sleep(ENDED)  # its engine has begun again, but the supervisor is about to end the run
    for path in (folder.path / "errors").iterdir():
        path.unlink(missing_ok=True)
    control.begin(folder.path)
    if folder.facts["state"] == "paused":  # whoever asked for that is still to have it
        control.send(folder.path, "pause")
    attempt = folder.facts.get("attempt", 0) + 1
    folder.set_state("starting", attempt=attempt, world=world, evaluating=False)  # where ranks died in an evaluation


def _interface(address: str) -> str:
    """Name of this machine's network interface with an address."""
    interfaces = psutil.net_if_addrs().items()
    return next(name for name, each in interfaces if any(one.address == address for one in each))
