"""One rank: a training process, from the fork to its last event."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from .. import models, operations, tasks
from ..batches import described
from ..datasets import Data
from ..engine import precision, trials, turns
from ..engine.chain import Chain
from ..engine.hooks import Hook
from ..engine.loop import Fit
from ..engine.position import Part, rewind
from ..files import write_json
from ..host import ASKED, cores, die_with_parent, entitle, keep_memory, release_memory
from ..metrics import Metric, members
from ..objectives import Criterion
from ..optimizers import RANGE_TEST
from ..preparation import FOLDER
from ..store import control, shipping, trained
from ..store.checkpoints import NonFinite
from ..store.folder import RunFolder
from ..store.log import Log
from ..store.recorder import Recorder
from ..store.states import begin_all, seed_all
from ..store.trust import OTHERS
from ..strategies.base import Single
from ..switches import switched
from ..tables import pick, table
from ..tasks import Task
from ..tasks.routine import Routine
from . import failures

BREAK_OFF = signal.SIGUSR1  # that the supervisor sends to a rank whose step does not end, after a stop


class BrokenOff(BaseException):
    """Raised wherever a user's code stands, so that no `except Exception` of it stops a stop."""


class Outcomes(Protocol):
    """Takes "done" or "stopped" at a rank's end; an exit code alone could be one that a user's code exits with."""

    def send_bytes(self, buf: bytes) -> None:
        """Take the word."""


@dataclass(frozen=True)
class Seat:
    """
    Where a rank is.

    Attributes
    ----------
    world
        Ranks that there are now, where nodes come and go; None for as many as the spec says.
    gpu
        The GPU for this rank as CUDA_VISIBLE_DEVICES names it, or None for the CPU.
    sharing
        Ranks that share the cores, those of other runs too: more threads than cores wait for each other.
    """

    rank: int
    gpu: str | None
    sharing: int
    world: int | None = None
    timeout: float | None = None
    """Seconds that it waits for another rank, where that is not the spec's to say."""


def main(path: str, seat: Seat, cwd: str, modules: list[str], outcomes: Outcomes) -> None:
    """As `work`, and never return: destroying a process group under a live DDP model can hang for ever in gloo."""
    os._exit(work(RunFolder(Path(path), seat.world), seat, cwd, modules, outcomes))


def work(folder: RunFolder, seat: Seat, cwd: str, modules: list[str], outcomes: Outcomes) -> int:
    """
    Train as one rank of the run in a folder; returns what the process is to exit with.

    `cwd` and `modules` are the working directory and sys.path of the launching process.
    """
    die_with_parent()
    rank = seat.rank
    entitle(f"lepton-rank{rank}")
    keep_memory()
    os.umask(os.umask(OTHERS) | OTHERS)  # others must not change what is unpickled from the run's folder
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    redirect(folder.path / "logs" / f"rank{rank}.log")
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # who follows the log is to see it at once
    log = Log(folder.path / "events" / f"rank{rank}.jsonl", rank)
    ASKED.set(partial(_heard, folder))
    try:
        os.chdir(cwd)
        sys.path[:] = modules
        job = prepare(folder, seat, log)
        release_memory()  # of what was made on the way to the data
        outcome = job.chain() if folder.spec.compress else job.train()
        log.close()
        outcomes.send_bytes(outcome.encode())
        code = 0
    except BrokenOff as stood:  # before its first step
        folder.note(reason=f"stopped in {stood}")
        log.close()
        outcomes.send_bytes(b"stopped")
        code = 0
    except BaseException as error:  # SystemExit of a user's code too
        with contextlib.suppress(OSError):  # a full disk is often why we are here
            log.flush()
        # Training may be some steps past the one whose loss was found to be NaN.
        step = error.step if isinstance(error, NonFinite) else log.step
        with contextlib.suppress(OSError):
            failures.report(folder, rank, error, step, log.waits)
        with contextlib.suppress(OSError):
            log.close()
        with contextlib.suppress(OSError):
            traceback.print_exception(error)
        code = 1
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    return code


