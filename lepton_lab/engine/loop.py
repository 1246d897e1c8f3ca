"""The only training loop."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import metrics, watched
from ..datasets import Data, Stream
from ..errors import SpecError
from ..metrics import Metric
from ..metrics.loss import WEIGHTLESS
from ..objectives import Criterion
from ..store import checkpoints
from ..store.control import Control
from ..store.folder import RunFolder
from ..store.log import Log
from ..store.own import log as own_number
from ..store.recorder import recording
from ..strategies.base import Single
from ..tasks import Task
from .answers import Answers
from .average import Average
from .evaluation import doubt, evaluate, try_out
from .feed import Feed
from .gallery import GLIMPSE, Gallery, due
from .hooks import Hook, Hooks
from .judging import Judge
from .position import Part, Progress
from .steering import Steerable
from .tally import Tally
from .tracing import Tracer
from .turns import Turns, losses


@dataclass
class Fit(Steerable):
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
    own: Mapping[str, type[metrics.Metric]] = field(default_factory=dict)
    """The user's own metrics, by name."""

    def __post_init__(self) -> None:
        folder, strategy, data, log, part = self.folder, self.strategy, self.data, self.log, self.part
        self.spec = spec = folder.spec
        self.train, self.val, self.test = (
            Feed(split, data, spec, strategy, self.task) for split in (data.train, data.val, data.test)
        )
        self.control = part.control or Control(folder.path, strategy.rank, strategy.world, strategy.lead, folder.board)
        self.turns = Turns(strategy, self.task) if self.task and self.task.players else None
        usual = self.task.metrics if self.task else ()
        self.metrics = metrics.of(data, self.loss, spec, self.own, usual)
        beside = self.task.figures() if self.task else []
        self._charts = beside or metrics.leading(self.metrics, usual)
        if self.task:
            self.metrics |= losses(self.task, data, self.loss)
        self.steps = part.epochs * self.train.steps
        self.now = Progress(spec.lr, spec.clip, spec.weight_decay, part.step, part.epoch)
        # By `run.resume` and `run.extend`; no checkpoint holds it yet.
        self._steered = steered = folder.facts.get("steered") or {}
        self._extended = extended = folder.facts.get("extended") or {}
        self.figures: dict[str, dict[str, Any]] = {}
        self.latest: dict[str, float] = {}  # of all splits, as hooks see them
        for loss in (self.loss, *([part.objective.criterion] if part.objective else [])):
            loss.tell = own_number
        self._own, self._hooks = log.own, Hooks(self.hooks, self) if self.hooks else None
        self._judged: dict[str, Any] = {}  # figures of the epoch that ends, by key
        self.judge = Judge(spec, self.metrics, [name for name in ("train", "val") if getattr(self, name).n], strategy)
        self.average = Average(strategy.module, spec.ema) if spec.ema else None
        average = self.average.values if self.average else {}
        saved = checkpoints.load(folder, strategy, lambda text: log.write("note", text=text), average)
        if saved is not None:
            self.now = Progress(**saved)
            log.step = self.now.step
            self._steer(steered)
            if extended:
                self.now.waited = 0
            if strategy.rank == 0:
                folder.note(best=checkpoints.best(folder, saved))  # that of a checkpoint since may be void
        self.fresh = saved is None  # whether no step of it was made yet
        seldom = len(beside) if self.turns and self.turns.uneven else 0
        self._tally = Tally([*metrics.steps(), *beside], seldom)
        log.beside = beside
        if len(self.now.sums) != len(self._tally.empty()):  # also of a checkpoint when other metrics were counted
            self.now.sums = self._tally.empty()
        self.nonfinite: int | None = None  # step whose loss was NaN or infinite, as soon as the log has read it
        log.read = self._sum
        # Step of the last checkpoint that holds all of `now`, the same on every rank.
        self._saved = self.now.step if saved and not steered and not extended else None
        self._joined = self.now.position > 0  # whether the epoch at hand began before this process
        self._noted: set[str] = set()
        self._bears_nan = False  # whether its loss was finite over samples with NaN, which a model of its own may take

    def run(self) -> str:
        """Train to the end, or until a stop; returns "done" or "stopped"."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(recording(self._own))
            for feed in (self.train, self.val, self.test):
                stack.callback(feed.close)
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
        average = self.average.values if self.average else {}
        tracer = Tracer(self.folder, self.strategy, log, now.step, self.turns.step if self.turns else None, average)
        if self.turns:
            self.turns.done = now.step
        steps = part.steps or self.steps
        facts: dict[str, Any] = {"samples": self.train.n, "parts": self.strategy.parts, "base_lr": now.lr}
        facts |= {} if part.steps else {"epochs": part.epochs}
        facts |= {"metrics": metrics.told(self.metrics), "charts": self._charts}
        self._state("running", step=now.step, steps=steps, **facts)
        log.rest(None)
        if self.fresh and (shares := self.train.padding()) and self.strategy.rank == 0:
            text = f"padding is {shares[0]:.1%} of a batch, and {shares[1]:.1%} if lengths were not taken together"
            log.write("note", step=now.step, text=text)
        if self.fresh and isinstance(self.train.dataset, Stream) and self.train.n < self.spec.batch_size:
            self.say(
                f"batch_size={self.spec.batch_size}: an epoch of the stream is {self.train.n} samples, all in one "
                "step; let its len() tell more, or take a smaller batch_size"
            )
        if self.fresh and self.train.undealt:
            self.say(f"each rank reads the whole stream and takes its share: {self.train.undealt}")
        if self._steered and self.strategy.rank == 0:
            log.write("note", command="set", step=now.step, **self._steered)
        if self._extended and self.strategy.rank == 0:
            log.write("note", command="extend", step=now.step, **self._extended, text=self._goes_on())
        if self.fresh and not part.steps:
            asked = {name: metric for name, metric in self.metrics.items() if name in {*self.spec.metrics, *self.own}}
            try_out(self.strategy, {"val": self.val, "test": self.test}, asked, self.metrics)
        while now.epoch < part.epoch + part.epochs and not self._early:
            for batches, count in self.train.epoch(now.epoch, now.position, part.epoch + part.epochs):
                while command := self.control.next(now.step):
                    if self._obey(command) == "stop":
                        return self.stop()
                lr = self._set_lr()
                self._place(now.step + 1)
                weighed = objective.over(batches)
                loss, counts, samples = tracer.step(now.step, weighed, count, objective, now.clip)
                now.step += 1
                now.position += 1
                if self.average:
                    self.average.update(now.step)
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
            self._look()
        self._save()
        self._evaluate("test", self.test, last=not self.part.steps)
        if (reason := self._early) and self.strategy.rank == 0:
            self.folder.note(reason=reason)
        return "done"

    def _epoch_ends(self) -> None:
        spec, now = self.spec, self.now
        self._epoch_figures()
        if spec.eval_every and now.epoch % spec.eval_every == 0:
            self._evaluate("val", self.val)
        self._look()
        if spec.checkpoint_every and now.epoch % spec.checkpoint_every == 0:
            self._save()

    def _look(self) -> None:
        """Keep the state if it is the best so far, and say if the run ends since a figure does not improve."""
        now, figures, self._judged = self.now, self._judged, {}
        before = self._early
        if self.judge.better(now, figures):
            self._saved = None  # what was saved at this step lacks it
            self._say(
                best=self.spec.keep_best,
                figure=now.best,
                text=f"{self.spec.keep_best} {now.best:.4g}: the best so far, kept",
            )
            self._save()
        if (reason := self._early) and not before:
            self._say(ended=self.judge.early["metric"], text=reason)

    @property
    def _early(self) -> str:
        """Why the run ends before its last epoch; "" where it does not."""
        return self.judge.over(self.now) if self.now.epoch < self.part.epoch + self.part.epochs else ""

    def _epoch_figures(self) -> None:
        """The epoch's figures of training, over all ranks, as they were while the model changed."""
        self._check()
        figures, n = self._tally.figures(self._totals())
        self.now.sums = self._tally.empty()
        if n:
            if self.loss.weightless():
                figures[metrics.MINIMISED] = math.nan
                if not self._joined:  # else others of its steps may have weighed something
                    raise SpecError(f"the loss of epoch {self.now.epoch - 1} {WEIGHTLESS}")
            figures = metrics.with_following(self.metrics, "train", figures) | {"samples": n}
            self._found("train", figures, self.now.epoch - 1)
        self._joined = False
        if self._hooks:
            self._hooks("epoch")

    def _found(self, split: str, figures: dict[str, Any], epoch: int, **more: Any) -> None:
        """Log the figures of a split, and keep them for hooks, and for who judges by them."""
        keyed = {f"{split}_{name}": value for name, value in figures.items()}
        self._judged |= keyed
        numbers = {key: value for key, value in keyed.items() if isinstance(value, (int, float))}
        self.latest |= {key: value for key, value in numbers.items() if key != f"{split}_samples"}
        if self.strategy.rank == 0:
            self.log.evaluation(split, self.now.step, epoch, **figures, **more)

    def _place(self, step: int, split: str = "train") -> None:
        """Say where it stands, for what a user's code logs."""
        if self._own:
            self._own.place = step, split

    def _sum(self, step: int, loss: float, counts: list[float], samples: int) -> None:
        """Add a step to the epoch's sums."""
        if not math.isfinite(loss):
            self.nonfinite = self.nonfinite or step
        self._tally.add(self.now.sums, loss, counts, samples)

    def _evaluate(self, split: str, feed: Feed, last: bool = False) -> None:
        if not feed.n:
            return
        if self.strategy.rank == 0:
            self.folder.note(evaluating=True)  # so that a stop waits for its end
        if self.average:
            self.strategy.barrier()  # each rank has by now what the last step gave it
            with self.average.in_place():
                curves = {name: metric for name, metric in self.metrics.items() if metric.curve}
                self._measure(split, feed, curves, watched.EMA)
        # After the average, since a strategy may hold copies of the weights, which an evaluation makes equal.
        answers = Answers(self.strategy, feed.n, self.loss) if last else None
        final = last or self._final(split)
        gallery = self._gallery(feed, final)
        each = self.loss if final else None  # for all ranks, since a loss may wait for the others
        self.figures[split] = figures = self._measure(split, feed, self.metrics, "", answers, gallery, each)
        if answers is not None:
            answers.save(self.folder, split)
        if gallery is not None:
            if final:
                gallery.save(self.folder, self.strategy, split)
            if self._own:
                gallery.glimpse(self._own, self.now.step, split)
            if gallery.trouble:
                self.say(f"{gallery.missing} samples of the {split} set are not shown: {gallery.trouble}")
        if self.strategy.rank == 0:
            loss = metrics.MINIMISED
            doubt(self.folder, split, feed, figures[loss], self.metrics[loss].doubt)
            self.folder.note(evaluating=False)
        if self._hooks:
            self._hooks("evaluation", split)

    def _measure(
        self,
        split: str,
        feed: Feed,
        counted: dict[str, Metric],
        of: str = "",
        answers: Answers | None = None,
        gallery: Gallery | None = None,
        each: Criterion | None = None,
    ) -> dict[str, Any]:
        """Figures of the weights as they are; `of` is the end of the split's name in the log."""
        start = time.perf_counter()
        self._place(self.now.step, split + of)
        figures = evaluate(self.strategy, feed, counted, split, self.say, None, answers, gallery, each)
        self._place(self.now.step)
        self.log.rest(seconds := time.perf_counter() - start)
        self._found(split + of, figures, max(self.now.epoch - 1, 0), seconds=round(seconds, 4))
        return figures

    def _final(self, split: str) -> bool:
        """Whether no test set follows the last epoch's validation, whose samples are shown in its place."""
        part = self.part
        return split == "val" and not (self.test.n or part.steps) and self.now.epoch >= part.epoch + part.epochs

    def _gallery(self, feed: Feed, last: bool) -> Gallery | None:
        """What takes the samples of an evaluation that are shown: of the last one those for the report."""
        if last:
            return Gallery(feed.task)
        shows = self._own is not None and self.strategy.part == 0  # whether this rank's media are kept
        return Gallery(feed.task, GLIMPSE, 0) if shows and due(self.now.epoch // max(self.spec.eval_every, 1)) else None

    def say(self, text: str) -> None:
        """Say something of the run that is to be known, once."""
        if self.strategy.rank == 0 and text not in self._noted:
            self._noted.add(text)
            self.log.write("note", step=self.now.step, text=text)
