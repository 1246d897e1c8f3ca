"""Rows of a run become curves: pure functions, tested by themselves; drawing is next door."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ..run import Run

Row = Mapping[str, Any]
COLUMNS = 600  # of a reduced curve: what a chart of a page's width can show
STRETCHES = 40  # at most, of a throughput curve
LABEL = 44  # characters of a run's label in a legend, at most


class Curve(NamedTuple):
    """Optimizer steps, ascending, and a value at each."""

    x: list[float]
    y: list[float]


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
    train = [row for row in rows if row["kind"] == "train"]
    ranks = sorted({row["rank"] for row in train})
    curves = {name: _mean(train, name) for name in ("loss", "accuracy")}
    curves["lr"] = _curve({row["step"]: row["lr"] for row in train if "lr" in row})
    curves["samples_per_s"] = throughput(rows)
    for rank in ranks if len(ranks) > 1 else ():
        own = [row for row in train if row["rank"] == rank]
        curves |= {f"{name} rank {rank}": _mean(own, name) for name in ("loss", "accuracy")}
    for split in ("train", "val", "test"):
        evals = [row for row in rows if row["kind"] == "eval" and row["split"] == split]
        for name in ("loss", "accuracy"):
            curves[f"{split}_{name}"] = _curve({row["step"]: row.get(name) for row in evals})
    return {name: curve for name, curve in curves.items() if curve.x}


def _mean(rows: list[Row], name: str) -> Curve:
    sums: dict[int, list[float]] = {}
    for row in rows:
        value, n = row.get(name), row["samples"]
        if value is not None and n:  # a rank without samples in a short last batch has no say
            total = sums.setdefault(row["step"], [0.0, 0.0])
            total[0] += value * n
            total[1] += n
    return _curve({step: total / n for step, (total, n) in sums.items()})


def _curve(values: Mapping[int, float | None]) -> Curve:
    steps = sorted(step for step, value in values.items() if value is not None)
    return Curve([float(step) for step in steps], [float(values[step]) for step in steps])  # type: ignore[arg-type]


def intervals(rows: Iterable[Row]) -> list[tuple[int, int, float]]:
    """
    What each training step took: (step, samples over all ranks, seconds since the step before).

    Only steps that follow another of the same epoch, with nothing between: evaluations, checkpoints, pauses and
    restarts are left out.
    """
    rows = list(rows)
    breaks = sorted(row["t"] for row in rows if row["kind"] in ("state", "note"))
    steps: dict[int, list[Any]] = {}  # step -> time when the last rank had done it, epoch, samples
    for row in rows:
        if row["kind"] == "train":
            seen = steps.setdefault(row["step"], [row["t"], row["epoch"], 0])
            seen[0] = max(seen[0], row["t"])
            seen[2] += row["samples"]
    found = []
    for step in sorted(steps):
        t, epoch, samples = steps[step]
        before = steps.get(step - 1)
        if before and before[1] == epoch and t > before[0] and bisect(breaks, t) == bisect(breaks, before[0]):
            found.append((step, samples, t - before[0]))
    return found


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


def labels(runs: list[Run]) -> list[str]:
    """A short label for each run, all different: its name, else what sets its spec apart, else its id."""
    specs = [run.spec.to_dict() for run in runs]
    fields = [f for f in specs[0] if f not in ("name", "options") and any(s.get(f) != specs[0][f] for s in specs)]
    found = []
    for run, spec in zip(runs, specs, strict=True):
        label = spec["name"] or ("" if fields else f"{spec['model']} on {spec['dataset']}")
        for part in (f"{field}={spec.get(field)}" for field in fields if not spec["name"]):
            if len(label) + len(part) > LABEL:
                break
            label += f", {part}" if label else part
        found.append(label if label and len(label) <= LABEL else run.id)
    return [label if found.count(label) == 1 else run.id for label, run in zip(found, runs, strict=True)]


def number(value: float) -> str:
    """A figure to four digits, as people write it."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"
