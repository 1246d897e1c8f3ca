"""What the rows of a run mean, said once: charts, live views, terminal, reports and tables are views of it."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable
from functools import cached_property

from ..chains import epochs
from ..metrics import drawn
from ..spec import Spec
from . import pace
from .figures import Figures, Key
from .notes import Row, deed
from .tracks import AROUND, Curve, Rank, Track, together

STANDING = ("memory", "gpu_memory", "samples_per_s", "steps_per_s", "device", "threads", "host", "dropped")
"""What a rank tells of itself now and then; the latest holds."""

ENDED = ("done", "stopped", "failed", "interrupted")
"""States of a run that has ended."""


class Story:
    """
    What a run did, read row by row: from the beginning, or in portions as they come, with the same result.

    Each rank's rows must come in the order of its file; how the ranks' rows are mixed makes no difference.

    - *Ranks merged*: each rank tells of a training step. All ranks together have done it when each rank that was at
      work then has told of it. Its metrics are means over ranks weighted by their samples; a rank without samples in a
      short last batch has no say, and a metric that is no number on one rank is none.
    - *Rewinds*: a run that resumes at step S does again what it had done after its last checkpoint. The note
      `rewind: S` of a rank voids that rank's training steps, evaluations and notes after S.
    - *Figures of one's own*: see `Figures`.
    - *Another world*: such a note says how many ranks there are from then on. A rank beyond them is gone; one that is
      new has nothing before S.

    Parameters
    ----------
    world
        Ranks by now, for runs whose notes do not say it.
    epochs
        Epochs of the whole run.
    asked
        Metrics that the run was asked for, which are shown whatever they are.
    timed
        Whether it keeps when each step was done, without which there are no `intervals` and no `clock`.
    """

    def __init__(self, world: int = 1, epochs: int = 1, asked: Collection[str] = (), timed: bool = True) -> None:
        self.world, self.epochs, self._asked = world, epochs, asked
        self._omitted = {"kind", "rank", "step"} | (set() if timed else {"t", "epoch", "lr"})
        self.ranks: dict[int, Rank] = {}
        self.evaluations: dict[str, Track] = {}  # by split
        self.detailed: list[Row] = []  # evaluations that hold more than numbers, such as counts by class
        self.own = Figures()
        self.notes: list[Row] = []
        self.states: list[Row] = []
        self.steps: int | None = None  # optimizer steps of the whole run, once known
        self.costs = 0  # how often ranks have told what a step costs
        self.first: float | None = None  # time of the first training step, unix seconds
        self._parts: list[tuple[int, int]] = []  # (step, parts that a batch is cut into after it)
        self._breaks: list[float] = []
        self._merged: Track | None = None  # of several ranks; one rank's own track needs no copy

    @classmethod
    def of(cls, spec: Spec, timed: bool = True) -> Story:
        """The story of a run with a spec, before anything is told."""
        return cls(spec.world, epochs(spec), spec.metrics, timed)

    def add(self, rows: Iterable[Row]) -> Story:
        """Take over rows of every kind; one that it does not know is passed over."""
        for name in ("curves", "intervals", "clock"):
            self.__dict__.pop(name, None)  # what was computed of fewer rows
        take = {
            "train": self._train,
            "eval": self._evaluation,
            "system": self._system,
            "state": self._state,
            "note": self._note,
            "cost": self._cost,
            "logged": lambda rank, row: self.own.number(row),
            "media": lambda rank, row: self.own.medium(row),
        }
        for row in rows:
            if (kind := row["kind"]) in take:
                if (rank := self.ranks.get(row["rank"])) is None:
                    rank = self.ranks[row["rank"]] = Rank()
                if row.get("step", 0) > rank.step:
                    rank.step = row["step"]
                take[kind](rank, row)
        return self

    def _train(self, rank: Rank, row: Row) -> None:
        step, merged = row["step"], self._merged
        if step <= rank.track.last or (merged is not None and step <= merged.last):
            self._void(rank, step)
        if self.first is None or row["t"] < self.first:
            self.first = row["t"]
        rank.lr = row.get("lr", rank.lr)
        values = row if row["samples"] else {name: row[name] for name in AROUND if name in row}
        rank.track.append(step, values, self._omitted)

    def _void(self, rank: Rank, step: float) -> None:
        """Forget what a rank told from a step on, and what was merged of it."""
        rank.track.cut(step)
        if self._merged is not None:
            self._merged.cut(step)
            for other in self.ranks.values():
                other.merged = min(other.merged, bisect_left(other.track.x, step))

    def _evaluation(self, rank: Rank, row: Row) -> None:
        values = {name: value for name, value in row.items() if value is None or isinstance(value, (int, float))}
        self.evaluations.setdefault(row["split"], Track()).append(row["step"], values)
        if any(isinstance(value, (list, dict)) for value in row.values()):
            self.detailed.append(row)

    def _system(self, rank: Rank, row: Row) -> None:
        rank.facts |= {name: row[name] for name in STANDING if row.get(name) is not None}
        rank.facts["waits"] = row.get("waits")
        for name in ("memory", "gpu_memory"):
            if row.get(name):
                rank.peaks[name] = max(row[name], rank.peaks.get(name, 0))

    def _cost(self, rank: Rank, row: Row) -> None:
        self.costs += 1

    def _state(self, rank: Rank, row: Row) -> None:
        self._breaks.append(row["t"])
        self.states.append(row)
        self.steps = row.get("steps", self.steps)
        self.epochs = row.get("epochs", self.epochs)  # which an extension changes
        if "parts" in row:
            self._parts.append((row.get("step", 0), row["parts"]))

    def _note(self, rank: Rank, row: Row) -> None:
        self._breaks.append(row["t"])
        if "rewind" in row:
            self._rewind(rank, row)
        self.notes.append(row)

    def _rewind(self, rank: Rank, row: Row) -> None:
        step, number = row["rewind"], row["rank"]
        self._void(rank, step + 1)
        rank.step = rank.floor = step
        rank.gone = row.get("world", self.world) <= number
        self.own.rewind(number, step)
        self.notes = [note for note in self.notes if note["rank"] != number or (note.get("step") or 0) <= step]
        if number == 0:  # which evaluates, and tells of the whole run
            for track in self.evaluations.values():
                track.cut(step + 1)
            self.detailed = [row for row in self.detailed if row["step"] <= step]
            self._parts = [life for life in self._parts if life[0] <= step]

    @property
    def training(self) -> Track:
        """
        The training steps of all ranks together: t (when the last rank had done it), epoch, lr, samples, metrics.

        Where there are several ranks, `ranks` is how many told of the step.
        """
        ranks = [rank for _, rank in sorted(self.ranks.items()) if rank.track or rank.floor >= 0]
        if self._merged is None:
            if len(ranks) < 2:
                return ranks[0].track if ranks else Track()
            self._merged = Track(1 + max(rank.track.version for rank in ranks))
        reach = min(rank.reach for rank in ranks)
        pieces = [rank.unmerged(reach) for rank in ranks]
        if any(pieces):
            self._merged.extend(together(pieces))
        return self._merged

    @property
    def logged(self) -> dict[Key, Track]:
        """Numbers that a user's code logged, by name and split, all ranks together."""
        last = max(self.states, key=lambda row: row["t"], default={"state": ""})["state"]
        over = last in ENDED

        def reach(number: int, track: Track | None) -> float:
            if over or ((rank := self.ranks.get(number)) is not None and rank.gone):
                return math.inf
            # What it logged in a step comes before all that it tells of the next.
            return max(track.last if track else -1.0, rank.step - 1 if rank else -1.0)

        numbers = sorted({*range(self.world)} | {number for number in self.ranks if number >= 0})
        return dict(self.own.tracks(numbers, reach))

    @property
    def present(self) -> dict[int, Rank]:
        """The ranks that the run has now, as far as they are known."""
        return {number: rank for number, rank in sorted(self.ranks.items()) if number >= 0 and not rank.gone}

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.ranks[0].step if 0 in self.ranks else 0

    @property
    def epoch(self) -> int:
        """The epoch at hand, from 1; 0 before the first step."""
        return -(-self.step * self.epochs // self.steps) if self.steps else 0

    @property
    def speed(self) -> float | None:
        """Training samples a second over all ranks, or None before it is known."""
        rates = [rate for rank in self.present.values() if (rate := rank.facts.get("samples_per_s")) is not None]
        parts = self._parts[-1][1] if self._parts else 1  # ranks that compute the same samples count once
        return parts * sum(rates) / len(rates) if rates else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds of training until the last step, or None before that is known."""
        rate = self.ranks[0].facts.get("steps_per_s") if 0 in self.ranks else None
        return (self.steps - self.step) / rate if self.steps and rate else None

    @property
    def figures(self) -> dict[str, float]:
        """The latest of each metric of each split, by names such as `val_loss`."""
        latest = {
            f"{split}_{name}": track.latest(name)
            for split, track in self.evaluations.items()
            for name in self.drawn(track)
        }
        return {name: value for name, value in latest.items() if value is not None}

    def drawn(self, track: Track) -> list[str]:
        """Names of the metrics of a track that views draw."""
        return drawn(track.columns, self._asked)

    @property
    def lr(self) -> float | None:
        """The base learning rate, as the run said it or as it was set by hand since; None before that is known."""
        rates = [(row["t"], row["lr"]) for row in self.notes if "lr" in row]
        rates += [(row["t"], row["base_lr"]) for row in self.states if "base_lr" in row]
        return max(rates)[1] if rates else None

    @property
    def marks(self) -> dict[int, str]:
        """What was done to the run, by step: commands, links of a chain that begin, the best kept, an early end."""
        marks: dict[int, str] = {}
        best = next((row for row in reversed(self.notes) if "best" in row), None)
        for row in self.notes:
            if row.get("step") is not None and (what := deed(row) if row is best or "best" not in row else ""):
                marks[row["step"]] = f"{marks[row['step']]}, {what}" if row["step"] in marks else what
        return marks

    @property
    def evaluating(self) -> dict[float, float]:
        """Step -> seconds of evaluations after it."""
        seconds: dict[float, float] = defaultdict(float)
        for track in self.evaluations.values():
            for step, value in zip(*track.points("seconds"), strict=True):
                seconds[step] += value
        return seconds

    @property
    def learning(self) -> dict[str, Curve]:
        """
        Curves by name of how well it does, of each metric; a name is missing where there is nothing to show.

        - loss, accuracy: training, at each step, all ranks together;
          "loss rank 0", "accuracy rank 0" and so on: each rank's own, where there are several;
        - val_loss, val_accuracy, test_loss, test_accuracy: evaluations;
        - train_loss, train_accuracy: means over each epoch's training batches;
        - lr: learning rate.
        """
        training = self.training
        curves = {name: training.curve(name) for name in (*self.drawn(training), "lr")}
        if self._merged is not None:
            for number, rank in self.ranks.items():
                curves |= {f"{name} rank {number}": rank.track.curve(name) for name in self.drawn(rank.track)}
        for split, track in self.evaluations.items():
            curves |= {f"{split}_{name}": track.curve(name) for name in self.drawn(track)}
        return {name: curve for name, curve in curves.items() if curve.x}

    @cached_property
    def curves(self) -> dict[str, Curve]:
        """Those of `learning`, and samples_per_s where it is known: see `pace.throughput`."""
        speed = pace.throughput(self.intervals)
        return self.learning | ({"samples_per_s": speed} if speed.x else {})

    @cached_property
    def intervals(self) -> list[pace.Interval]:
        """What each training step took, see `pace.intervals`."""
        return pace.intervals(self.training, self._samples(), self._breaks, self.evaluating)

    @cached_property
    def clock(self) -> Curve:
        """Seconds of training until each step, from when the ranks stood ready on, see `pace.clock`."""
        ready = min((row["t"] for row in self.states if row["state"] == "running"), default=None)
        return pace.clock(self.training, self.intervals, ready)

    @property
    def seconds(self) -> float:
        """Seconds in training steps, see `pace.intervals`."""
        return sum(interval.seconds for interval in self.intervals)

    def _samples(self) -> list[int]:
        """Samples of each training step over all ranks; those that several compute, as `tensor`'s do, count once."""
        track = self.training
        samples = track.columns.get("samples", ())
        ranks = track.columns.get("ranks") or [1.0] * len(samples)
        begins = [step for step, _ in self._parts]
        counts = []
        for step, count, several in zip(track.x, samples, ranks, strict=True):
            life = bisect_left(begins, step)
            parts = self._parts[life - 1][1] if life else several
            counts.append(int(count * parts // several))
        return counts
