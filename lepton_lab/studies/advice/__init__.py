"""advise(): what a spec would cost under each strategy, before a run; and beside it what a run did cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ...datasets import load
from ...errors import SpecError, whole
from ...run.checks import named, splits
from ...run.handle import Run
from ...run.own import Own
from ...section import NONE, Section, table
from ...spec import Spec
from ...strategies.work import Cost, shown
from ...tables import table as family
from ..contenders import entries, fields

if TYPE_CHECKING:
    import pandas as pd

    from ...strategies.work import Workload

WORLDS = (1, 2, 4)
PARTS = ("parameters", "gradients", "optimizer", "activations")
FIGURES = ("memory", *PARTS, "sent", "idle")
LIMITS = {"memory": 0.20, "sent": 0.10}  # what a prediction is allowed to be off, relative to what is measured

NOTE = (
    "Bytes of tensors on the rank that bears most, at the highest moment of a step (with torch's own arithmetic on the "
    "CPU; torch.compile may need less); bytes that the rank sends that sends most, a step; idle: the share of a step "
    "that ranks wait because of how work is split. Activations are all that is neither of the others at that moment."
)


@dataclass
class Row:
    """A strategy over so many ranks: what it would cost, or why it can't be done."""

    strategy: str
    world: int
    cost: Cost | None
    """None where it is refused."""
    why: str
    """What the cost follows from, or the refusal."""
    measured: dict[str, float] = field(default_factory=dict)
    """What a run did cost, by FIGURES; empty where nothing was measured."""

    @property
    def predicted(self) -> dict[str, float]:
        """The cost by FIGURES; empty where it is refused."""
        if self.cost is None:
            return {}
        return {name: getattr(self.cost, name) for name in FIGURES}

    @property
    def errors(self) -> dict[str, float]:
        """By how much memory and bytes sent were predicted too high, relative to what was measured."""
        pairs = [(name, self.predicted[name], self.measured[name]) for name in LIMITS if name in self.measured]
        return {name: (predicted - real) / real if real else float(predicted > 0) for name, predicted, real in pairs}

    @property
    def remark(self) -> str:
        """What of the prediction is off by more than its limit; "" if nothing is, or nothing was measured."""
        off = {name: error for name, error in self.errors.items() if abs(error) > LIMITS[name]}
        return ", ".join(f"{name} is off by {error:+.0%}" for name, error in off.items())


