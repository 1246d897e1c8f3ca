"""Rows of a run become curves: pure functions, tested by themselves; drawing is next door."""

from __future__ import annotations

from bisect import bisect
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import accumulate, pairwise
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from ..spec import Spec
from ..tables import table

if TYPE_CHECKING:
    from ..run.handle import Run

Row = Mapping[str, Any]
COLUMNS = 600  # of a reduced curve: what a chart of a page's width can show
STRETCHES = 40  # at most, of a throughput curve
HIGHER = 8  # times the median of the runs' highest losses: one that diverged would flatten the others (as in chart.js)


class Curve(NamedTuple):
    """Optimizer steps, ascending, and a value at each."""

    x: list[float]
    y: list[float]


class Story(NamedTuple):
    """What views need of a run's events, without its many train rows."""

    curves: dict[str, Curve]
    """See `series`."""
    rows: list[Row]
    """All rows but those of training."""
    first: float | None
    """Time of the first training step, unix seconds."""
    training: float
    """Seconds in training steps, see `intervals`."""
    clock: Curve
    """Seconds of training until each step, see `clock`."""


def read(run: Run) -> Story:
    """A run's story; read again only when there is more of it."""
    sizes = tuple((path.name, path.stat().st_size) for path in sorted((run.folder / "events").glob("*.jsonl")))
    return _read(run, sizes)


@lru_cache(maxsize=16)
def _read(run: Run, sizes: tuple[tuple[str, int], ...]) -> Story:
    rows = run.rows()
    first = next((row["t"] for row in rows if row["kind"] == "train"), None)
    training = sum(seconds for *_, seconds in intervals(rows))
    return Story(series(rows), [row for row in rows if row["kind"] != "train"], first, training, clock(rows))


def series(rows: Iterable[Row]) -> dict[str, Curve]:
    """
    Curves of one run by name; a name is missing where there is nothing to show.

    Parameters
    ----------
    rows
        Events as `Run.rows()` returns them.

    Returns
    -------
    dict
        - loss, accuracy: training, at each step, the mean over ranks weighted by their samples;
          "loss rank 0", "accuracy rank 0" and so on: each rank's own, where there are several;
        - val_loss, val_accuracy, test_loss, test_accuracy: evaluations;
        - train_loss, train_accuracy: means over each epoch's training batches;
        - lr: learning rate; samples_per_s: see `throughput`.
    """
    rows = list(rows)
    curves: dict[str, Curve] = {}
    for name, values in _training(rows).items():
        curves[name] = _curve(values)
    curves["samples_per_s"] = throughput(rows)
    for split in ("train", "val", "test"):
        evals = [row for row in rows if row["kind"] == "eval" and row["split"] == split]
        for name in ("loss", "accuracy"):
            curves[f"{split}_{name}"] = _curve({row["step"]: row.get(name) for row in evals})
    return {name: curve for name, curve in curves.items() if curve.x}


def _training(rows: list[Row]) -> dict[str, dict[int, float]]:
    """Values of the train rows by step: merged over ranks, and of each rank where there are several."""
    values: dict[str, dict[int, float]] = {"lr": {}}
    weights: dict[str, dict[int, int]] = {"loss": {}, "accuracy": {}}  # samples that a merged value stands for
    ranks = set()
    for row in rows:
        if row["kind"] != "train":
            continue
        step, rank, n = row["step"], row["rank"], row["samples"]
        ranks.add(rank)
        values["lr"][step] = row["lr"]
        for name, weight in weights.items():
            value = row.get(name)
            if value is not None and n:  # a rank without samples in a short last batch has no say
                merged, before = values.setdefault(name, {}), weight.get(step, 0)
                merged[step] = (merged.get(step, 0.0) * before + value * n) / (before + n)
                weight[step] = before + n
                values.setdefault(f"{name} rank {rank}", {})[step] = value
    return values if len(ranks) > 1 else {name: curve for name, curve in values.items() if " rank " not in name}


def _curve(values: Mapping[int, float | None]) -> Curve:
    steps = sorted(step for step, value in values.items() if value is not None)
    return Curve([float(step) for step in steps], [float(values[step]) for step in steps])  # type: ignore[arg-type]


