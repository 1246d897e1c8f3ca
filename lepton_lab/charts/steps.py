"""Charts of runs over optimizer steps: metrics, learning rate and throughput."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from ..metrics import Metric, joined, known
from ..store.naming import labels
from ..watched import EMA
from .drawing import Chart, Nothing
from .lines import Line, Lines, Marks, far, losses, scaled
from .series import in_words, number, read

if TYPE_CHECKING:
    from ..run.handle import Run
    from ..store.tracks import Curve

SAID = ("training", "validation", "validation of the averaged weights")
MARKS = 8  # interventions shown in a chart, at most


def learning_rate(runs: list[Run]) -> Chart:
    """Learning rate by step, as schedule and interventions made it."""
    return _single(runs, "lr", "Learning rate", "learning rate")


def throughput(runs: list[Run]) -> Chart:
    """Training samples a second over all ranks, without evaluations, checkpoints and pauses."""
    return _single(runs, "samples_per_s", "Training throughput, all ranks", "samples/s", lowest=0.0)


def by_step(name: str, runs: list[Run]) -> Chart:
    """A metric by step: training thin, validation strong."""
    metric = joined(run.metrics for run in runs)[name]
    return training(name, labels(runs), [read(run).curves for run in runs], _marks(runs), metric)


def training(
    name: str,
    names: list[str],
    curves: list[dict[str, Curve]],
    marks: Marks = (),
    metric: type[Metric] | None = None,
) -> Chart:
    """
    A metric of runs by step, training and validation: `names` are labels, `curves` as `Story.learning` has them.

    `metric` is what is known of it, where the table does not tell.
    """
    metric = metric or known([name])[name]
    title = metric.title
    alone = len(names) == 1
    lines, words = [], []
    for i, (label, of_run) in enumerate(zip(names, curves, strict=True)):
        train, val = of_run.get(name), of_run.get(f"val_{name}")
        if train:
            thin = "training, each step" if alone else f"{label}, training"
            lines.append(Line(thin, train, i, strong=False, legend=alone or not val))
        if val:
            lines.append(Line("validation" if alone else label, val, i))
        averaged = of_run.get(f"val{EMA}_{name}")
        if averaged and alone:
            lines.append(Line("validation, averaged weights", averaged, i + 1))
        parts = [
            f"{split} {in_words(curve)}" for split, curve in zip(SAID, (train, val, averaged), strict=True) if curve
        ]
        words.append(f"{label}: {'; '.join(parts) or 'nothing yet'}")
    if not lines:
        return Nothing(title, f"{title}: no run has any yet ({', '.join(names)}).")
    lines.sort(key=lambda line: line.strong)
    heading = f"{title}, {names[0]}" if alone else f"{title} (strong: validation; thin: training)"
    text = f"{title} by optimizer step. {'. '.join(words)}."
    if not metric.higher:
        return losses(heading, text, lines, names, metric.axis, marks)
    return Lines(heading, text, metric.axis, tuple(lines), highest=metric.highest, marks=marks)


def _single(runs: list[Run], name: str, title: str, y: str, lowest: float | None = None) -> Chart:
    """One curve a run."""
    lines, words = [], []
    for i, (run, label) in enumerate(zip(runs, labels(runs), strict=True)):
        if curve := read(run).curves.get(name):
            lines.append(Line(label, curve, i, points=name != "lr"))
            words.append(f"{label}: {in_words(curve)}, median {number(median(curve.y))}")
    if not lines:
        return Nothing(title, f"{title}: no run has any yet ({', '.join(run.id for run in runs)}).")
    heading = f"{title}, {lines[0].name}" if len(runs) == 1 else title
    peaks = [max(line.curve.y) for line in lines]
    log = lowest is None and min(min(line.curve.y) for line in lines) > 0 and far(peaks)
    text = f"{title} by optimizer step. {'. '.join(words)}."
    return Lines(heading, text, scaled(y, log), tuple(lines), log, lowest=lowest, marks=_marks(runs))


def _marks(runs: list[Run]) -> Marks:
    """What was done to a run that is shown alone, see `Story.marks`."""
    marks = read(runs[0]).marks if len(runs) == 1 else {}
    return tuple((float(step), what) for step, what in marks.items())[:MARKS]
