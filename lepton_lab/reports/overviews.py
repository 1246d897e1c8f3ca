"""Many runs in one figure: those that differ in nothing but the seed are one line, or one point."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from typing import TYPE_CHECKING

from ..charts.drawing import Chart, Nothing
from ..charts.lines import Line, Lines, losses
from ..charts.pareto import Point, against
from ..charts.series import footprint, number, read
from ..metrics import Figure, main
from ..store.tracks import Curve

if TYPE_CHECKING:
    from ..run.handle import Run

Groups = Mapping[str, list["Run"]]
"""Runs by what sets them apart but the seed, in a few words."""
FEW = 12  # lines in a figure
COSTS = ("seconds of training", "MB of memory, largest rank", "MB sent a step")


def curves(groups: Groups, figure: Figure) -> Chart:
    """A figure of each group by step, as the mean over its seeds; of many groups the best are shown."""
    title, metric = figure.label.capitalize(), figure.metric
    means = {label: curve for label, runs in groups.items() if (curve := _mean(runs, figure.key)).x}
    if not means:
        return Nothing(title, f"{title}: no run has any yet.")
    ranked = sorted(means, key=lambda label: means[label].y[-1], reverse=metric.higher)
    shown = [label for label in means if label in ranked[:FEW]]
    lines = tuple(Line(label, means[label], i) for i, label in enumerate(shown))
    seeds = max(len(runs) for runs in groups.values())
    title += f", mean over {seeds} seeds" if seeds > 1 else ""
    title += f", the {FEW} best of {len(means)}" if len(means) > FEW else ""
    words = [f"{label}: {number(means[label].y[0])} to {number(means[label].y[-1])}" for label in shown]
    best = "Highest" if metric.higher else "Lowest"
    text = f"{title}, by optimizer step. {best} at the end: {ranked[0]}. {'. '.join(words)}."
    if not metric.higher:
        return losses(title, text, lines, shown, metric.axis)
    return Lines(title, text, metric.axis, lines, highest=metric.highest)


def trade(groups: Groups) -> Chart:
    """Accuracy against what training cost: seconds, memory, bytes sent; with seeds as error bars."""
    title = "Accuracy against what training cost"
    measured = {label: pairs for label, runs in groups.items() if (pairs := _accuracies(runs))}
    if not measured:
        return Nothing(title, f"{title}: no run has measured an accuracy.")
    costs = {label: [_costs(run) for _, run in pairs] for label, pairs in measured.items()}
    axes = [i for i in range(len(COSTS)) if all(cost[i] for each in costs.values() for cost in each)]
    if not axes:
        return Nothing(title, f"{title}: no run has recorded what it cost.")
    points = [
        Point(
            label,
            pairs[0][1].command,
            tuple(accuracy for accuracy, _ in pairs),
            tuple(tuple(float(cost[i] or 0) for cost in costs[label]) for i in axes),
        )
        for label, pairs in measured.items()
    ]
    return against(title, points, tuple(COSTS[i] for i in axes))


def _mean(runs: list[Run], name: str) -> Curve:
    """The mean over runs at the steps that all of them have."""
    curves = [dict(zip(*curve, strict=True)) for run in runs if (curve := read(run).curves.get(name))]
    steps = sorted(set.intersection(*map(set, curves))) if curves else []
    return Curve(steps, [mean(values[step] for values in curves) for step in steps])


def _accuracies(runs: list[Run]) -> list[tuple[float, Run]]:
    """Of the test set, else of the last validation; of those runs that measured one."""
    curves = [(read(run).curves, run) for run in runs]
    accuracies = [(own.get(f"test_{main()}") or own.get(f"val_{main()}"), run) for own, run in curves]
    return [(curve.y[-1], run) for curve, run in accuracies if curve]


def _costs(run: Run) -> tuple[float | None, ...]:
    """What training cost, in the order of COSTS; None or 0 where it is not known, or nothing."""
    needs = footprint(run)
    return read(run).seconds, (needs.memory or 0) / 1e6, (needs.sent or 0) / 1e6
