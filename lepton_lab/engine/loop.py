"""The only training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from .. import metrics
from ..datasets import Data
from ..losses import Criterion, Objective
from ..optimizers import factor
from ..store import checkpoints
from ..store.checkpoints import NonFinite
from ..store.control import Control
from ..store.folder import RunFolder
from ..store.log import Journal, Log
from ..store.recorder import recording
from ..strategies.base import Single
from ..tasks import Task
from .evaluation import evaluate
from .feed import Feed
from .hooks import Hook, Hooks
from .tracing import Tracer

WAIT = 0.02  # seconds between looks while paused


@dataclass
class Progress:
    """Where training stands; with a checkpoint of it, it goes on as if never interrupted."""

    lr: float
    clip: float
    weight_decay: float
    step: int = 0
    epoch: int = 0
    position: int = 0
    """Steps done in the epoch."""
    sums: list[float] = field(default_factory=list)
    """The epoch's figures x samples of this rank so far, in the order of `metrics.steps`, and its samples."""
    totals: list[float] = field(default_factory=list)
    """The same over all ranks, as of the last checkpoint."""


@dataclass(frozen=True)
class Part:
    """What is trained at a time: the whole run, or, where it compresses, the epochs after one link of its chain."""

    epochs: int
    step: int = 0
    """Optimizer steps of the run before it."""
    epoch: int = 0
    """Epochs of the run before it."""
    steps: int = 0
    """Optimizer steps of the whole run, or 0 where that is this part."""
    objective: Objective | None = None
    """What is minimised in place of the loss, which then is for evaluation alone."""
    control: Control | None = None
    """What takes the run's commands, if it is there already."""