class Advice:
    """
    Strategies side by side; last in a cell it shows its table.

    Attributes
    ----------
    rows : list of Row
        One for each strategy and world; with one rank all are as `single`.
    """

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    def __repr__(self) -> str:
        return self._section().text

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return self._section()._repr_mimebundle_()

    def records(self) -> list[dict[str, Any]]:
        """
        The rows as plain values, None where there is none.

        Each has strategy, world, fits (false if it is refused); memory, parameters, gradients, optimizer, activations
        (bytes), sent (bytes a step), idle (0 to 1); why; and, of a run's own, measured_ and error_ of these, remark.
        """
        return [
            {
                "strategy": row.strategy,
                "world": row.world,
                "fits": row.cost is not None,
                **{name: row.predicted.get(name) for name in FIGURES},
                "why": row.why,
                **{f"measured_{name}": row.measured.get(name) for name in FIGURES},
                **{f"error_{name}": row.errors.get(name) for name in LIMITS},
                "remark": row.remark,
            }
            for row in self.rows
        ]

    def table(self) -> pd.DataFrame:
        """The records as a pandas table."""
        import pandas as pd

        return pd.DataFrame(self.records())

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Heads and lines of the table as people read it."""
        lines = []
        for row in self.rows:
            lines.append([row.strategy, str(row.world), *_cells(row.predicted), row.why])
            if row.measured:
                lines.append(["measured", "", *_cells(row.measured), row.remark or "as predicted"])
        return ["strategy", "world", "memory", *PARTS, "sent a step", "idle", "why, or why not"], lines

    def _section(self) -> Section:
        return table("What a step would cost", *self.cells(), NOTE, numeric=True)


def advise(
    spec: Spec | Run,
    worlds: Iterable[int] = WORLDS,
    strategies: Iterable[Any] | None = None,
    model: Any = None,
    data: Any = None,
    loss: Any = None,
    task: Any = None,
    collate: Any = None,
) -> Advice:
    """
    What a step of a spec would cost under each strategy and world; no process is started, nothing is computed.

    A step of one process is rehearsed on tensors that have shapes but no memory, by the code that trains; what a
    strategy makes of it, it says itself. The data set is read, as for a run.

    Parameters
    ----------
    spec
        What to train; or a run, beside whose own strategy and world stands what was measured.
    worlds
        Numbers of ranks, for each strategy that names no world of its own.
    strategies
        As `race` takes them: names, pairs (name, options), or mappings; all of STRATEGIES by default.
    model, data, loss, task, collate
        The user's own, as `launch` takes them; a run has its own.

    Raises
    ------
    SpecError
        If a model does not fit the data, a strategy is unknown, or `spec` is neither a Spec nor a Run.
    """
    if isinstance(spec, Run):
        run, spec = spec, spec.spec
        own = Own.shipped(run.store)
        work = rehearsed(spec, own)
        first = row(spec, work, {}, own)
        first.measured = measured(run) if first.cost else {}
        return Advice([first, *_rows(spec, work, worlds, strategies, own)])
    if not isinstance(spec, Spec):
        raise SpecError(f"advise takes a Spec or a Run, not a {type(spec).__name__}: lab.advise(lab.Spec(...))")
    own = Own(model, data, loss, task=task, collate=collate)
    spec = named(spec, own.parts)
    return Advice(_rows(spec, rehearsed(spec, own), worlds, strategies, own))


def _rows(spec: Spec, work: Workload, worlds: Iterable[int], strategies: Iterable[Any] | None, own: Own) -> list[Row]:
    """A row for each strategy and world; where `single` is among them, it stands for all with one rank."""
    if isinstance(worlds, str) or not isinstance(worlds, Iterable):
        raise SpecError(f"worlds={worlds!r}: must be a list of numbers of ranks, such as {list(WORLDS)}")
    for world in (worlds := list(worlds)):
        whole("worlds", world, 1)
    chosen = [(fields(spec, entry), isinstance(entry, Mapping) and "world" in entry) for entry in entries(strategies)]
    stands = 1 in worlds and any(changes["strategy"] == "single" for changes, _ in chosen)
    rows = []
    for changes, placed in chosen:
        alone = changes["strategy"] == "single"
        ranks = [changes["world"]] if placed else [n for n in worlds if not stands or alone == (n == 1)]
        rows += [row(spec, work, {**changes, "world": n}, own) for n in ranks]
    return rows


def row(spec: Spec, work: Workload, changes: dict[str, Any], own: Own) -> Row:
    """What a spec would cost with other fields, by the `work` that `rehearsed` gave for it and what the user brings."""
    name, world = (changes.get(name, getattr(spec, name)) for name in ("strategy", "world"))
    try:
        changed = spec.replace(**changes)
        splits(changed, own, here=False)
        kind: Any = own.strategy if "strategy" in changed.own else family("strategy")[name]
        cut = changed.model_copy(update={"accumulate": work.spec.accumulate})
        cost = _averaging(kind(cut, **changed.options_of(kind)).cost(work), work, changed)
    except SpecError as error:
        return Row(name, world, None, " ".join(str(error).split()))
    return Row(name, world, cost, cost.why)


def _averaging(cost: Cost, work: Workload, spec: Spec) -> Cost:
    """A cost with the average of the weights, of which a rank holds what it holds of those that are trained."""
    if not spec.ema:
        return cost
    lasting = work.model.state_dict()
    trained = [p for p in work.model.parameters() if p.requires_grad]
    buffers = [b for name, b in work.model.named_buffers() if name in lasting and b.is_floating_point()]
    size = sum(tensor.numel() * tensor.element_size() for tensor in (*trained, *buffers))
    average = cost.parameters * size / work.parameters
    why = f"{cost.why}; parameters: {shown(average)} of them are the average of the weights"
    return replace(cost, parameters=cost.parameters + average, why=why)


def rehearsed(spec: Spec, own: Own | None = None) -> Workload:
    """One process's step of a spec, however it splits it: as `rehearse` gives it, kept where users bring nothing."""
    from .rehearsal import rehearse

    alone = spec.replace(**fields(spec, "single"), name="")
    own = own or Own()
    data = own.splits(spec)
    if own.model is None and data is None and own.loss is None:
        return _rehearsed(alone)
    return rehearse(alone, data or load(spec), own.model, own.loss, own.task)


@lru_cache(maxsize=8)
def _rehearsed(alone: Spec) -> Workload:
    from .rehearsal import rehearse

    return rehearse(alone, load(alone))


def measured(run: Run) -> dict[str, float]:
    """What a step of a run costs by FIGURES, in bytes but idle; {} before it is recorded (see `Run.costs`)."""
    ranks = run.costs()
    if not ranks:
        return {}
    largest = max((rank["memory"] for rank in ranks), key=lambda memory: memory["peak"])
    idle = sum(rank["idle"] for rank in ranks) / sum(rank["seconds"] for rank in ranks)
    sent = max(rank["bytes"] for rank in ranks)
    return {"memory": largest["peak"], **{part: largest[part] for part in PARTS}, "sent": sent, "idle": idle}


def _cells(figures: dict[str, float]) -> list[str]:
    if not figures:
        return [NONE] * len(FIGURES)
    return [f"{figures[name]:.0%}" if name == "idle" else shown(figures[name]) for name in FIGURES]
