"""Races: one training under several strategies, one after the other, and each held to what one process computes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from ..charts import CHARTS, picture
from ..charts.series import contestant, contestants, footprint, number, read
from ..errors import SpecError
from ..launchers import HERE, Launcher, asked
from ..metrics import MINIMISED, Figure, main
from ..run.checks import Allowed, named, splits, trains
from ..run.handle import Run
from ..run.launching import make, start, together
from ..run.own import Own
from ..run.steering import MOVED
from ..section import NONE, Section, table
from ..spec import Spec, step_samples
from ..store.folder import ENDED
from ..store.tracks import Curve
from ..tables import entry_options
from .contenders import entries, fields
from .equality import Equality, compare, exact
from .several import Several

if TYPE_CHECKING:
    import pandas as pd

    from ..charts import Chart

VALIDATED = f"val_{MINIMISED}"
REACHED = 1e-3  # relative: a loss this near to the reference's last one counts as reached

NOTE = (
    "Same seed and data; one after the other. Loss: training, mean of the last epoch. Loss difference: the largest to "
    "the reference's curve over its first ten steps, relative. Parameter difference: the largest of any value to the "
    "reference's at the end. In brackets what each is held to: rounding grows with the steps, and an optimizer that "
    "scales each value's step moves one whose gradient is nothing but rounding by up to lr a step. Seconds a step: "
    "median, without evaluations, checkpoints and pauses. Memory: the largest rank's process (PSS), or its GPU memory. "
    "Sent: by the rank that sends most. Time to reference loss: seconds of training until the reference's last loss "
    "(validation, where it has one) is reached."
)


def race(
    spec: Spec,
    strategies: Iterable[Any] | None = None,
    model: Any = None,
    data: Any = None,
    loss: Any = None,
    task: Any = None,
    collate: Any = None,
    metrics: Any = None,
    on: str | Launcher = "local",
) -> Race:
    """
    Train a spec under several strategies, with the same seed and data, and return at once.

    The runs take turns, so that none disturbs another's seconds, and don't need the kernel: when it dies in mid-race
    they go on to the last, and ``lab.Race(runs)`` of what `lab.runs()` finds shows them again. Runs that you launch
    meanwhile share the machine with them all the same.

    Parameters
    ----------
    spec
        What to train and how; its world is that of every strategy but `single`.
    strategies
        Each a name; a pair of a name and its options, such as ``("ddp", {"find_unused_parameters": True})``; or a
        mapping of ``strategy`` and any of ``world``, ``options``, ``device`` and ``timeout``. All there are by default.
        One that can't do the spec is not run, and shown with the reason.
    model, data, loss, task, collate, metrics, on
        As `launch` takes them.

    Raises
    ------
    SpecError, LabError
        If a strategy is unknown, or none can do the spec; and as `launch` does.
    """
    if not isinstance(spec, Spec):
        raise SpecError(f"race takes a Spec, not a {type(spec).__name__}: lab.race(lab.Spec(...), ['single', 'ddp'])")
    own = Own(model, data, loss, task=task, collate=collate, metrics=metrics)
    return entered(spec, strategies, own, on=asked(on))


def entered(spec: Spec, strategies: Iterable[Any] | None, own: Own, strict: bool = False, on: Launcher = HERE) -> Race:
    """The race of the strategies that can do a spec; `strict` refuses it where one of them can't."""
    spec = named(spec, own.parts)
    own.splits(spec)  # what is wrong with the data is no strategy's word
    able: list[tuple[Spec, str]] = []  # with its device
    refused: dict[str, str] = {}
    for changes in [fields(spec, entry) for entry in entries(strategies)]:
        try:
            contender = spec.replace(**changes)
            able.append((contender, splits(contender, own, on)))
        except SpecError as error:
            refused[contestant(spec.model_copy(update=changes))] = str(error)
    if strict and refused:
        raise SpecError("\n".join(refused.values()))
    if not able:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise SpecError(f"strategies={strategies!r}: none can do this spec ({reasons or 'none was given'})")
    first = trains(*able[0], own)
    folder, device = make(first, on)
    parent = first.parent and replace(first.parent, folder=folder.path)
    others = (  # they take the code that was shipped with the first
        Allowed(other.replace(parent=first.spec.parent), place, {}, parent, folder.path) for other, place in able[1:]
    )
    return Race(start(*together(others, on, (folder, device))), refused)