@dataclass
class Fit:
    """
    The training of one rank; `run` is the loop.

    Attributes
    ----------
    figures : dict
        What the last evaluation of each split found, by its name.
    """

    folder: RunFolder
    strategy: Single
    """Set up with model and optimizer."""
    data: Data
    loss: Criterion
    log: Log
    part: Part
    task: Task | None = None
    """Says what a batch means; of pairs (x, y), None does."""
    hooks: Sequence[Hook] = ()
    """Functions of a user, called at the moments of `hooks.EVENTS`."""

    def __post_init__(self) -> None:
        folder, strategy, data, log, part = self.folder, self.strategy, self.data, self.log, self.part
        self.spec = spec = folder.spec
        self.train, self.val, self.test = (
            Feed(split, data, spec, strategy, self.task) for split in (data.train, data.val, data.test)
        )
        self.control = part.control or Control(folder.path, strategy.rank, strategy.world, strategy.lead)
        self.metrics = metrics.of(data, self.loss)
        self.steps = part.epochs * self.train.steps
        self.now = Progress(spec.lr, spec.clip, spec.weight_decay, part.step, part.epoch)
        self._steered = steered = folder.facts.get("steered") or {}  # by `run.resume`; no checkpoint holds it yet
        self.figures: dict[str, dict[str, Any]] = {}
        self.latest: dict[str, float] = {}  # of all splits, as hooks see them
        self._own, self._hooks = log.own, Hooks(self.hooks, self) if self.hooks else None
        if (saved := checkpoints.load(folder, strategy, lambda text: log.write("note", text=text))) is not None:
            self.now = Progress(**saved)
            log.step = self.now.step
            self._steer(steered)
        self.fresh = saved is None  # whether no step of it was made yet
        self._names = metrics.steps()
        if len(self.now.sums) != len(self._names) + 1:  # also of a checkpoint when other metrics were counted
            self._begin_sums()
        self.nonfinite: int | None = None  # step whose loss was NaN or infinite, as soon as the log has read it
        log.read = self._sum
        # Step of the last checkpoint that holds all of `now`, the same on every rank.
        self._saved = self.now.step if saved and not steered else None
        self._bears_nan = False  # whether its loss was finite over samples with NaN, which a model of its own may take

    def run(self) -> str:
        """Train to the end, or until a stop; returns "done" or "stopped"."""
        with recording(self._own):
            self._place(self.now.step)
            if self._hooks:
                self._hooks("start")
            outcome = self._train()
            if self._hooks:
                self._hooks("end")
            return outcome

    def _train(self) -> str:
        now, log, part = self.now, self.log, self.part
        objective = metrics.counted(self.data, part.objective or self.loss)
        tracer = Tracer(self.folder, self.strategy, log, now.step)
        steps = part.steps or self.steps
        facts = {"samples": self.train.n, "parts": self.strategy.parts, "base_lr": now.lr}
        self._state("running", step=now.step, steps=steps, **facts)
        log.rest(None)
        if self.fresh and self.strategy.rank == 0 and (shares := self.train.padding()):
            text = f"padding is {shares[0]:.1%} of a batch, and {shares[1]:.1%} if lengths were not taken together"
            log.write("note", step=now.step, text=text)
        if self._steered and self.strategy.rank == 0:
            log.write("note", command="set", step=now.step, **self._steered)
        while now.epoch < part.epoch + part.epochs:
            for batches, count in self.train.epoch(now.epoch, skip=now.position):
                while command := self.control.next(now.step):
                    if self._obey(command) == "stop":
                        return self.stop()
                lr = self._set_lr()
                self._place(now.step + 1)
                weighed = objective.over(batches)
                loss, counts, samples = tracer.step(now.step, weighed, count, objective, now.clip)
                now.step += 1
                now.position += 1
                log.train(now.step, now.epoch, loss, counts, samples, lr)
                if self.nonfinite is not None:
                    self._check()
                if self._hooks:
                    self._hooks.step(loss)
            now.epoch += 1
            now.position = 0
            self._epoch_ends()
        if not part.epochs or not self.spec.eval_every or now.epoch % self.spec.eval_every:
            self._evaluate("val", self.val)
        self._save()
        self._evaluate("test", self.test)
        return "done"

    def _epoch_ends(self) -> None:
        spec, now = self.spec, self.now
        self._epoch_figures()
        if spec.eval_every and now.epoch % spec.eval_every == 0:
            self._evaluate("val", self.val)
        if spec.checkpoint_every and now.epoch % spec.checkpoint_every == 0:
            self._save()

    def _epoch_figures(self) -> None:
        """The epoch's figures of training, over all ranks, as they were while the model changed."""
        self._check()
        *sums, n = self._totals()
        self._begin_sums()
        if n:
            figures = {name: value / n for name, value in zip(self._names, sums, strict=True) if not math.isnan(value)}
            figures = metrics.with_following(self.metrics, "train", figures)
            self._note("train", figures)
            if self.strategy.rank == 0:
                self.log.evaluation("train", self.now.step, self.now.epoch - 1, **figures, samples=int(n))
        if self._hooks:
            self._hooks("epoch")

    def _note(self, split: str, figures: dict[str, Any]) -> None:
        numbers = {name: value for name, value in figures.items() if isinstance(value, (int, float))}
        self.latest |= {f"{split}_{name}": value for name, value in numbers.items() if name != "samples"}

    def _place(self, step: int, split: str = "train") -> None:
        """Say where it stands, for what a user's code logs."""
        if self._own:
            self._own.place = step, split

    def _begin_sums(self) -> None:
        self.now.sums = [0.0] * (len(self._names) + 1)

    def _sum(self, step: int, loss: float, counts: list[float], samples: int) -> None:
        """Add a step to the epoch's sums; NaN is the sum of what has no meaning."""
        sums = self.now.sums
        if math.isfinite(loss):
            sums[0] += loss * samples
        else:
            self.nonfinite = self.nonfinite or step
        for i in range(1, len(sums) - 1):
            sums[i] += counts[i - 1] if counts else math.nan
        sums[-1] += samples

    def _totals(self) -> list[float]:
        sums = torch.tensor(self.now.sums, dtype=torch.float64, device=self.strategy.device)
        return self.strategy.total(sums).tolist()

    def _evaluate(self, split: str, feed: Feed) -> None:
        if not feed.n:
            return
        start = time.perf_counter()
        if self.strategy.rank == 0:
            self.folder.note(evaluating=True)  # so that a stop waits for its end
        self._place(self.now.step, split)
        self.figures[split] = figures = evaluate(self.strategy, feed, self.metrics, split)
        self._place(self.now.step)
        self.log.rest(seconds := time.perf_counter() - start)
        if self.strategy.rank == 0:
            self._doubt(split, feed, figures[metrics.MINIMISED])
            self.folder.note(evaluating=False)
            self.log.evaluation(split, self.now.step, max(self.now.epoch - 1, 0), **figures, seconds=round(seconds, 4))
        self._note(split, figures)
        if self._hooks:
            self._hooks("evaluation", split)

    def _doubt(self, split: str, feed: Feed, loss: float) -> None:
        """Say that an evaluation's loss is no number, and why where that is known."""
        doubts = self.folder.facts.get("doubts", {})
        if not math.isfinite(loss):
            why = "" if feed.unsound is None else f": sample {feed.unsound} of its data holds such"
            self.folder.note(doubts={**doubts, split: f"the loss of the {split} set is NaN or infinite{why}"})
        elif split in doubts:
            self.folder.note(doubts={name: text for name, text in doubts.items() if name != split})

    def _set_lr(self) -> float:
        lr = self.now.lr * factor(self.spec, self.now.step - self.part.step, self.steps)
        for group in self.strategy.optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _steer(self, values: dict[str, float]) -> None:
        """Take over what is to hold from here on in place of what was saved."""
        vars(self.now).update(values)
        for group in self.strategy.optimizer.param_groups:
            if group.get("weight_decay") is not None:
                group["weight_decay"] = self.now.weight_decay

    def _obey(self, command: dict[str, Any]) -> str:
        """Do what a command says, on all ranks at this step; returns "stop" if the loop must end."""
        name = command["command"]
        values = {key: value for key, value in command.items() if key not in ("command", "at", "asked")}
        asked = {"asked": command["asked"]} if "asked" in command else {}
        if self.strategy.rank == 0:
            self.log.write("note", command=name, step=self.now.step, **values, **asked)
            if asked and name == "stop":
                self.folder.note(reason=f"a hook asked for it at step {command['asked']}")
        if name == "set":
            self._saved = None  # what was saved at this step lacks it
            self._steer(values)
            if self.strategy.rank == 0:
                self.folder.note(base_lr=self.now.lr)
        elif name == "checkpoint":
            self._save()
        elif name == "pause":
            return self._pause()
        return name

    def _pause(self) -> str:
        """Stand still, all ranks at the same step, until resumed or stopped; the last command obeyed is returned."""
        self._state("paused", step=self.now.step)
        while True:
            command = self.control.next(self.now.step, waiting=True)
            if command is None:
                time.sleep(WAIT)
            elif command["command"] != "pause":
                if self._obey(command) == "stop":
                    return "stop"
                if command["command"] == "resume":
                    self.log.rest(None)
                    self._state("running", step=self.now.step)
                    return "resume"

    def stop(self) -> str:
        """Save what the steps done by now have made, and leave it at that."""
        self._state("stopping", step=self.now.step)
        self._save()
        return "stopped"

    def _save(self) -> None:
        self._check()
        if self._saved != self.now.step:
            start = time.perf_counter()
            self.now.totals = self._totals()
            checkpoints.save(self.folder, self.strategy, self.now.step, asdict(self.now))
            self._saved = self.now.step
            self.log.rest(time.perf_counter() - start)

    def _check(self) -> None:
        """Fail if any loss so far was not finite."""
        self.log.flush()
        step, unsound = self.nonfinite, self.train.unsound
        if step is None:
            self._bears_nan |= unsound is not None
            return
        if unsound is not None and not self._bears_nan:
            raise NonFinite(f"the loss is NaN or infinite, since sample {unsound} of the training data holds such", 0)
        if step == 1:
            message = "the first loss is NaN or infinite, before anything was learned: look into the data and the loss"
            raise NonFinite(message, 0)
        raise NonFinite(f"the loss became NaN or infinite at step {step}: lower lr, or set clip", step)

    def _state(self, state: str, **facts: Any) -> None:
        if self.strategy.rank == 0:
            self.folder.set_state(state, **facts)
            self.log.write("state", state=state, **facts)


def rewind(folder: RunFolder, log: Log, step: int, where: str = "") -> None:
    """
    Void what was done after `step`, from which a run goes on; every rank calls it.

    Rank 0 does so for the ranks beyond the present world, too, when the run had more of them.
    """
    text, world = f"goes on from step {step}{where}", folder.spec.world
    log.write("note", rewind=step, world=world, text=text)
    if log.own:
        log.own.resume(step)
    if log.rank:
        return
    for path in (folder.path / "events").glob("rank*.jsonl"):
        if (rank := int(path.stem.removeprefix("rank"))) >= world:
            journal = Journal(path, rank)
            journal.write("note", rewind=step, world=world, text=f"{text} without this rank")
            journal.close()
