"""Many runs in one figure: those that differ in nothing but the seed are one line, or one point."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from typing import TYPE_CHECKING

from ..charts import Chart, Curve, Lines, Pareto, footprint, number, read
from ..charts.drawing import Nothing
from ..charts.lines import Line, losses
from ..charts.pareto import Point, spread
from ..metrics import Figure, main

if TYPE_CHECKING:
    from ..run.handle import Run

Groups = Mapping[str, list["Run"]]
"""Runs by what sets them apart but the seed, in a few words."""
FEW = 12  # lines in a figure
COSTS = ("seconds of training", "MB of memory, largest rank", "MB sent a step")


def curves(groups: Groups, figure: Figure) -> Chart:
    """
    One curve of each group, as the mean over its seeds.

    Parameters
    ----------
    groups
        The runs.
    figure
        Which. Where there are many groups, the best are shown.
    """
    title, metric = figure.label.capitalize(), figure.metric
    best = "highest" if metric.higher else "lowest"
    found = {label: curve for label, runs in groups.items() if (curve := _mean(runs, figure.key)).x}
    if not found:
        return Nothing(title, f"{title}: no run has any yet.")
    ranked = sorted(found, key=lambda label: found[label].y[-1], reverse=best == "highest")
    kept = [label for label in found if label in ranked[:FEW]]
    lines = tuple(Line(label, found[label], i) for i, label in enumerate(kept))
    seeds = max(len(runs) for runs in groups.values())
    title += f", mean over {seeds} seeds" if seeds > 1 else ""
    title += f", the {FEW} best of {len(found)}" if len(found) > FEW else ""
    words = [f"{label}: {number(found[label].y[0])} to {number(found[label].y[-1])}" for label in kept]
    text = f"{title}, by optimizer step. {best.capitalize()} at the end: {ranked[0]}. {'. '.join(words)}."
    if not metric.higher:
        return losses(title, text, lines, kept, metric.axis)
    return Lines(title, text, metric.axis, lines, highest=metric.highest)


def trade(groups: Groups) -> Chart:
    """Accuracy against what training cost: seconds, memory, bytes sent; with seeds as error bars."""
    title = "Accuracy against what training cost"
    told = {label: pairs for label, runs in groups.items() if (pairs := _accuracies(runs))}
    if not told:
        return Nothing(title, f"{title}: no run has measured an accuracy.")
    costs = {label: [_costs(run) for _, run in pairs] for label, pairs in told.items()}
    axes = [i for i in range(len(COSTS)) if all(cost[i] for each in costs.values() for cost in each)]
    if not axes:
        return Nothing(title, f"{title}: no run has recorded what it cost.")
    points = []
    for label, pairs in told.items():
        values = tuple(tuple(float(cost[i] or 0) for cost in costs[label]) for i in axes)
        points.append(Point(label, pairs[0][1].command, tuple(accuracy for accuracy, _ in pairs), values))
    names = tuple(COSTS[i] for i in axes)
    words = []
    for point in points:
        cost = ", ".join(f"{number(spread(c)[0])} {name}" for c, name in zip(point.costs, names, strict=True))
        words.append(f"{point.name}: accuracy {mean(point.accuracy):.2%}, {cost}")
    return Pareto(title, f"{title}. {'. '.join(words)}.", tuple(points), names)


def _mean(runs: list[Run], name: str) -> Curve:
    """The mean over runs at the steps that all of them have."""
    found = [dict(zip(*curve, strict=True)) for run in runs if (curve := read(run).curves.get(name))]
    steps = sorted(set.intersection(*map(set, found))) if found else []
    return Curve(steps, [mean(values[step] for values in found) for step in steps])


def _accuracies(runs: list[Run]) -> list[tuple[float, Run]]:
    """Of the test set, else of the last validation; of those runs that measured one."""
    known = [(read(run).curves, run) for run in runs]
    name = main()
    found = [(curves.get(f"test_{name}") or curves.get(f"val_{name}"), run) for curves, run in known]
    return [(curve.y[-1], run) for curve, run in found if curve]


def _costs(run: Run) -> tuple[float | None, ...]:
    """What training cost, in the order of COSTS; None or 0 where it is not known, or nothing."""
    found = footprint(run)
    return read(run).seconds, (found.memory or 0) / 1e6, (found.sent or 0) / 1e6
