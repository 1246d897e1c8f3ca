"""One rank: a training process, from the fork to its last event."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import datasets, models, operations
from ..engine import trials
from ..host import cores, die_with_parent, entitle, keep_memory
from ..optimizers import RANGE_TEST
from ..store import shipping
from ..store.checkpoints import NonFinite
from ..store.folder import RunFolder
from ..store.log import Log
from ..store.states import seed_all
from ..store.trust import OTHERS
from ..tables import pick, table
from . import failures

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


BREAK_OFF = signal.SIGUSR1  # that the supervisor sends to a rank whose step does not end, after a stop


class BrokenOff(BaseException):
    """Raised wherever a user's code stands, so that no `except Exception` of it stops a stop."""


def main(
    path: str, rank: int, cwd: str, modules: list[str], gpu: str | None, sharing: int, outcomes: Connection
) -> None:
    """
    Train as one rank of a run; never returns.

    Parameters
    ----------
    path
        The run folder.
    rank
        This process's rank.
    cwd, modules
        Working directory and sys.path of the launching process.
    gpu
        The GPU leased for this rank as CUDA_VISIBLE_DEVICES names it, or None for the CPU.
    sharing
        Ranks that share the cores, those of other runs too: more threads than cores wait for each other.
    outcomes
        Takes "done" or "stopped" at the end; an exit code alone could be one that a user's code exits with.
    """
    die_with_parent()
    entitle(f"lepton-rank{rank}")
    keep_memory()
    os.umask(os.umask(OTHERS) | OTHERS)  # others must not change what is unpickled from the run's folder
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    folder = RunFolder(Path(path))
    _redirect(folder.path / "logs" / f"rank{rank}.log")
    log = Log(folder.path / "events" / f"rank{rank}.jsonl", rank)
    try:
        os.chdir(cwd)
        sys.path[:] = modules
        outcome = _train(folder, rank, gpu, sharing, log)
        log.close()
        outcomes.send_bytes(outcome.encode())
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
            print(failures.text(error), file=sys.stderr)
        code = 1
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    # No teardown: destroying a process group under a live DDP model can hang for ever in gloo.
    os._exit(code)


def _train(folder: RunFolder, rank: int, gpu: str | None, sharing: int, log: Log) -> str:
    import numpy as np
    import torch

    from ..engine.chain import Chain
    from ..engine.loop import Fit, rewind
    from ..losses import Criterion, usual_loss

    log.start(partial(failures.standing, folder))  # now, since a user's code may stand still in its first line
    spec = folder.spec
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    if sys.platform == "linux":
        # Loopback only, whatever the host's name resolves to, and a cluster's settings say of other machines.
        os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = "lo"
    strategy = shipping.unpack(folder, ("strategy",)).get("strategy")
    strategy = strategy or pick(table("strategy"), spec.strategy, "strategy")
    strategy = strategy(spec, **spec.options_of(strategy))
    torch.set_num_threads(threads := strategy.threads or max(1, cores() // sharing))
    device = torch.device("cpu" if gpu is None else "cuda:0")
    strategy.start(rank, spec.world, folder.path / "rendezvous", device)
    random.seed(spec.seed)
    np.random.seed(spec.seed)
    torch.manual_seed(spec.seed)  # the same weights on every rank
    shipped = shipping.unpack(folder, ("model", "data", "loss"))
    data = shipped.get("data") or datasets.load(spec)
    loss = shipped.get("loss") or usual_loss(data)
    if isinstance(loss, torch.nn.Module):
        loss = loss.to(device)
    loss = Criterion(loss, data, strategy.step_total)
    facts = {"threads": threads, "device": _name(device)}
    if not spec.compress:
        optimizer = pick(table("optimizer"), spec.optimizer, "optimizer")
        model = models.make(spec, data.sample, shipped.get("model"))
        models.trainable(model, spec.model)
        trials.normalises(model, data, spec, strategy.parts)
        strategy.setup(model, lambda parameters: optimizer(parameters, spec))
        seed_all(spec.seed, strategy.stream)
    log.know(strategy.report, **facts)
    if rank == 0:
        folder.note(
            shape=list(data.shape),
            classes=data.classes,
            vocabulary=data.vocabulary,
            tokens=data.tokens,
            mean=list(data.mean),
            std=list(data.std),
            threads=threads,
            device_name=_name(device),
        )
    if spec.compress:
        from ..measures import delivery

        return Chain(folder, strategy, data, loss, log, facts, delivery).run()
    fit = Fit(folder, strategy, data, loss, log)
    if folder.facts.get("attempt", 1) > 1:
        rewind(folder, log, fit.now.step)
    try:
        with _breakable(folder):
            outcome = fit.run()
    except BrokenOff as stood:
        outcome = fit.stop()
        folder.note(reason=f"its step did not end, and was broken off in {stood}; saved as of step {fit.now.step}")
    except NonFinite as error:
        if spec.schedule != RANGE_TEST:
            raise
        outcome = "stopped"
        folder.note(reason=f"the loss diverged at step {error.step}, where a range test ends")
    finally:
        fit.control.close()
    if figures := log.report():
        log.write("note", step=fit.now.step, **figures)
    return outcome


@contextlib.contextmanager
def _breakable(folder: RunFolder) -> Iterator[None]:
    """Where BREAK_OFF ends a step: in a user's code, outside of the update, so that the weights are those of a step."""

    def leave(signum: int, frame: Any) -> None:
        where = failures.standing(folder)
        if where and not any(inner.f_code.co_name in ("_update", "_save") for inner, _ in operations.stack()):
            raise BrokenOff(where)

    before = signal.signal(BREAK_OFF, leave)
    try:
        yield
    finally:
        signal.signal(BREAK_OFF, before)


def _name(device: Any) -> str:
    if device.type == "cpu":
        return "cpu"
    import torch

    return f"cuda ({torch.cuda.get_device_name(device)})"


def _redirect(path: Path) -> None:
    """Send what a rank prints to its log: only events reach a notebook."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # who follows the log is to see it at once
