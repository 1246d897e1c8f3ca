"""Finished figures: CHARTS maps a name to a function `(runs) -> Chart`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from .. import metrics
from ..metrics import METRICS, MINIMISED
from ..store.naming import labels
from ..store.story import begun
from ..store.tracks import Curve
from ..strategies.work import shown as size
from .descent import Descent, descent
from .drawing import Chart, Nothing
from .lines import SPREAD, Line, Lines, Marks, curves, leaving, losses
from .matrix import Matrix
from .panels import Panels, Racer
from .pareto import Pareto, pareto
from .placement import Placement
from .series import contestant, contestants, diverged, footprint, number, read, reduce
from .timeline import Timeline
from .trends import trends

if TYPE_CHECKING:
    from ..run.handle import Run
    from ..spec import Spec

__all__ = ["CHARTS", "Chart", "Curve", "Descent", "Lines", "Matrix", "Panels", "Pareto", "Placement", "Timeline"]
__all__ += [
    "contestant",
    "contestants",
    "curves",
    "descent",
    "footprint",
    "number",
    "read",
    "reduce",
    "size",
    "training",
    "trends",
]

MARKS = 8  # interventions shown in a chart, at most


def learning_rate(runs: list[Run]) -> Chart:
    """Learning rate by step, as schedule and interventions made it."""
    return _single(runs, "lr", "Learning rate", "learning rate")


def throughput(runs: list[Run]) -> Chart:
    """Training samples a second over all ranks, without evaluations, checkpoints and pauses."""
    return _single(runs, "samples_per_s", "Training throughput, all ranks", "samples/s", lowest=0.0)


def matrix(name: str, runs: list[Run]) -> Chart:
    """A metric that is a table of true against predicted classes, for the first of the runs."""
    run, title = runs[0], METRICS[name].title
    label = labels([run])[0]
    label += "" if label == run.id else f", {run.id}"
    row = next((row for row in reversed(read(run).detailed) if row.get(name)), None)
    if row is None:
        why = "since no test set with classes was evaluated"
        return Nothing(title, f"{label}: no {METRICS[name].word()} matrix, {why}.")
    counts = row[name]
    classes = [str(name) for name in run.facts.get("classes") or range(len(counts))]
    right, n = sum(counts[i][i] for i in range(len(counts))), sum(map(sum, counts))
    wrong = sorted(((c, i, j) for i, r in enumerate(counts) for j, c in enumerate(r) if c and i != j), reverse=True)
    most = "; ".join(f"{classes[i]} taken for {classes[j]} {c} times" for c, i, j in wrong[:3])
    text = f"{title} matrix of {label} on its {row['split']} set: {right} of {n} right."
    text += f" Most often: {most}." if most else ""
    return Matrix(f"{label}\n{right} of {n} right ({row['split']})", text, counts, classes)


def timeline(runs: list[Run]) -> Chart:
    """What each rank did over a few steps, and who sent what to whom, for the first of the runs."""
    run = runs[0]
    spans, told = run.timeline(), run.costs()
    if not spans:
        return Nothing("Timeline", f"{labels([run])[0]}: no steps were recorded yet; the first are the 11th to 13th.")
    steps = f"steps {told[0]['step'] - 1} and {told[0]['step']}"
    lines = []
    for cost in told:
        shares = ", ".join(
            f"{name} {cost[name] / cost['seconds']:.0%}" for name in ("compute", "communication", "idle")
        )
        sent = ", ".join(f"{size(count)} to rank {other}" for other, count in cost["to"].items())
        lines.append(f"Rank {cost['rank']}: {shares}" + (f"; sends {sent} a step" if sent else ""))
    text = f"Timeline of {labels([run])[0]}, {steps}. {'. '.join(lines)}."
    return Timeline(f"Timeline, {labels([run])[0]}, {steps}", text, spans, len(told))


def placement(spec: Spec) -> Chart:
    """Who holds what under the strategy of a spec: the batch, parameters, gradients and optimizer state."""
    from ..errors import SpecError
    from ..strategies import STRATEGIES
    from ..strategies.base import Single

    if spec.strategy not in STRATEGIES:
        raise SpecError(f"strategy={spec.strategy!r}: what ranks hold is known of {', '.join(STRATEGIES)} only")
    strategy = STRATEGIES[spec.strategy] if spec.world > 1 else Single  # with one rank each is plain training
    held = [strategy(spec, **spec.options_of(strategy)).holds(rank, spec.world) for rank in range(spec.world)]
    words = [
        f"rank {rank}: " + ", ".join(f"{name} {end - begin:.0%}" for name, (begin, end) in places.items())
        for rank, places in enumerate(held)
    ]
    text = f"What each rank holds under {spec.strategy}. {'; '.join(words)}."
    return Placement(f"{spec.strategy}: what each rank holds", text, held)


def race(runs: list[Run]) -> Chart:
    """Strategies side by side: training loss by step and by second, memory, and bytes sent."""
    title = "Strategies side by side"
    prints = [footprint(run) for run in runs]
    tensors = all(found.tensors is not None for found in prints)
    racers, words = [], []
    for run, name, found in zip(runs, contestants(runs), prints, strict=True):
        story = read(run)
        curve = story.curves.get(MINIMISED, Curve([], []))
        at = dict(zip(*story.clock, strict=True))
        timed = Curve([at[step] for step in curve.x], curve.y)
        memory = found.tensors if tensors else found.memory
        racers.append(Racer(name, curve, timed, _mega(memory), _mega(found.sent)))
        words.append(
            f"{name}: {_told('', curve).strip()} in {number(timed.x[-1])} s" if curve.x else f"{name}: nothing"
        )
    if not any(racer.steps.x for racer in racers):
        return Nothing(title, f"{title}: no run has any step yet ({', '.join(run.id for run in runs)}).")
    above = diverged(racer.steps.y for racer in racers)
    values = [value for i, racer in enumerate(racers) if i not in above for value in racer.steps.y]
    low, high = min(values), max(values)
    log = low > 0 and high / low > SPREAD
    text = f"{title}: training loss by optimizer step and by seconds of training. {'. '.join(words)}."
    if above:
        title, text = leaving(title, text, [racers[i].name for i in above])
    y = "training loss" + (" (log scale)" if log else "")
    kind = "MB of tensors, largest rank" if tensors else "MB of memory, largest rank's process"
    return Panels(title, text, y, kind, tuple(racers), log, (low, high) if above else None)


def training(name: str, names: list[str], curves: list[dict[str, Curve]], marks: Marks = ()) -> Chart:
    """
    Curves of training and validation of one or several runs.

    Parameters
    ----------
    name
        Of a metric.
    names, curves
        Of each run a label, and its curves by name (see `Story.learning`).
    marks
        Steps at which something happened, and what.
    """
    metric = METRICS[name]
    title = metric.title
    alone = len(names) == 1
    lines, words = [], []
    for i, (label, known) in enumerate(zip(names, curves, strict=True)):
        train, val = known.get(name), known.get(f"val_{name}")
        if train:
            told = "training, each step" if alone else f"{label}, training"
            lines.append(Line(told, train, i, strong=False, legend=alone or not val))
        if val:
            lines.append(Line("validation" if alone else label, val, i))
        parts = [_told(kind, curve) for kind, curve in (("training", train), ("validation", val)) if curve]
        words.append(f"{label}: {'; '.join(parts) or 'nothing yet'}")
    if not lines:
        return Nothing(title, f"{title}: no run has any yet ({', '.join(names)}).")
    lines.sort(key=lambda line: line.strong)
    heading = f"{title}, {names[0]}" if alone else f"{title} (strong: validation; thin: training)"
    text = f"{title} by optimizer step. {'. '.join(words)}."
    if not metric.higher:
        return losses(heading, text, lines, names, metric.axis, marks)
    return Lines(heading, text, metric.axis, tuple(lines), highest=metric.highest, marks=marks)


def followed(name: str, runs: list[Run]) -> Chart:
    """A metric by step: training thin, validation strong."""
    return training(name, labels(runs), [read(run).curves for run in runs], _marks(runs))


def _single(runs: list[Run], name: str, title: str, y: str, lowest: float | None = None) -> Chart:
    """One curve a run."""
    lines, words = [], []
    for i, (run, label) in enumerate(zip(runs, labels(runs), strict=True)):
        curve = read(run).curves.get(name)
        if curve:
            lines.append(Line(label, curve, i, points=name != "lr"))
            words.append(f"{label}: {_told('', curve).strip()}, median {number(median(curve.y))}")
    if not lines:
        return Nothing(title, f"{title}: no run has any yet ({', '.join(run.id for run in runs)}).")
    heading = f"{title}, {lines[0].name}" if len(runs) == 1 else title
    peaks = [max(line.curve.y) for line in lines]
    log = lowest is None and min(min(line.curve.y) for line in lines) > 0 and max(peaks) / min(peaks) > SPREAD
    text = f"{title} by optimizer step. {'. '.join(words)}."
    y += " (log scale)" if log else ""
    return Lines(heading, text, y, tuple(lines), log, lowest=lowest, marks=_marks(runs))


def _told(kind: str, curve: Curve) -> str:
    """A curve in words."""
    (x, y), low, high = curve, min(curve.y), max(curve.y)
    span = f"{kind} {number(y[0])} at step {x[0]:.0f} to {number(y[-1])} at step {x[-1]:.0f}"
    return f"{span} (lowest {number(low)}, highest {number(high)})"


def _marks(runs: list[Run]) -> Marks:
    """What was done to a run that is shown alone, and where each link of its chain begins."""
    told: dict[float, str] = {}
    for row in read(runs[0]).notes if len(runs) == 1 else []:
        if what := begun(row) or (_deed(row) if "command" in row else ""):
            step = float(row["step"])
            told[step] = f"{told[step]}, {what}" if step in told else what
    return tuple(told.items())[:MARKS]


def _mega(count: float | None) -> float | None:
    return None if count is None else count / 1e6


def _deed(row: Mapping[str, Any]) -> str:
    values = {k: v for k, v in row.items() if k in ("lr", "clip", "weight_decay")}
    return ", ".join(f"{name}={value:g}" for name, value in values.items()) or row["command"]


CHARTS: dict[str, Callable[[list[Run]], Chart]] = {
    **{name: partial(followed, name) for name in metrics.shown()},
    "learning_rate": learning_rate,
    "throughput": throughput,
    **{name: partial(matrix, name) for name in metrics.tables()},
    "timeline": timeline,
    "race": race,
    "pareto": pareto,
}


def __getattr__(name: str) -> Callable[[list[Run]], Chart]:
    """A chart by its name."""
    if name in CHARTS:
        return CHARTS[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
