"""search(): a chain that meets a budget, which Optuna looks for by runs; and a sentence where none does."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any

from ..chains import chain_name
from ..charts import CHARTS, Chart
from ..compressors import COMPRESSORS
from ..errors import LabError, SpecError, needs, unknown, whole
from ..launchers import asked
from ..metrics import MEASURED, METRICS
from ..run.checks import splits
from ..run.estimates import Estimate, estimate, measured
from ..run.handle import Run, attach
from ..run.launching import chained, compress
from ..run.own import Own
from ..section import NONE, table
from ..store.folder import ENDED
from . import budgets
from .budgets import DROPS, judged_by, shown, values

if TYPE_CHECKING:
    import optuna

    from ..launchers import Launcher

LINKS = tuple(name for name, compressor in COMPRESSORS.items() if compressor.knob)
NONE_OF = "none"  # of a link's choices: a chain without it
STEP = 0.05  # of the ratios that are tried: what lies between is alike
PEEKS = 40  # chains looked at by their estimate for each that is run
DOUBT = {"bytes": 1.02, "latency": 1.3, "latency_1": 1.3}  # how far an estimate must be beyond its limit to be believed
POLL = 0.1  # seconds between looks at a run
UNKNOWN = "is not known, since nothing tells how good this run's answers are"
FAILED = 1e3  # what a chain that can't be done counts


@dataclass
class Trial:
    """One chain that was run."""

    chain: list[dict[str, Any]]
    run: Run
    guess: Estimate
    values: dict[str, float] = field(default_factory=dict)
    """Measured, by name of the budget."""
    accuracy: float | None = None
    problem: str = ""
    metric: str = MEASURED
    """What answers were judged by."""
    quality: float | None = None
    """Its figure."""

    @property
    def rank(self) -> float:
        """By which trials that meet the budget are compared, more is better."""
        figure = self.quality if self.quality is not None and isfinite(self.quality) else None
        return 0.0 if figure is None else figure if METRICS[self.metric].higher else -figure

    def __str__(self) -> str:
        return f"{chain_name(self.chain)} (run {self.run.id})"


def search(
    run: Run | str,
    budget: Mapping[str, float],
    trials: int = 12,
    *,
    links: Sequence[str] = LINKS,
    seed: int = 0,
    on: str | Launcher = "local",
    **changes: Any,
) -> Search:
    """
    Look for a chain that meets a budget, and return at once; each chain that is tried is a run of its own.

    What can't meet the budget by its estimate is not run. Of chains that meet it the most accurate wins, or the best
    by the metric of the run's task, where answers are not right or wrong. It is chosen by the same test set that it is
    measured on: for a figure to publish, repeat the winner with other seeds.

    Parameters
    ----------
    run
        The parent, or its id.
    budget
        Limits, any of `bytes` (of the file), `latency` (seconds for a batch of 64), `latency_1` (for one sample),
        `accuracy_drop` (fraction below the dense control, which trains on for as long) and `quality_drop` (how much
        worse than the control by the task's metric: mAP, perplexity, R2).
    trials
        Runs, at most.
    links
        Compressors that a chain may hold.
    seed
        Of the search.
    on
        Where each runs, as `launch` takes it.
    **changes
        Fields of the spec, as for `compress`.

    Raises
    ------
    SpecError, LabError
        If a limit is refused, or the parent has no model.
    """
    needs("search", "optuna")
    parent = attach(run)
    budgets.check(budget)
    whole("trials", trials, 1)
    whole("seed", seed, 0)
    for name in links:
        if name not in LINKS:
            raise SpecError(f"links: {name!r}: {unknown('link', name, LINKS)}")
    if not links:
        raise SpecError(f"links=(): must hold at least one of {', '.join(LINKS)}")
    estimate(parent)  # refuses what has no model yet
    splits(chained(parent, list(links[:1]), changes), Own(), asked(on))  # refused here, since each chain would be
    budgets.suits(budget, parent)
    return Search(parent, dict(budget), trials, tuple(links), seed, on, changes)


class Search:
    """
    A search on its way, or ended; last in a cell it shows its verdict and its table.

    It lives in this process: when the kernel goes, the run at hand goes on, and no other follows.

    Attributes
    ----------
    trials : list of Trial
        Chains that were run so far.
    skipped : int
        Chains that their estimate ruled out.
    """

    def __init__(
        self,
        parent: Run,
        budget: dict[str, float],
        count: int,
        links: tuple[str, ...],
        seed: int,
        on: str | Launcher,
        changes: dict[str, Any],
    ) -> None:
        self.parent, self.budget, self.count = parent, budget, count
        self.trials: list[Trial] = []
        self.skipped = 0
        self.failure: BaseException | None = None
        self._links, self._seed, self._on, self._changes = links, seed, on, changes
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="lepton-lab-search", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Search on {self.parent.id}: {self.verdict}>"

    @property
    def runs(self) -> list[Run]:
        """The runs of all trials."""
        return [trial.run for trial in self.trials]

    @property
    def going(self) -> bool:
        """Whether it goes on."""
        return self._thread.is_alive()

    @property
    def best(self) -> Trial | None:
        """Of the trials that meet the budget the most accurate, or the best; None where none does."""
        meeting = [trial for trial in self.trials if trial.values and not self.violation(trial.values)]
        return max(meeting, key=lambda trial: trial.rank, default=None)

    @property
    def verdict(self) -> str:
        """What was found, in a sentence."""
        count = f"{len(self.trials)} of {self.count} runs" if self.going else f"{len(self.trials)} runs"
        if (best := self.best) is not None:
            return f"{best} meets the budget with {self._compared(best.values)}, the best of {count}."
        if self.failure is not None:
            return f"The search ended early after {count}: {self.failure}"
        if self.going:
            return f"Nothing meets the budget yet after {count}."
        measured = [trial for trial in self.trials if trial.values]
        if not measured:
            if problem := next((trial.problem for trial in self.trials if trial.problem.endswith(UNKNOWN)), ""):
                return f"Nothing found meets the budget: {problem}; leave it out of the budget."
            ruled = f"; the estimates of {self.skipped} chains ruled them out" if self.skipped else ""
            return f"Nothing found meets the budget: no chain could be run to its end{ruled}. Allow more of it."
        nearest = min(measured, key=lambda trial: self.violation(trial.values))
        over = [name for name, limit in self.budget.items() if nearest.values.get(name, 0.0) > limit]
        return (
            f"Nothing found meets the budget in {count}: the nearest, {nearest}, has "
            f"{self._compared(nearest.values, over)}. Allow more {' or '.join(over)}, or more trials or epochs."
        )

    def wait(self, timeout: float | None = None) -> Search:
        """Block until it has ended, or for `timeout` seconds; returns itself."""
        self._thread.join(timeout)
        return self

    def stop(self) -> None:
        """Stop the run at hand, and start no other."""
        self._stopped.set()

    def figure(self) -> Chart:
        """Accuracy against size, latency and energy of what was tried."""
        return CHARTS["pareto"](self.runs)

    def violation(self, values: Mapping[str, float]) -> float:
        """By how much values are over the budget: 0 where they meet it, 0.1 for one that is a tenth over."""
        scales = self.budget | {name: max(0.005, self.budget.get(name, 0.0)) for name in DROPS}  # a limit may be 0
        limits = [(name, limit) for name, limit in self.budget.items() if name in values]
        return sum(max(0.0, values[name] - limit) / scales[name] for name, limit in limits)

    def rows(self) -> list[list[str]]:
        """Lines of the table: chain, each figure of the budget, accuracy or what is in its place, verdict."""
        lines = []
        for trial in self.trials:
            cells = [shown(name, trial.values.get(name)) for name in self.budget]
            fits = "meets it" if trial.values and not self.violation(trial.values) else "no"
            if not trial.values:
                fits = trial.problem or trial.run.state
            figure = NONE if trial.quality is None else METRICS[trial.metric].text(trial.quality)
            lines.append([chain_name(trial.chain), *cells, figure, fits])
        return lines

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        heads = ["chain", *(f"{name} (≤ {shown(name, limit)})" for name, limit in self.budget.items())]
        note = f"{self.verdict} {self.skipped} more chains were not run, since their estimates rule them out."
        judged = next((trial.metric for trial in self.trials if trial.quality is not None), MEASURED)
        word = METRICS[judged].word()
        return table("Search", [*heads, word, "budget"], self.rows(), note, numeric=True)._repr_mimebundle_()

    def _compared(self, values: Mapping[str, float], names: Sequence[str] = ()) -> str:
        names = names or list(self.budget)
        return ", ".join(
            f"{name} {shown(name, values.get(name))} of {shown(name, self.budget[name])}" for name in names
        )

    def _work(self) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            sampler = optuna.samplers.TPESampler(seed=self._seed, n_startup_trials=max(4, self.count // 3))
            study = optuna.create_study(sampler=sampler)
            scores: dict[str, float] = {}
            for _ in range(self.count * PEEKS):
                if len(self.trials) >= self.count or self._stopped.is_set():
                    break
                trial = study.ask()
                chain = self._chain(trial)
                key = str(chain)
                if key not in scores:
                    scores[key] = self._score(chain)
                study.tell(trial, scores[key])
        except BaseException as error:  # shown by `verdict`: a thread's traceback would go unseen
            self.failure = error

    def _chain(self, trial: optuna.Trial) -> list[dict[str, Any]]:
        """A chain as Optuna suggests it, in the table's order, which is the one that works."""
        chain: list[dict[str, Any]] = []
        for name, compressor in COMPRESSORS.items():
            if (knob := compressor.knob) is None or name not in self._links:
                continue
            if knob.choices:
                if (choice := trial.suggest_categorical(knob.option, (NONE_OF, *knob.choices))) != NONE_OF:
                    chain.append({name: {knob.option: choice}})
            elif trial.suggest_categorical(name, [True, False]):
                fraction = knob.option and round(trial.suggest_float(knob.option, knob.low, knob.high, step=STEP), 2)
                chain.append({name: {knob.option: fraction} if knob.option else {}})
        return chain

    def _score(self, chain: list[dict[str, Any]]) -> float:
        """By a chain's estimate if that rules it out, else by its run; less is better."""
        if not chain:
            return FAILED
        try:
            guess = estimate(self.parent, chain, **self._changes)
        except LabError:
            self.skipped += 1
            return FAILED
        batches = {"latency": 64, "latency_1": 1}  # of what a law is known
        times = {name: guess.latency[batch] for name, batch in batches.items() if batch in guess.latency}
        figures = {"bytes": float(guess.bytes), **times}
        if over := self.violation({name: value / DOUBT[name] for name, value in figures.items()}):
            self.skipped += 1
            return 1.0 + over
        trial = Trial(chain, compress(self.parent, chain, on=self._on, **self._changes), guess)
        self.trials.append(trial)
        while trial.run.wait(POLL) not in ENDED:
            if self._stopped.is_set():
                trial.run.stop()
                trial.run.wait(progress=False)
        measures = measured(trial.run)
        if trial.run.state != "done" or not measures:
            trial.problem = str(trial.run.failure or f"it was {trial.run.state}")
            return FAILED
        known = values(measures)
        if lacking := [name for name in self.budget if name not in known]:
            trial.problem = f"{lacking[0]} {UNKNOWN}"
            return FAILED
        trial.accuracy, trial.values = measures["artifact"].get(MEASURED), known
        trial.metric, trial.quality = judged_by(measures["artifact"])
        return self.violation(trial.values) or -trial.rank
