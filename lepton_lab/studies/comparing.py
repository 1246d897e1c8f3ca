"""compare(): ways to do the same over seeds, with error bars, and a sentence that says what the seeds decide."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import metrics
from ..charts import Chart
from ..charts.means import Arm, Arms
from ..charts.pareto import OF_SEED
from ..charts.series import number, read
from ..errors import LabError, SpecError, shown
from ..run.estimates import measured
from ..run.handle import Run, attach
from ..section import NONE, Section, escaped, table
from ..stats import LEVEL, Interval, interval
from ..store.folder import ENDED
from ..tables import pick

if TYPE_CHECKING:
    import pandas as pd


class Figure(NamedTuple):
    """What is compared."""

    label: str
    """Its name in a sentence."""
    read: Callable[[Run], float | None]
    """What a run tells of it; None where it tells nothing."""
    unit: str = ""
    """ "%" of a fraction."""

    @property
    def scale(self) -> float:
        """What a value is multiplied by to be shown."""
        return 100.0 if self.unit == "%" else 1.0

    @property
    def step(self) -> str:
        """The unit of a difference: percentage points of fractions."""
        return "points" if self.unit == "%" else self.unit

    def shown(self, value: float) -> str:
        """A value with its unit."""
        return f"{self._digits(value)} {self.unit}".strip()

    def apart(self, value: float) -> str:
        """A difference with its sign and unit."""
        return f"{'+' if value > 0 else ''}{self._digits(value)} {self.step}".strip()

    def between(self, gap: Interval) -> str:
        """The interval of a difference."""
        return f"{self.apart(gap.low).removesuffix(self.step).strip()} to {self.apart(gap.high)}"

    def _digits(self, value: float) -> str:
        return f"{100 * value:.2f}" if self.unit == "%" else number(value)


def _last(name: str) -> Callable[[Run], float | None]:
    return lambda run: read(run).curves[name].y[-1] if name in read(run).curves else None


def _file(name: str) -> Callable[[Run], float | None]:
    return lambda run: measured(run).get("artifact", {}).get(name)


def _figures(of: metrics.Known) -> dict[str, Figure]:
    """The last of each curve of some metrics, by the most telling metric first."""
    return {
        key: Figure(figure.label, _last(key), figure.metric.unit())
        for name in metrics.judges(of)
        for key, figure in metrics.figures("val", "test", "train", names=[name], of=of).items()
    }


MAIN = metrics.main()
FIGURES = {
    **_figures(metrics.known()),
    "seconds": Figure("training time", lambda run: read(run).seconds or None, "s"),
    f"file_{MAIN}": Figure(f"{MAIN} of the file", _file(MAIN), metrics.METRICS[MAIN].unit()),
    "file_bytes": Figure("size of the file", _file("bytes"), "bytes"),
}
"""
Figures of a run by name: the last of each curve, by the most telling metric first; seconds in training steps; and what
was measured of a chain's file.
"""


def compare(arms: Mapping[str, Sequence[Run | str] | Mapping[int, float]], figure: str = f"val_{MAIN}") -> Comparison:
    """
    Compare ways to do the same, each over several seeds: the others with the first, seed by seed.

    Runs with the same seed share split, initial weights and order of samples, so that their difference tells more than
    the difference of means.

    Parameters
    ----------
    arms
        Name -> runs that differ in nothing but the seed (or their ids), all done; or, of a figure of your own, name ->
        a number for each seed. Every arm has the same seeds, two at least.
    figure
        A name of FIGURES, or of a metric of the runs such as "val_f1"; of numbers, what they are.

    Raises
    ------
    SpecError, LabError
        In one sentence: too few arms or seeds, seeds that do not match, a run that is not done, a figure that a run
        does not have.
    """
    if not isinstance(arms, Mapping) or len(arms) < 2:
        raise SpecError(f"arms={shown(arms)}: must be two ways or more, as name -> runs over seeds")
    taken = {str(name): arm if isinstance(arm, Mapping) else _runs(str(name), arm) for name, arm in arms.items()}
    chosen = _chosen(figure, [run for arm in taken.values() if not isinstance(arm, Mapping) for run in arm])
    values = {name: _values(name, arm, figure, chosen) for name, arm in taken.items()}
    first, *others = values
    for name in others:
        if values[name].keys() != values[first].keys():
            seeds = f"{name!r} has the seeds {_listed(values[name])} and {first!r} {_listed(values[first])}"
            raise SpecError(f"arms: {seeds}; both need the same, since they are compared seed by seed")
    check_seeds(values[first])
    return Comparison(values, figure, chosen)


def _chosen(figure: str, runs: list[Run]) -> Figure:
    """What is compared: a figure of the runs, or of numbers alone one of the user's own."""
    if not runs:
        return FIGURES.get(figure) or Figure(figure, lambda run: None)
    return pick({**FIGURES, **_figures(metrics.joined(run.metrics for run in runs))}, figure, "figure")


