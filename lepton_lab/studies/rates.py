"""find_lr(): a learning rate to train with, from a run whose rate rises until the loss diverges."""

from __future__ import annotations

import math
import time
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from .. import datasets
from ..charts.series import number, read
from ..charts.sweep import Sweep
from ..errors import LabError, SpecError
from ..launchers import asked
from ..metrics import MINIMISED
from ..optimizers import RANGE_TEST
from ..run.checks import checks
from ..run.handle import POLL, Run
from ..run.launching import changed, make, start
from ..run.own import Own
from ..spec import Spec, step_samples
from ..store.folder import ENDED
from ..store.naming import title
from ..store.story import Story

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..launchers import Launcher

FEWEST = 20  # steps: with fewer a slope is noise
REACH = 1 / 20  # of the steps: how far the smoothing sees to each side
FALL = 0.05  # of the loss at the start: a smaller fall is none
MARGIN = 4.0  # the suggestion is at least this factor below divergence
DIVERGED = 4.0  # times the best loss: a test that has come above it is over, as fastai's is
HIGHEST = 2.0  # times the loss at the start: a step above it counts as that, so that none outweighs those around it
NAME = "learning-rate test"


def find_lr(
    spec: Spec,
    *,
    model: Any = None,
    data: Any = None,
    loss: Any = None,
    task: Any = None,
    collate: Any = None,
    metrics: Any = None,
    on: str | Launcher = "local",
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 100,
) -> RateTest:
    """
    Train while the learning rate rises from lowest to highest, and suggest one; waits for the run.

    The run is one like any other, under the schedule `range_test`; the spec's own schedule, warm-up and epochs are not
    used. It is stopped when it has done its steps or its loss has diverged, which is what it looks for: when that is
    above its start and above 4 times its best.

    Parameters
    ----------
    spec
        What to train and how.
    model, data, loss, task, collate, metrics, on
        As `launch` takes them.
    lowest, highest
        Learning rates at the first and the last step; the steps between are spread evenly over the decades.
    steps
        Optimizer steps, at least 20.

    Raises
    ------
    SpecError, LabError
        If a value is refused, as `launch` does, or if the run failed for another reason than its learning rate.
    """
    if not isinstance(spec, Spec):
        raise SpecError(f"find_lr takes a Spec, not a {type(spec).__name__}: lab.find_lr(lab.Spec(...))")
    _check(spec, lowest, highest, steps)
    own = Own(model, data, loss, task=task, collate=collate, metrics=metrics)
    place = asked(on)
    (run,) = start(make(checks(_rising(spec, own, lowest, highest, steps), own, on=place), place))
    try:
        _follow(run, steps)
    except BaseException:  # an interrupted cell too: nobody waits for it any more
        run.stop()
        raise
    return RateTest(run)