class Race(Several):
    """
    The same training under several strategies; last in a cell it shows its figure and its table.

    Parameters
    ----------
    runs
        Runs whose specs differ in no more than name, strategy, world, options of the strategy, device and timeout.
    refused
        Why others could not run, by name.

    Attributes
    ----------
    runs : list of Run
        In the order in which they run.
    refused : dict of str to str
        As given.

    Raises
    ------
    SpecError
        If the runs differ in more.
    """

    def __init__(self, runs: Iterable[Run], refused: Mapping[str, str] | None = None) -> None:
        self.runs, self.refused = list(runs), dict(refused or {})
        if not self.runs:
            raise SpecError("a race needs at least one run: lab.race(spec, strategies) starts one")
        for run in self.runs[1:]:
            ours, theirs = _training(self.runs[0].spec), _training(run.spec)
            for field in (field for field in ours if ours[field] != theirs[field]):
                raise SpecError(
                    f"{field}={theirs[field]!r}: run {run.id!r} is another training than {self.runs[0].id!r}, which "
                    f"has {ours[field]!r}; a race is one training under several strategies"
                )

    def __repr__(self) -> str:
        return f"<Race: {self._progress}: {', '.join(contestants(self.runs))}>"

    @property
    def _progress(self) -> str:
        ended = sum(run.state in ENDED for run in self.runs)
        return f"{ended} of {len(self.runs)} runs have ended"

    @property
    def reference(self) -> Run | None:
        """What the others are held to: the first `single` run that is done, else the first of an exact strategy."""
        done = [run for run in self.runs if run.state == "done" and exact(run.spec)]
        return next((run for run in done if run.spec.strategy == "single"), done[0] if done else None)

    def figure(self) -> Chart:
        """Training loss by step and by second, memory and bytes of each run: one chart."""
        return CHARTS["race"](self.runs)

    def table(self) -> pd.DataFrame:
        """The rows as a pandas table."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def rows(self) -> list[dict[str, Any]]:
        """
        What each strategy came to, those refused too; None where it is not known.

        Each has name, strategy, world, options, run (id), state, exact; loss, val_loss, test_accuracy (last);
        loss_difference (relative, over the first ten steps) and loss_tolerance, curve_difference (the same over all
        steps), parameter_difference (largest of a value at the end) and parameter_tolerance, check (the verdict);
        step_s (median seconds), samples_per_s, memory (bytes, largest rank), tensors (bytes, largest rank, where
        measured), sent (bytes a step, of the rank that sends most), to_loss_s (to the reference's last loss);
        problem (why it failed or was refused).
        """
        reference, names = self.reference, contestants(self.runs)
        rows = [{"name": name, **_row(run, reference)} for run, name in zip(self.runs, names, strict=True)]
        blank = dict.fromkeys(rows[0])
        refused = self.refused.items()
        return rows + [{**blank, "name": name, "state": "refused", "problem": why} for name, why in refused]

    @property
    def html(self) -> str:
        """The figure and the table."""
        return f"{picture('race', self.runs).html}{self._section().html}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": f"{self.figure().text}\n\n{self._section().text}"}

    def _section(self) -> Section:
        rows = self.rows()
        columns = {head: [cell(row) for row in rows] for head, cell in COLUMNS.items()}
        columns = {head: cells for head, cells in columns.items() if set(cells) != {NONE}}
        over = all(run.state in ENDED for run in self.runs)
        note = NOTE if over else f"{self._progress}; race.wait() waits for the others. {NOTE}"
        lines = [[row["name"], *cells] for row, *cells in zip(rows, *columns.values(), strict=True)]
        return table("Race", ["strategy", *columns], lines, note, numeric=True)


def among(runs: list[Run]) -> Race | Section:
    """The race that several runs of one training are; nothing to show where they are none."""
    try:
        if len(runs) > 1:
            return Race(runs)
    except SpecError:
        pass
    return Section("", "")


def _training(spec: Spec) -> dict[str, Any]:
    """What all runs of a race have in common."""
    own = entry_options("strategy", spec.strategy)
    options = {name: value for name, value in spec.options.items() if name not in own}
    return {k: v for k, v in spec.to_dict().items() if k not in (*MOVED, "name")} | {"options": options}


def _row(run: Run, reference: Run | None) -> dict[str, Any]:
    """What a run came to, see `Race.table`."""
    spec, state, story = run.spec, run.state, read(run)
    own = entry_options("strategy", spec.strategy)
    durations = [after - before for before, after in pairwise(story.clock.y)]
    seconds = median(durations) if durations else None
    equality = compare(run, reference) if reference and state == "done" else None
    last = {name: curve.y[-1] for name, curve in story.curves.items()}
    return {
        "strategy": spec.strategy,
        "world": spec.world,
        "options": {name: value for name, value in spec.options.items() if name in own},
        "run": run.id,
        "state": state,
        "exact": exact(spec),
        MINIMISED: last.get(f"train_{MINIMISED}"),
        **{name: last.get(name) for name in (VALIDATED, f"test_{main()}")},
        **(equality._asdict() if equality else dict.fromkeys(Equality._fields)),
        "step_s": seconds,
        "samples_per_s": step_samples(spec, run.facts["samples"]) / seconds if seconds else None,
        **footprint(run)._asdict(),
        "to_loss_s": _reached(run, reference) if reference else None,
        "problem": _problem(run, state),
    }


def _reached(run: Run, reference: Run) -> float | None:
    """Seconds of training until the reference's last loss was reached."""
    ours, theirs = read(run), read(reference)
    name = VALIDATED if VALIDATED in theirs.curves else f"train_{MINIMISED}"
    if name not in theirs.curves:
        return None
    goal = theirs.curves[name].y[-1]
    seconds = dict(zip(*ours.clock, strict=True))
    points = zip(*ours.curves.get(name, Curve([], [])), strict=True)
    return next((seconds[step] for step, value in points if value <= goal + REACHED * abs(goal)), None)


def _problem(run: Run, state: str) -> str | None:
    """Why a run did not come to its end."""
    if run.failure:
        return str(run.failure)
    return None if state == "done" or state not in ENDED else f"it was {state} after {len(read(run).clock.x)} steps"


def _cell(name: str, write: Callable[[float], str] = number, limit: str = "") -> Callable[[dict[str, Any]], str]:
    """A figure of a row as people read it, with the `limit` that it is held to; a dash where it is not known."""

    def cell(row: dict[str, Any]) -> str:
        value = row[name]
        if value is None or math.isnan(value):
            return NONE
        return write(value) + (f" ({row[limit]:.0g})" if limit else "")

    return cell


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.3g} MB"


# What people read: the head of a column, and its text from a row.
COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "state": lambda row: row["state"],
    "check": lambda row: row["problem"] or row["check"] or NONE,
    MINIMISED: _cell(MINIMISED),
    Figure(MINIMISED, "val").label: _cell(VALIDATED),
    "loss difference": _cell("loss_difference", "{:.1g}".format, "loss_tolerance"),
    "parameter difference": _cell("parameter_difference", "{:.1g}".format, "parameter_tolerance"),
    "seconds a step": _cell("step_s", "{:.3g} s".format),
    "samples/s": _cell("samples_per_s"),
    "memory": _cell("memory", _megabytes),
    "tensors": _cell("tensors", _megabytes),
    "sent a step": _cell("sent", _megabytes),
    "time to reference loss": _cell("to_loss_s", "{:.3g} s".format),
}