def check_seeds(seeds: Iterable[int]) -> None:
    """Refuse seeds that can't be compared, before runs begin: fewer than two, or one that is there twice."""
    seeds = list(seeds)
    if len(seeds) < 2:
        more = max(seeds, default=-1) + 1
        raise SpecError(f"seeds={seeds}: from one seed only no interval can be given; add more, such as {more}")
    if len(set(seeds)) < len(seeds):
        raise SpecError(f"seeds={seeds}: each must be there once, since runs are paired by their seeds")


class Comparison:
    """
    What `compare` found; last in a cell it shows the sentence, the figure and a table.

    Attributes
    ----------
    values : dict
        Arm -> seed -> figure.
    figure_name : str
        What is compared, by its name.
    means : dict
        Arm -> Interval of its mean over seeds, at 95 %.
    differences : dict
        Arm -> Interval of what it has more than the first arm, from the differences with each seed. Where there are
        several, each is widened (Bonferroni), so that all of them hold at once with 95 %.
    """

    def __init__(self, values: dict[str, dict[int, float]], figure: str, of: Figure) -> None:
        self.values, self.figure_name, self._figure = values, figure, of
        self.reference, *self._others = values
        level = 1 - (1 - LEVEL) / len(self._others)
        base = values[self.reference]
        self.means = {name: interval(list(arm.values())) for name, arm in values.items()}
        self.differences = {
            name: interval([values[name][seed] - base[seed] for seed in base], level) for name in self._others
        }

    def __repr__(self) -> str:
        return f"<Comparison: {self.sentence}>"

    @property
    def seeds(self) -> list[int]:
        """Those that every arm has."""
        return list(self.values[self.reference])

    @property
    def sentence(self) -> str:
        """The answer and its uncertainty, or that the seeds do not decide it; one sentence for each other arm."""
        return " ".join(self._sentences())

    def figure(self) -> Chart:
        """Every seed, means with intervals, and differences with intervals: one chart."""
        figure, arms = self._figure, []
        for name, values in self.values.items():
            gap = self.differences.get(name)
            points = tuple(value * figure.scale for value in values.values())
            arms.append(Arm(name, points, self.means[name].scaled(figure.scale), gap and gap.scaled(figure.scale)))
        title = f"{figure.label[:1].upper()}{figure.label[1:]} over {len(self.seeds)} seeds (95 % intervals)"
        words = [f"{name} {figure.shown(mean.mean)}" for name, mean in self.means.items()]
        text = f"{title}: {', '.join(words)}. {self.sentence}"
        x = f"{figure.label} ({figure.unit})" if figure.unit else figure.label
        return Arms(title, text, x, figure.step, tuple(arms))

    def frame(self) -> pd.DataFrame:
        """
        A line for each arm, as a pandas table.

        Columns: arm, seeds (their number), mean, spread (standard deviation), low, high (of the mean's interval),
        difference, difference_low, difference_high (to the first arm), decided (whether that leaves out zero).
        """
        import pandas as pd

        rows = []
        for name, (mean, spread, low, high, n) in self.means.items():
            row = {"arm": name, "seeds": n, "mean": mean, "spread": spread, "low": low, "high": high}
            if gap := self.differences.get(name):
                row |= {"difference": gap.mean, "difference_low": gap.low, "difference_high": gap.high}
                row |= {"decided": gap.decided}
            rows.append(row)
        return pd.DataFrame(rows)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        section = self._section()
        answer = "".join(f"<p><strong>{escaped(sentence)}</strong></p>" for sentence in self._sentences())
        page = f"{answer}{self.figure().html}{section.html}"
        return {"text/html": page, "text/plain": f"{self.sentence}\n\n{section.text}"}

    def _section(self) -> Section:
        figure = self._figure
        columns = ["arm", f"{figure.label}, mean", "spread", "interval", f"more than {self.reference}", "its interval"]
        rows = []
        for name, mean in self.means.items():
            gap = self.differences.get(name)
            cells = [name, figure.shown(mean.mean), figure.apart(mean.spread).removeprefix("+")]
            cells.append(f"{figure.shown(mean.low)} to {figure.shown(mean.high)}")
            cells += [figure.apart(gap.mean), figure.between(gap)] if gap else [NONE, NONE]
            rows.append(cells)
        together = " and all of them at once" if len(self.differences) > 1 else ""
        note = (
            f"Seeds {_listed(self.seeds)}. Spread: standard deviation over them. Intervals: Student's t, 95 %; for "
            f"differences seed by seed{together}. They cover what a seed changes: initial weights, order of samples, "
            "and the split, where the data set has none of its own."
        )
        return table("Comparison", columns, rows, note, numeric=True)

    def _sentences(self) -> list[str]:
        return [self._sentence(name, gap) for name, gap in self.differences.items()]

    def _sentence(self, name: str, gap: Interval) -> str:
        figure, base, seeds = self._figure, self.reference, f"{gap.n} seeds"
        label, size = figure.label, figure.apart(abs(gap.mean)).removeprefix("+")
        if not gap.spread and not gap.mean:
            return f"The {label} is the same with {name} as with {base} for each of {seeds}, which tell no difference."
        more = f"The {label} is {size} {'higher' if gap.mean > 0 else 'lower'} with {name} than with {base}"
        if not gap.spread:
            return f"{more} for each of {seeds}, without any spread."
        span = f"{'joint ' * (len(self.differences) > 1)}95 % interval {figure.between(gap)}"
        if gap.decided:
            return f"{more} ({span}; paired over {seeds})."
        return (
            f"These {seeds} do not decide whether the {label} is higher with {name} or with {base}: the difference is "
            f"{figure.apart(gap.mean)}, and its {span} holds zero."
        )


