"""advise(): what a spec would cost under each strategy, before a run; and beside it what a run did cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ...datasets import load
from ...errors import SpecError, whole
from ...run.checks import named, splits
from ...run.handle import Run
from ...run.own import Own
from ...spec import Spec, full_batch
from ...strategies.work import Cost, shown
from ...tables import table as family
from ..contenders import entries, fields
from .fitting import fit
from .fitting import measured as timed
from .outlook import Outlook
from .rows import FIGURES, LIMITS, PARTS, Advice, Row
from .worlds import Network

if TYPE_CHECKING:
    from ...strategies.work import Workload

__all__ = ["FIGURES", "LIMITS", "PARTS", "WORLDS", "Advice", "Outlook", "Row", "advise", "measured", "rehearsed", "row"]

WORLDS = (1, 2, 4)
MOST = 100_000  # ranks that are judged; what some strategies cost is summed over all of them


def advise(
    spec: Spec | Run,
    worlds: Iterable[int] = WORLDS,
    strategies: Iterable[Any] | None = None,
    model: Any = None,
    data: Any = None,
    loss: Any = None,
    task: Any = None,
    collate: Any = None,
    network: str | None = None,
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
        Numbers of ranks, 100,000 at most, for each strategy that names no world of its own.
    strategies
        As `race` takes them: names, pairs (name, options), or mappings; all of STRATEGIES by default.
    model, data, loss, task, collate
        The user's own, as `launch` takes them; a run has its own.
    network
        The link of each rank, such as "10 Gb" or "400 Gb, 5 us": then the advice (an Outlook, with a `chart`) says how
        long a step would take of worlds of any size, whose ranks each compute `batch_size` samples. It is fitted on
        runs of the spec that have ended, one of them with one process; what is assumed stands below its table.

    Raises
    ------
    SpecError
        If a model does not fit the data, a strategy is unknown, `spec` is neither a Spec nor a Run, a network can't be
        read, or no run tells how long a step takes.
    """
    link = None if network is None else Network.of(network)
    if isinstance(spec, Run):
        run, spec = spec, spec.spec
        own = Own.shipped(run.store)
        work = rehearsed(spec, own)
        if link:
            return _outlook(spec, work, worlds, strategies, own, link, run)
        first = row(spec, work, {}, own)
        first.measured = measured(run) if first.cost else {}
        return Advice([first, *_rows(spec, work, worlds, strategies, own)])
    if not isinstance(spec, Spec):
        raise SpecError(f"advise takes a Spec or a Run, not a {type(spec).__name__}: lab.advise(lab.Spec(...))")
    own = Own(model, data, loss, task=task, collate=collate)
    spec = named(spec, own.parts)
    work = rehearsed(spec, own)
    if link:
        return _outlook(spec, work, worlds, strategies, own, link)
    return Advice(_rows(spec, work, worlds, strategies, own))


def _outlook(
    spec: Spec,
    work: Workload,
    worlds: Iterable[int],
    strategies: Iterable[Any] | None,
    own: Own,
    network: Network,
    like: Run | None = None,
) -> Outlook:
    """What steps would take whose batch grows with the world, by those that were measured."""
    if full_batch(spec):
        raise SpecError(
            f"optimizer={spec.optimizer!r}: takes all samples in each step, which can't grow with the world; leave out "
            "network, or take optimizer='sgd'"
        )
    rows = _rows(spec, work, worlds, strategies, own, grows=True)

    def costs(run: Run) -> Cost | None:
        return row(run.spec, replace(work, batch=run.spec.batch_size), {}, own).cost

    return Outlook(rows, spec.batch_size, network, fit(timed(spec, costs, like)))


def _rows(
    spec: Spec, work: Workload, worlds: Iterable[int], strategies: Iterable[Any] | None, own: Own, grows: bool = False
) -> list[Row]:
    """
    A row for each strategy and world; where `single` is among them, it stands for all with one rank.

    If the batch `grows`, each rank computes as many samples as one process would.
    """
    if isinstance(worlds, str) or not isinstance(worlds, Iterable):
        raise SpecError(f"worlds={worlds!r}: must be a list of numbers of ranks, such as {list(WORLDS)}")
    for world in (worlds := list(worlds)):
        whole("worlds", world, 1)
        _judged("worlds", world)
    chosen = [(fields(spec, entry), isinstance(entry, Mapping) and "world" in entry) for entry in entries(strategies)]
    stands = 1 in worlds and any(changes["strategy"] == "single" for changes, _ in chosen)
    rows = []
    for changes, placed in chosen:
        alone = changes["strategy"] == "single"
        ranks = [changes["world"]] if placed else [n for n in worlds if not stands or alone == (n == 1)]
        for n in ranks:
            if isinstance(n, int):  # else the row says what it must be
                _judged("world", n)
            grown = {"batch_size": n * spec.batch_size} if grows else {}
            part = replace(work, batch=n * spec.batch_size) if grows else work
            rows.append(row(spec, part, {**changes, "world": n, **grown}, own, far=grows))
    return rows


def _judged(field: str, world: int) -> None:
    """Refuse a world that would take minutes, or for ever."""
    if world > MOST:
        raise SpecError(f"{field}={world}: advice is given for {MOST:,} ranks at most")


def row(spec: Spec, work: Workload, changes: dict[str, Any], own: Own, far: bool = False) -> Row:
    """
    What a spec would cost with other fields, by the `work` that `rehearsed` gave for it and what the user brings.

    If its ranks are `far` from each other, those that share memory are refused.
    """
    name, world = (changes.get(name, getattr(spec, name)) for name in ("strategy", "world"))
    try:
        changed = spec.replace(**changes)
        splits(changed, own, here=False)
        kind: Any = own.strategy if "strategy" in changed.own else family("strategy")[name]
        cut = changed.model_copy(update={"accumulate": work.spec.accumulate})
        strategy = kind(cut, **changed.options_of(kind))
        if far and world > 1 and not strategy.spreads:
            raise SpecError(
                f"strategy={name!r}: its ranks share the memory of one machine; take strategy='parameter_server'"
            )
        cost = _averaging(strategy.cost(work), work, changed)
    except SpecError as error:
        return Row(name, world, None, " ".join(str(error).split()))
    return Row(name, world, cost, cost.why, exact=strategy.exact)


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