def intervals(rows: Iterable[Row]) -> list[tuple[int, int, float]]:
    """
    What each training step took: (step, samples over all ranks, seconds since the step before).

    Only steps that follow another of the same epoch, with nothing between: evaluations, checkpoints, pauses and
    restarts are left out. Where each epoch is one step, as under `gd`, evaluations are taken off, checkpoints are not.
    """
    rows = list(rows)
    breaks = sorted(row["t"] for row in rows if row["kind"] in ("state", "note"))
    parts = next((row["parts"] for row in reversed(rows) if "parts" in row), None)
    steps: dict[int, list[Any]] = {}  # step -> time when the last rank had done it, epoch, samples, ranks
    for row in rows:
        if row["kind"] == "train":
            seen = steps.setdefault(row["step"], [row["t"], row["epoch"], 0, 0])
            seen[0] = max(seen[0], row["t"])
            seen[2] += row["samples"]
            seen[3] += 1
    apart = len({epoch for _, epoch, *_ in steps.values()}) == len(steps)
    lost: dict[int, float] = defaultdict(float)  # step -> seconds of evaluations after it
    for row in rows:
        if row["kind"] == "eval":
            lost[row["step"]] += row.get("seconds", 0.0)
    found = []
    for step in sorted(steps):
        t, epoch, samples, ranks = steps[step]
        before = steps.get(step - 1)
        if before and (apart or before[1] == epoch) and bisect(breaks, t) == bisect(breaks, before[0]):
            seconds = t - before[0] - lost[step - 1]
            if seconds > 0:
                # Ranks that compute the same samples, as tensor's and a pipeline's do, count once.
                found.append((step, samples * (parts or ranks) // ranks, seconds))
    return found


def clock(rows: Iterable[Row]) -> Curve:
    """
    Seconds of training until each step was done on all ranks, without evaluations, checkpoints and pauses.

    Counted from the moment when the ranks stood ready. A step that has no time of its own (see `intervals`), such as
    an epoch's first, counts as the median of the others.
    """
    rows = [row for row in rows if row["kind"] in ("state", "note", "train", "eval")]
    took = {step: seconds for step, _, seconds in intervals(rows)}
    steps = {row["step"]: row["t"] for row in rows if row["kind"] == "train"}
    if not steps:
        return Curve([], [])
    ready = [row["t"] for row in rows if row["kind"] == "state" and row["state"] == "running"]
    first = min(steps)
    usual = median(took.values()) if took else 0.0
    if first not in took and ready and ready[0] < steps[first]:
        took[first] = steps[first] - ready[0]  # with all that a first step sets up
    return Curve([float(step) for step in sorted(steps)], list(accumulate(took.get(s, usual) for s in sorted(steps))))


def throughput(rows: Iterable[Row]) -> Curve:
    """Training samples a second over all ranks, in up to 40 stretches of five steps or more (see `intervals`)."""
    steps = intervals(rows)
    count = max(1, min(STRETCHES, len(steps) // 5))
    bounds = [len(steps) * i // count for i in range(count + 1)]
    parts = [steps[start:end] for start, end in pairwise(bounds) if end > start]
    rates = [sum(n for _, n, _ in part) / sum(seconds for *_, seconds in part) for part in parts]
    return Curve([float(part[-1][0]) for part in parts], rates)


def reduce(curve: Curve, columns: int = COLUMNS) -> Curve:
    """The lowest and the highest point of each column of a chart, and both ends: looks the same, with fewer points."""
    x, y = curve
    if len(x) <= 2 * columns:
        return curve
    width = (x[-1] - x[0]) / columns
    lows: dict[int, int] = {}
    highs: dict[int, int] = {}
    for i, step in enumerate(x):
        column = int((step - x[0]) / width)
        if column not in lows or y[i] < y[lows[column]]:
            lows[column] = i
        if column not in highs or y[i] > y[highs[column]]:
            highs[column] = i
    kept = sorted({0, len(x) - 1, *lows.values(), *highs.values()})
    return Curve([x[i] for i in kept], [y[i] for i in kept])


def diverged(losses: Iterable[Iterable[float]]) -> list[int]:
    """Which of several runs, each with its losses, left the others so far below that they are not drawn to scale."""
    tops = {i: max(values) for i, values in enumerate(map(list, losses)) if values}
    usual = sorted(tops.values())[(len(tops) - 1) // 2] if tops else 0.0
    return [i for i, top in tops.items() if top > HIGHER * usual > 0]


def begun(row: Row) -> str:
    """The link of a chain that begins with a note, such as "prune"; "" where none does."""
    if row["kind"] != "note" or "number" not in row or not row["text"].endswith(": begins"):
        return ""
    return row["link"] + (f" {row['round']}" if "round" in row else "")


def contestants(runs: list[Run]) -> list[str]:
    """How each run's work was split, all different: the strategy, its ranks and options, such as `ddp x 2`."""
    found = [contestant(run.spec) for run in runs]
    return [
        name if found.count(name) == 1 else f"{name} ({found[: i + 1].count(name)})" for i, name in enumerate(found)
    ]


def contestant(spec: Spec) -> str:
    """A strategy, its ranks and options in a few words."""
    name = spec.strategy + (f" x {spec.world}" if spec.world != 1 else "")
    own = spec.options_of(table("strategy")[spec.strategy]) if spec.strategy in table("strategy") else {}
    return ", ".join([name, *(f"{key}={value}" for key, value in own.items())])


class Footprint(NamedTuple):
    """What a step needs beside time; None where it was not measured."""

    memory: float | None
    """Bytes of the largest rank: its GPU memory, else its process (proportional set size), at the highest moment."""
    tensors: float | None
    """Bytes of the largest rank's tensors at the highest moment of a step."""
    sent: float | None
    """Bytes a step of the rank that sends most."""


def footprint(run: Run) -> Footprint:
    """Memory and traffic of a run."""
    system = [row for row in read(run).rows if row["kind"] == "system"]
    memory = max((row.get("gpu_memory") or row["memory"] for row in system), default=None)
    costs = run.costs()
    tensors = max((cost["memory"]["peak"] for cost in costs), default=None)
    return Footprint(memory, tensors, max((cost["bytes"] for cost in costs), default=None))


def number(value: float) -> str:
    """A figure to four digits, as people write it."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"
