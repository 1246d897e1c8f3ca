"""What of the tables fits a task, a data set and what a user brings: what the form offers. No data set is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lepton_lab.errors import LabError, SpecError
from lepton_lab.links import Link
from lepton_lab.metrics import METRICS, MINIMISED
from lepton_lab.preparation import kind, outline, refuse, told_of
from lepton_lab.run.own import Own
from lepton_lab.spec import CELL
from lepton_lab.tables import does, meant, table, trait
from lepton_lab.tasks import resolved, told, unfit
from lepton_lab.watched import EMA


class Fitting:
    """Which names go with which.

    Parameters
    ----------
    names : dict
        Names of what is the user's own, by field.
    own : Own
        It.
    data : Data, optional
        The user's own, as splits.

    Attributes
    ----------
    options : dict
        As typed; those of a data set tell what its samples are.
    chosen : list
        Transforms, as a Spec has them: models get what these make of samples.
    """

    def __init__(self, names: Mapping[str, str], own: Own, data: Any) -> None:
        self._names, self._own, self._data = names, own, data
        self._makes: dict[str, bool] = {}
        self.options: Mapping[str, Any] = {}
        self.chosen: Sequence[Link] = ()

    def tasks(self) -> dict[str, str]:
        """By name of a task what it can't be done with here: nothing of the table is what it needs."""
        obstacles = {}
        for name in table("task"):
            if not any(self.data(name, dataset) for dataset in [*table("dataset"), self._names.get("dataset", "")]):
                obstacles[name] = "data sets of the table"
            elif self._own.model is None and not any(does(model, name) for model in table("model")):
                obstacles[name] = "models of the table"
        return obstacles

    def data(self, task: str, dataset: str) -> bool:
        """Whether a task can make something of a data set."""
        if dataset == self._names.get("dataset"):
            return self._takes(task)
        if dataset not in table("dataset"):
            return False
        entry = table("dataset")[dataset]
        sample = self._outline(dataset)
        if sample is None:
            return True  # and refused for what it is
        one = trait("task", task, "plain") and trait("task", task, "answers") in ("classes", "numbers")  # a sample
        each = not entry.tasks and told(*sample).answers == "tokens"  # of which each has a target
        return not unfit(task, entry, sample) and not (one and each)

    def _takes(self, task: str) -> bool:
        """Whether a task takes the user's own data and loss."""
        if self._data is None or task not in table("task"):
            return True
        if task not in self._makes:
            try:
                if (refuse := trait("task", task, "refuse")) and self._data.example is None:
                    self._makes[task] = not refuse(*self._data.sample)
                if self._makes.get(task, True):
                    table("task")[task](self._data, self._own.loss)
                    self._makes[task] = True
            except SpecError:
                self._makes[task] = False
        return self._makes[task]

    def sample(self, task: str, dataset: str) -> tuple[Any, ...] | None:
        """What models are told of samples; None where only the task can tell."""
        own = dataset == self._names.get("dataset")
        if own and (self._data is None or self._data.example is not None):
            return None
        if not own and dataset not in table("dataset"):
            return None
        sample = self._data.sample if own else self._outline(dataset)
        if sample is None:
            return None
        sees = trait("task", task if own else meant(task, dataset), "sees")
        return sees(*sample) if sees else sample

    def _outline(self, dataset: str) -> tuple[Any, ...] | None:
        """What models are told of a data set of the table, or by path; None where nothing can be made of a path."""
        try:
            return self._told(dataset)[1]
        except LabError:
            return None

    def _told(self, dataset: str) -> tuple[str, tuple[Any, ...]]:
        try:
            return outline(dataset, self.options, self.chosen)
        except SpecError:  # of a transform that does not fit, which is said where it stands
            return told_of(table("dataset")[dataset], self.options)

    def models(self, task: str, dataset: str) -> dict[str, str]:
        """By name of a model what it can't be taken with."""
        sample, told = self.sample(task, dataset), meant(task, dataset)
        told = resolved(told, sample) if sample else told
        others = {name: f"task {told}" for name in table("model") if not (told.startswith(CELL) or does(name, told))}
        if sample is None:
            return others
        unsuited = [name for name, maker in table("model").items() if maker.refuse(*sample)]
        return dict.fromkeys(unsuited, f"data set {dataset.removeprefix(CELL)}") | others

    def transforms(self, dataset: str) -> list[str]:
        """Names of transforms that fit a data set, by the kind of its samples and whether it has classes."""
        own = dataset == self._names.get("dataset")
        if (own and self._data is None) or (not own and dataset not in table("dataset")):
            return [*table("transform")]
        try:
            what, sample = (kind(self._data), self._data.sample) if own else self._told(dataset)
        except LabError:
            return [*table("transform")]
        return [
            name
            for name in table("transform")
            if not refuse(name, {}, what, sample, dataset) or any(name in link for link in self.chosen)
        ]

    def metrics(self, task: str, dataset: str) -> list[str]:
        """Names of metrics that can be asked for beside those that are counted unasked."""
        kind, answers = self._kind(task, dataset)
        counted = getattr(kind, "metrics", ())
        return [
            name
            for name, metric in METRICS.items()
            if metric.curve and not metric.usual and name not in counted
            if not answers or not metric.kinds or answers in metric.kinds
            if not metric.wide or self._wide(kind, dataset)
        ]

    def _wide(self, kind: Any, dataset: str) -> bool:
        """Whether a sample has several numbers as its answer, or may have."""
        if not getattr(kind, "plain", False):  # whose answers are such as the samples
            return True
        split = self._data.train if dataset == self._names.get("dataset") else None
        return split is not None and not (isinstance(split, tuple) and split[1].dim() < 2)

    def figures(self, task: str, dataset: str, asked: list[str], average: bool) -> list[str]:
        """Figures of a run that may judge it, by key."""
        kind, answers = self._kind(task, dataset)
        # As far as there is one right answer to each.
        right = answers not in ("numbers", "noise", "samples", "texts", "boxes")
        usual = [name for name, metric in METRICS.items() if metric.training and (right or name == MINIMISED)]
        players = kind.figures() if hasattr(kind, "figures") else []
        names = dict.fromkeys([*usual, *getattr(kind, "metrics", ()), *asked, *(self._own.metrics or ()), *players])
        return [f"{split}_{name}" for split in ("val", f"val{EMA}")[: 1 + average] for name in names]

    def _kind(self, task: str, dataset: str) -> tuple[Any, str]:
        """The task's class, as far as names tell it, and what its answers are; "" where only a run can tell."""
        kind: Any = self._own.task if task.startswith(CELL) else table("task").get(meant(task, dataset))
        if not isinstance(kind, type):  # auto
            sample = self.sample(task, dataset)
            kind = told(*sample) if sample else None
        return kind, "" if self._own.loss is not None else getattr(kind, "answers", "")
