"""Runs: launch one, find it again, watch it, steer it, and take its model."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from .. import launchers
from ..chains import chain_name
from ..engine.tracing import costs
from ..files import read_json
from ..launchers import collect, texts
from ..metrics import Metric, drawn, known, leading, summarised
from ..store import inspection, provenance
from ..store.events import Tail
from ..store.finding import find
from ..store.folder import ENDED, LOOKS, RunFolder
from ..store.naming import Labelled, title
from ..store.pace import RESTING
from ..tables import meant, trait
from . import callbacks, predictions
from .callbacks import Callback, Function
from .predictions import Predictions
from .progress import waiting
from .steering import Steered
from .viewing import Viewed

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

POLL = 0.02  # seconds between looks while waiting


class Run(Labelled, Steered, Viewed):
    """
    One run, live or ended, as its folder tells it.

    Attributes
    ----------
    id : str
        Name of its folder; sorts by time of launch.
    folder : pathlib.Path
        Where all of it is kept.
    store : RunFolder
        What reads and writes that folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.store = folder
        self.id, self.folder = folder.id, folder.path

    def __repr__(self) -> str:
        return f"<Run {self.id}: {self.name or title(self.spec)}, {self.state}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.folder == other.folder

    def __hash__(self) -> int:
        return hash(self.folder)

    @property
    def seconds(self) -> float:
        """
        Seconds that it has worked, from the start of its processes on.

        Time in the queue, in pauses, and between an end and a resume does not count.
        """
        return self.store.worked

    @property
    def metrics(self) -> dict[str, type[Metric]]:
        """Its metrics that can be drawn over steps, by name: what each is called and which way is better."""
        counted, asked = self.facts.get("metrics", {}), self.spec.metrics
        listed = {name for name, look in counted.items() if not look}
        others = (read_json(self.folder / LOOKS) or {}) | {name: look for name, look in counted.items() if look}
        return known([*drawn(listed, asked), *asked], others)

    @property
    def charts(self) -> list[str]:
        """What a view draws before someone chooses: the loss and its task's first metric, or the losses of players."""
        return self.facts.get("charts") or leading(
            self.metrics, trait("task", meant(self.spec.task, self.spec.dataset), "metrics") or ()
        )

    @property
    def asked(self) -> list[str]:
        """The metrics that were asked for by name, or are the user's own."""
        return [*self.spec.metrics, *(read_json(self.folder / LOOKS) or {})]

    @property
    def provenance(self) -> dict[str, Any]:
        """Versions, seed, device, threads, git revision and the command to repeat it; empty until ranks start."""
        origin = read_json(self.folder / "provenance.json") or {}
        facts = self.facts  # the precision is that which `auto` came to
        told = {"precision": facts["precision"]} if "precision" in facts else {}
        told |= {"threads": facts.get("threads", origin.get("threads")), "command": self.command}
        return {**origin, **told} if origin else {}

    @property
    def command(self) -> str:
        """The command line that repeats it."""
        return provenance.command(self.spec, self.id, texts.text(launchers.of(self.facts)))

    def wait(self, timeout: float | None = None, progress: bool = True) -> str:
        """
        Block until it has ended, or for `timeout` seconds; returns the state then.

        A failed run raises nothing: see `failure`.

        Parameters
        ----------
        timeout
            Seconds; None waits for the end.
        progress
            Show progress on stderr, in a script that waits for the end: one line on a terminal, else a line an epoch.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        shown = progress and timeout is None and self.state not in ENDED
        with waiting(self) if shown else contextlib.nullcontext(str) as show:
            while (state := self.state) not in ENDED and (deadline is None or time.monotonic() < deadline):
                show(state)
                callbacks.waited(self)
                time.sleep(POLL)
            show(state)
        callbacks.waited(self)
        collect()
        return state

    def tail(self) -> Tail:
        """A reader of new events from the first one on; each `read()` returns those since the last."""
        return Tail(self.folder)

    def on(self, event: str, function: Function) -> Callback:
        """
        Have the kernel call a function for what happens to the run from now on, between cells and never within one.

        It can't hurt the run: one that raises is told of once, and taken off. A script has no such gaps: there they
        are called while it is in `wait()`.

        Parameters
        ----------
        event
            "epoch" (its figures of training), "evaluation" (of "val" or "test"), "state" (a new one), or "end" (the
            last state; of a run that has ended already, soon).
        function
            Takes the row of the event, a dict as `rows` has it.

        Returns
        -------
        Callback
            Its `off()` ends the calls.

        Raises
        ------
        SpecError
            If there is no such event, or the function is none.
        """
        return callbacks.on(self, event, function)

    def rows(self, kind: str | None = None) -> list[dict[str, Any]]:
        """
        Events in order of time, all or of one kind: state, train, eval, system, cost, note, logged, media.

        Each has `kind`, `t` (unix seconds), `rank`, and most `step` (optimizer steps done), `epoch` and values such as
        `loss` and `accuracy` (fraction, 0 to 1); a train row is one rank's mean over its `samples` of that step;
        a cost row is what one rank alone knows of what `costs` tells; a logged row has one rank's numbers of
        `lab.log` by name, a media row names a file in the run's folder `logged`.
        """
        return self.store.rows(kind)

    def logged(self, kind: str | None = None) -> list[dict[str, Any]]:
        """
        What its code logged, by step: `lab.log`'s numbers of all ranks together, and media.

        Parameters
        ----------
        kind
            "number", "image", "text", "audio" or "histogram"; None, all of them.

        Returns
        -------
        list of dict
            Each with `kind`, `name`, `step`, and `split`: "train", or what was evaluated when it was logged. A number
            has its `value`, a text its `text`, a histogram `edges` and `counts`; all media have the `path` of a file.

        Raises
        ------
        SpecError
            If there is no such kind.
        """
        return inspection.logged(self.store, kind)

    def frame(self, kind: str | None = None) -> pd.DataFrame:
        """The rows as a pandas table."""
        import pandas as pd

        return pd.DataFrame(self.rows(kind))

    def model(self, checkpoint: str = "last") -> nn.Module:
        """
        The trained module, on the CPU and in eval mode, from the last checkpoint; or what a chain made by now.

        Parameters
        ----------
        checkpoint
            "last"; "best", of the evaluation that was best by the Spec's `keep_best`, with the averaged weights where
            that names a figure of theirs; or "ema", the average of the weights that the Spec's `ema` asks for.

        Raises
        ------
        LabError
            If there is no such checkpoint yet, the run keeps none, or it was deleted.
        """
        from ..store import trained

        self.store.require()
        return trained.model(self.store, checkpoint)

    def predictions(self, split: str = "test") -> Predictions:
        """
        What the model said of each sample of a split in the end: scores, targets and losses; nothing is run again.

        Raises
        ------
        LabError
            If none were kept: the run is not done, has no such split, or its outputs are no tensor of one shape.
        """
        return predictions.of(self.store, split)

    def costs(self) -> list[dict[str, Any]]:
        """What a step costs each rank, as the latest steps recorded tell (see `costs.costs`); empty before the 13th."""
        return costs.costs(costs.recorded(self.store))

    def timeline(self) -> list[dict[str, Any]]:
        """Who did what, and who sent what to whom, in the latest steps recorded (see `costs.timeline`)."""
        return costs.timeline(costs.recorded(self.store))

    def summary(self) -> dict[str, Any]:
        """One line of a table of runs: who, what, how far (epochs from 1), how well; None where not known."""
        spec, facts, state, story = self.spec, self.facts, self.state, self.store.glance()
        figures = {**self.store.system(0), **story.figures}
        return {
            "id": self.id,
            "name": self.name,
            "title": title(spec),
            "tags": self.tags,
            "note": self.note,
            "archived": self.archived,
            "state": state,
            "dataset": spec.dataset,
            "model": spec.model,
            "chain": chain_name(spec.compress),
            "optimizer": spec.optimizer,
            "lr": facts.get("base_lr", spec.lr),
            "strategy": spec.strategy,
            "world": spec.world,
            "step": story.step,
            "steps": story.steps,
            "epoch": story.epoch or None,
            "epochs": story.epochs,
            **{name: figures.get(name) for name in summarised(self.metrics)},
            "samples_per_s": None if state in RESTING else story.speed,
            "seconds_left": story.seconds_left if state == "running" else None,
            "created": self.store.created,
            "seconds": self.seconds,
        }


def attach(id: Run | str | None = None) -> Run:
    """
    A run, or the latest: its whole curve, and control over it, from any process.

    Parameters
    ----------
    id
        Its id or its name, or the beginning of either where it fits one run alone; a Run is taken as it is.

    Raises
    ------
    LabError
        If there is no such run, or are several.
    """
    return id if isinstance(id, Run) else Run(find(id))