@dataclass
class Job:
    """What a rank does, of a run that trains a model or one that compresses another's."""

    folder: RunFolder
    log: Log
    strategy: Single
    """Started, and not set up."""
    data: Data
    task: Task
    loss: Criterion
    model: Any
    """The user's own as it was shipped, or None."""
    hooks: Sequence[Hook]
    """The user's own, in their order."""
    own: dict[str, type[Metric]]
    """The user's own metrics, by name."""
    facts: dict[str, Any]
    """What each system event tells: threads, device."""

    def train(self) -> str:
        """Train the spec's model; returns "done" or "stopped"."""
        self._set_up()
        self._tell()
        part = Part(self.folder.spec.epochs)
        fit = Fit(self.folder, self.strategy, self.data, self.loss, self.log, part, self.task, self.hooks, self.own)
        if self.folder.facts.get("attempt", 1) > 1:
            rewind(self.folder, self.log, fit.now.step)
        try:
            outcome = self._run(fit)
        finally:
            fit.control.close()
        if figures := self.log.report():
            self.log.write("note", step=fit.now.step, **figures)
        return outcome

    def chain(self) -> str:
        """Apply the spec's chain to the parent's model; returns "done" or "stopped"."""
        from ..measures import delivery

        self._tell()
        each = self.folder, self.strategy, self.data, self.loss, self.log, self.facts
        return Chain(*each, delivery, self.task, self.hooks, self.own).run()

    def _set_up(self) -> None:
        """Make the model, alike on every rank; then let each stream of samples draw its own numbers."""
        spec, strategy = self.folder.spec, self.strategy
        optimizer = pick(table("optimizer"), spec.optimizer, "optimizer")
        model = models.make(spec, self.data.sample, self.model)
        models.trainable(model, spec.model)
        if self.task.plain and not self.task.steps():
            trials.normalises(model, self.data, spec, strategy.parts)
        self.task.setup(model)
        make = lambda parameters: optimizer(parameters, spec)  # noqa: E731
        timed = precision.settle(self.folder, strategy, self.data, self.task, model, make)
        if self.task.steps():
            strategy.routine = partial(Routine, self.task)
        several = turns.optimizers(strategy, self.task, spec) if self.task.players else None
        strategy.setup(model, several or make)
        if timed and strategy.rank == 0 and "precision" not in self.folder.facts:
            self.log.write("note", step=0, text=precision.text(timed))
            self.folder.note(precision=timed["precision"])
        seed_all(spec.seed, strategy.stream)

    def _run(self, fit: Fit) -> str:
        """The loop, and what may end it early."""
        try:
            current, install = partial(signal.getsignal, BREAK_OFF), partial(signal.signal, BREAK_OFF)
            with switched(current, install, partial(_break_off, self.folder)):
                return fit.run()
        except BrokenOff as stood:
            outcome = fit.stop()
            reason = f"its step did not end, and was broken off in {stood}; saved as of step {fit.now.step}"
        except NonFinite as error:
            if self.folder.spec.schedule != RANGE_TEST:
                raise
            outcome, reason = "stopped", f"the loss diverged at step {error.step}, where a range test ends"
        self.folder.note(reason=reason)
        return outcome

    def _tell(self) -> None:
        """Note what views and artifacts ask for."""
        self.log.know(self.strategy.report, **self.facts)
        if self.strategy.rank == 0:
            if self.folder.facts.get("attempt", 1) == 1:
                for remark in self.data.remarks:
                    self.log.write("note", step=0, text=remark)
            fields = ("shape", "classes", "vocabulary", "tokens", "mean", "std", "unit")
            facts = {name: getattr(self.data, name) for name in fields} | {"task": tasks.called(self.task)}
            facts |= {name: value for name in ("pieces", "tokenizer") if (value := getattr(self.data, name))}
            if self.data.example is not None:
                facts["batch"] = described(self.data.example)
            self._tell_history()
            self.folder.note(**facts, threads=self.facts["threads"], device_name=self.facts["device"])

    def _tell_history(self) -> None:
        """Note what transforms did to the data, once for all, and keep which samples it concerned."""
        file = self.folder.path / FOLDER / "history.json"
        if self.data.history and not file.exists():
            file.parent.mkdir(exist_ok=True)
            write_json(file, list(self.data.history))
            for did in self.data.history:
                name, text = did["transform"], did["text"]
                self.log.write("note", step=0, transform=name, text=f"{name}: {text}", samples=len(did["samples"]))


def _heard(folder: RunFolder) -> None:
    """Break a wait off, such as for data that are downloaded, once a stop came."""
    if control.stopping(folder.path):
        raise BrokenOff("the download of its data")


def prepare(folder: RunFolder, seat: Seat, log: Log) -> Job:
    """
    Make what a rank works with, in the one order that gives the same weights for every world.

    The strategy starts first, since that may draw numbers and chooses the device. Then every rank begins its generators
    with the spec's seed, and takes up data and loss; its model is made after that (`Job.train`), from the same numbers.
    """
    log.start(partial(failures.standing, folder))  # now, since a user's code may stand still in its first line
    spec = folder.spec
    rank, gpu = seat.rank, seat.gpu
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    if seat.world is None:
        # Loopback only, whatever the host's name resolves to, and a cluster's settings say of other machines.
        os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = "lo"
    kind = shipping.unpack(folder, ("strategy",)).get("strategy") or pick(table("strategy"), spec.strategy, "strategy")
    strategy = kind(spec.replace(timeout=seat.timeout) if seat.timeout else spec, **spec.options_of(kind))
    torch.set_num_threads(threads := strategy.threads or max(1, cores() // seat.sharing))
    device = torch.device("cpu" if gpu is None else "cuda:0")
    strategy.start(rank, spec.world, folder.path / "rendezvous" if seat.world is None else None, device)
    begin_all(spec.seed)
    shipped = shipping.unpack(folder, ("model", "data", "loss", "task", "hooks", "metrics"))
    data = trained.data(folder, shipped.get("data"))
    loss = shipped.get("loss")
    if isinstance(loss, torch.nn.Module):
        loss = loss.to(device)
    task = tasks.make(spec, data, loss, shipped.get("task"))
    facts = {"threads": threads, "device": "cpu" if gpu is None else f"cuda ({torch.cuda.get_device_name(device)})"}
    facts |= {} if seat.world is None else {"host": socket.gethostname()}
    own = shipped.get("model"), shipped.get("hooks", ()), members(shipped.get("metrics"))
    log.own = Recorder(folder.path, log, spec.world, strategy.part == 0, folder.system(rank).get("logged", 0))
    return Job(folder, log, strategy, task.data, task, task.criterion(strategy.step_total), *own, facts)


def _break_off(folder: RunFolder, signum: int, frame: Any) -> None:
    """End a step in a user's code, outside of the update and of a save, so that the weights are those of a step."""
    where = failures.standing(folder)
    if where and not any(inner.f_code.co_name in ("_update", "_rest", "_save") for inner, _ in operations.stack()):
        raise BrokenOff(where)


def redirect(path: Path) -> None:
    """Send what this process prints to a log: only events reach a notebook."""
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
