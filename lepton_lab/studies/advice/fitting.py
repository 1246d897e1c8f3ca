"""How fast this machine computes a step, and sends between its ranks: fitted on runs that were measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import SpecError
from ...host import cores
from ...run.handle import Run
from ...run.listing import runs
from ...spec import Spec
from ...store.folder import ENDED
from ...tables import table
from ..contenders import fields

if TYPE_CHECKING:
    from ...strategies.work import Cost

ALIKE = ("dataset", "model", "optimizer", "precision", "compile", "accumulate", "task")
"""Fields on which it depends how long a sample takes, beside options of the model."""
LOOKED_AT = 200  # runs, the newest, among which those alike are looked for
FITTED = 12  # at most
FEW = 5  # steps that are timed at least


class Timed(NamedTuple):
    """A run that was measured."""

    name: str
    world: int
    samples: float
    """Of a rank, a step."""
    seconds: float
    """Median of a step."""
    turns: float
    """How many ranks share a core, at least 1."""
    cost: Cost

    @property
    def factors(self) -> tuple[float, float, float, float]:
        """Of the parts of a Fit, in its order; for sending, too, ranks need the cores."""
        busy = self.turns / (1 - self.cost.idle)
        return self.samples * busy, busy, self.cost.sent, self.cost.hops


@dataclass(frozen=True)
class Fit:
    """What a step takes on this machine, in seconds, none of it below zero."""

    sample: float
    """For each sample of a rank."""
    fixed: float
    """For each step."""
    byte: float
    """For each byte that a rank sends."""
    hop: float
    """For each message that follows another."""
    timed: tuple[Timed, ...]
    """What it was fitted on."""

    def compute(self, samples: float) -> float:
        """Seconds of one process for so many samples."""
        return self.fixed + self.sample * samples

    def seconds(self, run: Timed) -> float:
        """What it gives for a run that was measured here."""
        parts = (self.sample, self.fixed, self.byte, self.hop)
        return sum(part * factor for part, factor in zip(parts, run.factors, strict=True))

    @property
    def remark(self) -> str:
        """The runs, and by how much it is off."""
        return "; ".join(
            f"{run.name} x {run.world} {run.seconds * 1e3:.3g} ms ({self.seconds(run) / run.seconds - 1:+.0%})"
            for run in self.timed
        )


def fit(timed: Sequence[Timed]) -> Fit:
    """
    The fit of least squares of relative errors that meets the first run, which is of one process.

    What the runs can't tell apart is counted to the part that comes first in a Fit.
    """
    import numpy as np
    from scipy.optimize import nnls

    rows = np.array([run.factors for run in timed]) / np.array([[run.seconds] for run in timed])
    scale = rows.max(axis=0)
    scale[scale == 0] = 1.0
    columns: list[int] = []
    for part in range(rows.shape[1]):
        if np.linalg.matrix_rank(rows[:, [*columns, part]] / scale[[*columns, part]]) > len(columns):
            columns.append(part)
    fitted = np.zeros(rows.shape[1])
    fitted[columns] = nnls(rows[:, columns] / scale[columns], np.ones(len(rows)))[0] / scale[columns]
    sample, fixed, byte, hop = fitted.tolist()
    first = timed[0]
    if not (alone := fixed + sample * first.samples):  # all of what others take is said to be sending
        sample, alone = 1.0, first.samples
    exact = first.seconds / alone
    return Fit(sample * exact, fixed * exact, byte, hop, tuple(timed))


def measured(spec: Spec, costs: Callable[[Run], Cost | None], like: Run | None = None) -> list[Timed]:
    """
    The runs under LEPTON_LAB_HOME that tell how long steps of a spec take, and `like`: one process first.

    `costs` gives what a run's step costs, None where that can't be told. Raises SpecError where no run of one process
    is among them; of several the fastest stands first, which other work on the machine disturbed least.
    """
    timings: list[tuple[str, Timed]] = []
    shelf = [run for run in runs()[:LOOKED_AT] if like is None or run.id != like.id]
    for run in [*([like] if like else []), *shelf]:
        if len(timings) < FITTED and run.state in ENDED and alone(run.spec) == alone(spec):
            timed = _timed(run, costs)
            timings += [(run.facts.get("device", ""), timed)] if timed else []
    singles = [pair for pair in timings if pair[1].world == 1]
    if not singles:
        raise SpecError(
            f"network: nothing has been measured of model={spec.model!r} on dataset={spec.dataset!r} with one process, "
            "by which the time of a step is judged; run lab.launch(spec.replace(strategy='single', world=1)) to its end"
        )
    device, single = min(singles, key=lambda pair: pair[1].seconds / pair[1].samples)
    return [single, *(timed for place, timed in timings if timed is not single and place == device)]


def alone(spec: Spec) -> list[Any]:
    """On what of a spec it depends how long one process takes for a sample."""
    plain = spec.replace(**fields(spec, "single"))
    threads = plain.options_of(table("strategy")["single"])  # and what else is the strategy's own
    model = {name: value for name, value in plain.options.items() if name not in threads}
    return [*(getattr(plain, name) for name in ALIKE), model]


def _timed(run: Run, costs: Callable[[Run], Cost | None]) -> Timed | None:
    steps = run.store.story().intervals
    most = max((step.samples for step in steps), default=0)  # the last of an epoch may have fewer
    seconds = [step.seconds for step in steps if step.samples == most]
    cost = costs(run) if len(seconds) >= FEW else None
    if cost is None:
        return None
    spec, gpu = run.spec, str(run.facts.get("device", "")).startswith("cuda")
    turns = 1.0 if gpu else max(1.0, spec.world / cores())
    return Timed(spec.strategy, spec.world, most / spec.world, median(seconds), turns, cost)
