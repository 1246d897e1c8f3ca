"""The rank's side of compression: link after link is applied, fine-tuned and finished; then the dense control."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from ..artifacts.asking import posed
from ..batches import Batch
from ..chains import mismatch
from ..compressors import Round, Work, plan
from ..compressors.rehearsal import example
from ..datasets import Data, length
from ..errors import SpecError
from ..files import read_json, write_json
from ..host import release_memory
from ..metrics import MEASURED, Metric, numbers
from ..objectives import Criterion
from ..store import shipping, trained
from ..store.control import Control
from ..store.folder import MEASURES, RunFolder
from ..store.log import Log
from ..store.states import seed_all
from ..store.tensors import load_tensors
from ..store.trained import ARTIFACT, BEGUN, CONTROL, DONE, place
from ..strategies.base import Single
from ..tables import pick, table
from ..tasks import Task
from . import baseline
from .baseline import FIGURES, digest, figures, wait
from .evaluation import evaluate
from .feed import Feed, by_itself
from .hooks import Hook
from .loop import Fit
from .position import Part, rewind


@dataclass
class Chain:
    """
    One rank's part in a run that compresses.

    What rank 0 makes of a module it writes into the run's folder, where all ranks take it up: so they hold the same,
    and what is made once is never made again, whatever interrupts the run.
    """

    folder: RunFolder
    """The run's; its spec has a chain."""
    strategy: Single
    """Started, and not set up."""
    data: Data
    loss: Criterion
    log: Log
    facts: dict[str, Any]
    """What each system event tells: threads, device."""
    delivery: ModuleType
    """
    What writes the file that the chain ends in and measures it, of `measures`, which stands beside the engine:
    `rehearse` and `deliver` of (folder, rounds, task).
    """
    task: Task
    """Says what a batch means."""
    hooks: Sequence[Hook] = ()
    """A user's functions, called while a link is fine-tuned."""
    own: dict[str, type[Metric]] = field(default_factory=dict)
    """The user's own metrics, by name."""

    def __post_init__(self) -> None:
        self.spec = self.folder.spec
        self.rounds = plan(self.spec)
        self.epochs = sum(item.epochs for item in self.rounds)
        self.resumed = self.folder.facts.get("attempt", 1) > 1

    def run(self) -> str:
        """Do what is not done yet; returns "done" or "stopped"."""
        self._fits()
        self.task.setup(shipping.kept(trained.parent(self.folder.path)))
        if self.strategy.rank == 0 and not self.resumed:
            self.delivery.rehearse(self.folder, self.rounds, self.task)
            release_memory()
        self.each = Feed(self.data.train, self.data, self.spec, self.strategy, self.task).steps
        folder, strategy = self.folder, self.strategy
        self.control = Control(folder.path, strategy.rank, strategy.world, strategy.lead, folder.board)
        try:
            for item in self.rounds:
                if not (place(self.folder, item.number) / DONE).exists() and self._link(item) == "stopped":
                    return "stopped"
            if not (place(self.folder, CONTROL) / DONE).exists() and baseline.control(self) == "stopped":
                return "stopped"
        finally:
            self.control.close()
        self._deliver()
        return "done"

    def _fits(self) -> None:
        """Refuse data that the parent's module can't take, before time is spent on it; note what became of it."""
        facts, data = trained.parent_facts(self.folder.path), self.data
        mismatch(facts, self.spec, *data.sample)
        if (names := facts.get("parametrized")) and self.strategy.rank == 0 and not self.resumed:
            text = f"weights of {', '.join(names)} were parametrized, as by weight norm: from here on they are plain"
            self.log.write("note", step=0, text=text)

    def _link(self, item: Round) -> str:
        """Apply one compressor, and fine-tune what it made."""
        here = place(self.folder, item.number)
        here.mkdir(parents=True, exist_ok=True)
        compressor, work = item.compressor(), self._work(item)
        last = self._before(item.number)

        def applied() -> nn.Module:
            module = shipping.kept(last)
            before = parameters(module)
            module = compressor.apply(module, work)
            counts = {"parameters_before": before, "parameters": parameters(module)}
            self._note(item, "begins", options=item.options, epochs=item.epochs, **counts, **compressor.notes)
            return module

        epoch = sum(other.epochs for other in self.rounds[: item.number])
        part = Part(item.epochs, epoch * self.each, epoch, self.epochs * self.each, control=self.control)

        def objective(module: nn.Module) -> Any:
            own = compressor.objective(module, work)
            return item.teacher.objective(module, work) if own is None and item.teacher else own

        fit = self.fit(here, applied, part, self.log, item.number, objective)
        if self.resumed:
            self.resumed = False
            rewind(self.folder, self.log, fit.now.step, f" in {item.name}")
        if item.epochs and fit.fresh and fit.val.n:
            raw = evaluate(self.strategy, fit.val, fit.metrics, "val", fit.say)
            if self.strategy.rank == 0:
                self._note(item, "before fine-tuning", val=numbers(raw))
        if fit.run() == "stopped":
            return "stopped"

        def finished() -> nn.Module:
            module = compressor.finish(self.result(here, fit))
            ended = figures(fit) | {"parameters": parameters(module)}
            write_json(here / FIGURES, ended)
            self._note(item, "done", **ended)
            return module

        self.once(here / DONE, finished)
        return "done"

    def _deliver(self) -> None:
        """Write the chain's module as one file that loads by itself, and what is measured of it beside the parent's."""
        path = self.folder.path / MEASURES
        if self.strategy.rank == 0 and not path.exists():
            self.folder.note(evaluating=True)
            measures = self.delivery.deliver(self.folder, self.rounds, self.task)
            measures["control"] = read_json(place(self.folder, CONTROL) / FIGURES)
            artifact = {name: measures["artifact"][name] for name in ("bytes", "parameters", MEASURED)}
            text = f"{ARTIFACT}: {artifact['bytes']:,} bytes"
            self.log.write("note", step=self.epochs * self.each, text=text, artifact=artifact)
            write_json(path, measures)
            self.folder.note(evaluating=False)
        wait(path)

    def fit(
        self,
        here: Path,
        make: Callable[[], nn.Module],
        part: Part,
        log: Log,
        number: int,
        objective: Callable[[nn.Module], Any] = lambda module: None,
    ) -> Fit:
        """The training of a module that rank 0 makes, from its last checkpoint if it has one."""

        def begun() -> nn.Module:
            self.folder.discard(self.folder.checkpoints())  # of the round before: its module is kept
            return make()

        module = self.once(here / BEGUN, begun)
        self._agree(module, here.name)
        trained.freeze(module, self._frozen(here.name, number))
        optimizer = pick(table("optimizer"), self.spec.optimizer, "optimizer")
        self.strategy.setup(module, lambda parameters: optimizer(parameters, self.spec))
        part = replace(part, objective=objective(self.strategy.module))
        seed_all(self.spec.seed, self.strategy.stream, number)
        hooks = self.hooks if log is self.log else ()  # the control is nobody's to steer
        return Fit(self.folder, self.strategy, self.data, self.loss, log, part, self.task, hooks, self.own)

    def _frozen(self, name: str, number: int) -> list[str]:
        """Names of the parts of a round's module that stay in evaluation, as in the parent; of a student none."""
        before = [] if name == CONTROL else self.rounds[: number + 1]
        if any(item.compressor().student for item in before):
            return []
        return trained.parent_facts(self.folder.path).get("frozen", [])

    def result(self, here: Path, fit: Fit) -> nn.Module:
        """What a round's last checkpoint holds, on the CPU, whatever the strategy made of it."""
        module = shipping.kept(here / BEGUN)
        load_tensors(self.folder.checkpoint(fit.now.step), module)
        return module.eval()

    def once(self, path: Path, make: Callable[[], nn.Module]) -> nn.Module:
        """A module that rank 0 makes and writes, if it is not there yet, and all ranks read."""
        if self.strategy.rank == 0 and not path.exists():
            self.folder.note(evaluating=True)  # so that a stop waits for its end
            shipping.keep(make(), path)
            self.folder.note(evaluating=False)
        release_memory()
        wait(path)
        return shipping.kept(path)

    def _agree(self, module: nn.Module, what: str) -> None:
        """Make sure that all ranks hold the same shapes, masks and weights."""
        mine = float(digest(module))
        sums = torch.tensor([1.0, mine, mine * mine], dtype=torch.float64, device=self.strategy.device)
        n, total, squares = self.strategy.total(sums).tolist()
        if n * squares != total * total:  # equal only if all are (Cauchy and Schwarz)
            raise SpecError(f"link {what}: ranks hold different modules; resume the run, or take world=1")

    def _work(self, item: Round) -> Work:
        spec, data = self.spec, self.data
        first = next(other for other in self.rounds if other.link == item.link)
        parent, before = trained.parent(self.folder.path), self._before(first.number)
        return Work(
            spec,
            data.shape,
            len(data.classes),
            data.vocabulary,
            self._example(shipping.kept(before)),
            loss=self.task.criterion(self.strategy.step_total),
            draw=self._batches,
            parent=lambda: shipping.kept(parent),
            before=lambda: shipping.kept(before),
            round=item.round,
            device=self.strategy.device,
        )

    def _example(self, module: nn.Module) -> Any:
        """Two samples as the model is called with them."""
        if self.task.takes_raw:
            return example(module, self.data.shape, self.data.vocabulary)
        return posed(self.task, range(min(2, length(self.data.train))))

    def _batches(self, count: int) -> Iterator[Batch]:
        """The first training batches of an epoch, whole and on the CPU."""
        feed = by_itself(self.data.train, self.data, self.spec, self.task)
        for batches, _ in islice(feed.epoch(0), count):
            yield from batches

    def _before(self, number: int) -> Path:
        """The module that a round begins with."""
        return place(self.folder, number - 1) / DONE if number else trained.parent(self.folder.path)

    def _note(self, item: Round, text: str, **values: Any) -> None:
        named = {"link": item.name, "number": item.link + 1, "links": self.rounds[-1].link + 1}
        if item.compressor().rounds > 1:
            named["round"] = item.round
        step = sum(other.epochs for other in self.rounds[: item.number + (text == "done")]) * self.each
        self.log.write("note", step=step, **named, text=f"{item.name}: {text}", **values)


def parameters(module: nn.Module) -> int:
    """Numbers in a module's parameters; what it shares counts once."""
    return sum(p.numel() for p in module.parameters())