def _values(name: str, arm: Mapping[int, Any] | list[Run], figure: str, of: Figure) -> dict[int, float]:
    """The figure of an arm by seed."""
    values: dict[int, Any] = {}
    if isinstance(arm, Mapping):
        values = dict(arm)
    else:
        for run in arm:
            if (value := of.read(run)) is None:
                raise SpecError(f"figure={figure!r}: run {run.id!r} of {name!r} has none")
            values[run.spec.seed] = value
    for seed, value in values.items():
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise SpecError(f"arms: seed {seed} of {name!r} has {figure}={value!r}; it must be a finite number")
    return {seed: float(values[seed]) for seed in sorted(values)}


def _runs(name: str, arm: Any) -> list[Run]:
    """Runs of an arm, of which each has a seed of its own and is done."""
    items = arm if isinstance(arm, Sequence) and not isinstance(arm, str) else [arm]
    runs = [attach(item) if isinstance(item, str) else item for item in items]
    for item in runs:
        if not isinstance(item, Run):
            raise SpecError(f"arms: {name!r} holds {shown(item)}; it must be runs, or a number for each seed")
    if not runs:
        raise SpecError(f"arms: {name!r} has no runs; give one for each seed, two at least")
    if broken := [f"{run.id!r} ({_state(run)})" for run in runs if run.state != "done"]:
        raise LabError(
            f"arms: of {name!r} not every run is done: {', '.join(broken)}; wait for them, or run them again"
        )
    seeds = [run.spec.seed for run in runs]
    for run in runs[1:]:
        ours, theirs = run.spec.to_dict(), runs[0].spec.to_dict()
        for field in (f for f in ours if f not in OF_SEED and ours[f] != theirs[f]):
            raise SpecError(
                f"arms: runs {runs[0].id!r} and {run.id!r} of {name!r} differ in {field} ({theirs[field]!r} and "
                f"{ours[field]!r}); those of one arm must differ in the seed alone"
            )
        if seeds.count(run.spec.seed) > 1:
            raise SpecError(f"arms: {name!r} has more than one run with seed={run.spec.seed}; take one of them")
    return runs


def _state(run: Run) -> str:
    if run.failure:
        return f"failed, {run.failure.type}: {run.failure.message}"
    return run.state if run.state in ENDED else f"still {run.state}"


def _listed(seeds: Any) -> str:
    return ", ".join(map(str, seeds))