def _check(spec: Spec, lowest: float, highest: float, steps: int) -> None:
    for name, value in (("lowest", lowest), ("highest", highest)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise SpecError(f"{name}={value!r}: must be a learning rate, a finite number above 0")
    if lowest >= highest:
        raise SpecError(f"lowest={lowest!r}: must be below highest={highest!r}, since the rate rises between them")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < FEWEST:
        raise SpecError(f"steps={steps!r}: must be a whole number, at least {FEWEST}; with fewer a slope is noise")
    if spec.parent or spec.compress:
        raise SpecError(f"parent={spec.parent!r}: a rate is sought for a fresh model; leave out parent and compress")


def _rising(spec: Spec, own: Own, lowest: float, highest: float, steps: int) -> Spec:
    """The spec of the run: as many epochs as the steps need, without evaluations and checkpoints between."""
    data = own.splits(spec) or (None if "dataset" in spec.own else datasets.load(spec))
    n = datasets.length(data.train) if data else 1
    epochs = -(-steps // -(-n // step_samples(spec, n)))
    rising = changed(spec, {"schedule": RANGE_TEST, "lr": float(highest), "warmup": 0, "epochs": epochs, "name": NAME})
    options = {**rising.options, "low": lowest / highest, "steps": steps}
    plain = {"eval_every": 0, "checkpoint_every": 0, "keep_best": "", "stop_early": {}, "ema": 0.0}
    return rising.replace(**plain, options=options)


def _follow(run: Run, steps: int) -> None:
    """Wait for the end of a run, which is stopped when its steps are done or its loss has diverged."""
    story, tail = Story.of(run.spec, timed=False), run.tail()
    while run.state not in ENDED:
        training = story.add(tail.read()).training
        if training.last > steps or risen(training.curve(MINIMISED).y, steps):
            run.stop()
            break
        time.sleep(POLL)
    run.wait(progress=False)


def risen(losses: Sequence[float], steps: int) -> bool:
    """Whether the losses so far have come above 4 times their best, and above their start; by medians and means."""
    few = 2 * _reach(steps) + 1
    if len(losses) < 2 * few:
        return False
    best = min(smooth(_held(losses, steps), steps))
    return median(losses[-few:]) > max(median(losses[:few]), _times(DIVERGED, best))


def _held(losses: Sequence[float], steps: int) -> list[float]:
    """Losses, none higher than twice what is usual at the start."""
    highest = _times(HIGHEST, median(losses[: 2 * _reach(steps) + 1]))
    return [min(loss, highest) for loss in losses]


def _times(factor: float, loss: float) -> float:
    """So many times a loss, upwards also where it is negative."""
    return loss + (factor - 1) * abs(loss)


def _reach(steps: int) -> int:
    return max(2, round(REACH * steps))


class RateTest:
    """
    What a run with a rising learning rate tells; last in a cell it shows its figure and one sentence.

    The suggestion is the rate at which the smoothed loss falls steepest, from half way down to its lowest, but at least
    a factor of 4 below the rate from which on it diverges. The loss is smoothed by a triangular mean over a
    twentieth of the steps to each side; it has diverged where that is back above its start, or no number any more.

    Parameters
    ----------
    run
        A run that `find_lr` started, `lab.attach(id)` of one included.

    Attributes
    ----------
    rates, losses : list of float
        Learning rate and training loss of each step whose loss is a number.
    smoothed : list of float
        The losses smoothed, of which none counts as more than twice what is usual at the start.
    diverged : float or None
        The rate from which on the loss diverges; None where it does nowhere.
    run : Run

    Raises
    ------
    SpecError, LabError
        If the run is no range test, failed for another reason than its rate, or was stopped too early to tell.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        if run.spec.schedule != RANGE_TEST:
            raise SpecError(f"run {run.id!r} has schedule={run.spec.schedule!r}: only lab.find_lr's run tells a rate")
        if run.failure:
            raise LabError(f"the learning-rate test failed: {run.failure}")
        steps = run.spec.options.get("steps") or math.inf
        curves = read(run).curves
        lr = {step: rate for step, rate in zip(*curves.get("lr", ([], [])), strict=True) if step <= steps}
        loss = {step: y for step, y in zip(*curves.get(MINIMISED, ([], [])), strict=True) if step in lr}
        self.rates, self.losses = [lr[step] for step in loss], list(loss.values())
        if len(loss) < FEWEST // 2:
            raise LabError(f"run {run.id!r} tells no rate: it was {run.state} after {len(loss)} steps")
        self.smoothed = smooth(_held(self.losses, len(loss)))
        lost = next((rate for step, rate in lr.items() if step not in loss), None)
        self._best = min(range(len(self.smoothed)), key=self.smoothed.__getitem__)
        above = (i for i in range(self._best, len(loss)) if self.smoothed[i] > self.smoothed[0])
        self.diverged = next((self.rates[i] for i in above), lost)

    @property
    def suggestion(self) -> float:
        """
        A learning rate to train with, to two digits.

        Raises
        ------
        LabError
            If the loss fell at none of the rates.
        """
        if why := self._nothing():
            raise LabError(why)
        points = zip(self.smoothed[: self._best + 1], map(math.log, self.rates), strict=False)
        slopes = [(later - earlier) / (above - below) for (earlier, below), (later, above) in pairwise(points)]
        # Before the loss is half way down for good, batches that differ make slopes steeper than the fall's own.
        half = (self.smoothed[0] + self.smoothed[self._best]) / 2
        down = max(i for i in range(self._best) if self.smoothed[i] >= half)
        steepest = self.rates[min(range(down, self._best), key=slopes.__getitem__)]
        safe = math.inf if self.diverged is None else self.diverged / MARGIN
        return float(f"{min(steepest, safe):.2g}")

    @property
    def sentence(self) -> str:
        """What it comes to, in one sentence."""
        if why := self._nothing():
            return why[0].upper() + why[1:] + "."
        end = "does not diverge up to " + number(self.rates[-1])
        if self.diverged is not None:
            end = f"diverges from {self.diverged:.2g} on"
        best = self.rates[self._best]
        return f"Suggested learning rate: {self.suggestion:g}; the loss {end}, and is lowest at {best:.2g}."

    def _nothing(self) -> str:
        """Why no rate can be suggested; "" where one can."""
        if self.smoothed[0] - self.smoothed[self._best] >= FALL * abs(self.smoothed[0]) and self._best:
            return ""
        span = f"between {number(self.rates[0])} and {number(self.rates[-1])}"
        return f"the loss falls at no learning rate {span}: widen lowest and highest, or take more steps"

    def figure(self) -> Sweep:
        """Loss against learning rate, with the suggestion and where the loss diverges."""
        marks = [] if self._nothing() else [(self.suggestion, "suggestion")]
        if self.diverged is not None:
            marks.append((self.diverged, "diverges"))
        spec, sentence = self.run.spec, self.sentence
        heading = f"Learning-rate test: {title(spec)}, {spec.optimizer}, batch {spec.batch_size}"
        series = tuple(self.rates), tuple(self.losses), tuple(self.smoothed)
        return Sweep(heading, f"{heading}. {sentence}", sentence, *series, marks=tuple(marks))

    def __repr__(self) -> str:
        return f"<RateTest of {self.run.id}: {self.sentence}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.figure()._repr_mimebundle_(include, exclude)


def smooth(values: Sequence[float], steps: int = 0) -> list[float]:
    """Each value's mean with those around it, weighted by how near they are: no lag, unlike an exponential mean."""
    import numpy as np

    reach = _reach(steps or len(values))
    near = reach + 1 - np.abs(np.arange(-reach, reach + 1))
    return (np.convolve(values, near, "same") / np.convolve(np.ones(len(values)), near, "same")).tolist()
