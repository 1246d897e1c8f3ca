"""What a machine does of a run: it brings it down, tells the coordinator that it lives, and runs an agent."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path

from ...errors import LabError
from ...files import why
from ...host import SPINS, die_with_parent, entitle, machine
from ...store.finding import addressed
from ...store.folder import ENDED, RunFolder
from ...store.objects.bucket import SILENT, usable
from ...store.objects.mirror import Mirror
from ..remote import Unfit
from ..warm import WARM
from . import worker
from .hosts import REFUSED
from .plan import BEAT, Plan
from .settings import Torchrun

BOUND = f"{__package__}.bound"  # imported by the fork server alone
SHARED = 20.0  # seconds until a file of another machine is seen, where the folder is shared at all
BROUGHT = 5.0  # seconds for a run that was launched just now to be on its store
WAIT = 60.0  # seconds for the coordinator to say how the ranks find each other


def attached(place: str, life: str, turn: str = "") -> int:
    """As `main` for one life of a run, ending with the parent; what is refused is printed, and its code returned."""
    die_with_parent()
    try:
        return main(place, life, turn)
    except LabError as error:
        print(error, file=sys.stderr)
        return REFUSED if isinstance(error, Unfit) else 1


def main(place: str, life: str = "", turn: str = "") -> int:
    """
    Take part in a run until it has ended; returns what the process is to exit with.

    Parameters
    ----------
    place
        The run's folder, which the machines share, or its address on a store, as s3://bucket/prefix/runs/ID.
    life
        That of the run, where the coordinator starts the node; else the one that the folder tells.
    turn
        Told apart from earlier ones of that life, whose agents may have closed what they met by.

    Raises
    ------
    LabError
        If the run takes no nodes; an `Unfit` if it can't take this machine.
    """
    entitle("lepton-node")
    if "://" not in place:
        plan = _shared(Path(place), life) if life else _plan(RunFolder(Path(place)))
        if not plan.store:
            return _take_part(plan, place, turn)
        place = f"{plan.store}/runs/{Path(place).name}"
    address, id = addressed(place)
    if id is None:
        raise LabError(f"{place!r} names no run: give its address in full, as s3://bucket/prefix/runs/ID")
    mirror = Mirror(address, id)
    try:
        plan = _brought(mirror, life)
        mirror.start(plan.life)
        return _take_part(plan, str(mirror.root), turn, mirror.finish)
    finally:
        mirror.close()


def _take_part(plan: Plan, place: str, turn: str, finish: Callable[[], None] = lambda: None) -> int:
    """As `main`, once the node knows the plan; `finish` is called before the coordinator takes it for gone."""
    plan.refuse()
    _ready_to_fork()  # beside our own imports
    member = Member(plan)
    # Until ranks begin, from when on torch has a handler: the coordinator is to be told of this end, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0 if member.over else 1))
    threading.Thread(target=member.live, name="lepton-node", daemon=True).start()
    try:
        from . import agent  # takes seconds, for which ranks at work need not stand still

        ours = agent.make(plan, member.address, turn, place)
        member.join()
        return agent.run(ours, lambda: member.over)
    finally:
        member.done = True
        finish()
        member.leave()


class Member:
    """A node as the coordinator sees it: its name, and that it lives."""

    def __init__(self, plan: Plan) -> None:
        self.store = plan.connect()
        self.over = self.done = False
        self._left = threading.Event()
        self.address = plan.reached()
        self.number = self.store.add("nodes", 1) - 1
        where = {"host": socket.gethostname(), "machine": machine(), "address": self.address}
        self.about = {**where, "pid": os.getpid(), "since": time.time()}
        self.store.set(f"node{self.number}", json.dumps(self.about))

    def join(self) -> None:
        """Wait to be let in: ranks that are at work save before, since they begin again with those of this node."""
        self.store.set(f"join{self.number}", "")
        while not self.store.check([f"welcome{self.number}"]):
            time.sleep(0.05)  # in place of a wait of the store's, which would keep signs of life from it

    def live(self) -> None:
        """Give signs of life, until the coordinator says that it is over or can't be reached."""
        try:
            while not self._left.wait(BEAT):
                self.store.add(f"beat{self.number}", 1)
                if not self.over and self.store.check(["over"]):
                    self._end()
        except Exception as error:
            if not self.over:
                print(f"the coordinator can't be reached: {error}", file=sys.stderr, flush=True)
                self._end()

    def _end(self) -> None:
        self.over = True
        if not (self.done or self._left.is_set()):
            os.kill(os.getpid(), signal.SIGTERM)  # on which the agent ends its ranks

    def leave(self) -> None:
        """Tell the coordinator, which may be gone, that this node has ended."""
        self._left.set()
        with contextlib.suppress(Exception):
            self.store.set(f"left{self.number}", "")


def _shared(path: Path, life: str) -> Plan:
    """The plan of a life, from a folder that must be the one of the machine that launched the run. `Unfit` if not."""
    host, until = socket.gethostname(), time.monotonic() + SHARED
    remedy = "put LEPTON_LAB_HOME on a file system that all machines share, at the same path"
    while (plan := Plan.read(path)) is None or plan.life != life:
        if time.monotonic() > until:
            raise Unfit(f"{str(path)!r} on {host} is not the folder that the run was launched in: {remedy}")
        time.sleep(0.2)
    try:
        with tempfile.TemporaryFile(dir=path / "logs"):
            pass
    except OSError as error:
        raise Unfit(f"{str(path)!r} can't be written on {host} ({why(error, path)}): {remedy}, writable") from None
    return plan


def _ready_to_fork() -> None:
    """Start what forks ranks, with what each would import. It and they are deaf to USR2, which Slurm sends to all."""
    os.environ.update(SPINS)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # or the agent says that it sets it; ranks choose their own
    multiprocessing.set_forkserver_preload([BOUND, *WARM, worker.__name__])
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    forkserver.ensure_running()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _brought(mirror: Mirror, life: str) -> Plan:
    """The plan of a life, or of the present one, from a store. `Unfit` if this machine can't have it from there."""
    host, until = socket.gethostname(), time.monotonic() + (SHARED if life else BROUGHT)
    try:
        while time.monotonic() < until:
            mirror.bring()
            if (mirror.base / "spec.json").exists():
                usable(mirror.bucket.address)
                if not life:
                    return _plan(RunFolder(mirror.base), mirror.bring)
            if (plan := Plan.read(mirror.base)) is not None and plan.life == life:
                return plan
            time.sleep(0.2)
    except LabError as error:
        if SILENT in str(error) or not life:  # which may be over when it is tried again
            raise
        raise Unfit(f"{host}: {error}") from None
    run, address = mirror.base.name, mirror.bucket.address
    raise Unfit(f"{host} finds no run {run!r} that takes nodes at {address!r}: give the command that the run says")


def _plan(folder: RunFolder, bring: Callable[[], object] = lambda: None) -> Plan:
    """What the coordinator says; it may not be there yet."""
    if (folder.facts.get("launcher") or {}).get("name") != Torchrun.name:
        raise LabError(f"run {folder.id!r} takes no nodes: launch one with lab.launch(spec, on=lab.Torchrun(...))")
    until = time.monotonic() + WAIT
    while folder.state == "queued" or (folder.state == "starting" and Plan.read(folder.path) is None):
        if time.monotonic() > until:
            break
        time.sleep(0.1)
        bring()
    plan = None if folder.state in (*ENDED, "queued") else Plan.read(folder.path)
    if plan is None:
        raise LabError(f"run {folder.id!r} is {folder.state} and takes no nodes: resume it first")
    return plan
