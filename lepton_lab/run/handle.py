"""Runs: launch one, find it again, watch it, steer it, and take its model."""

from __future__ import annotations

import contextlib
import os
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..chains import chain_name, epochs
from ..disks import remedy, why
from ..engine.tracing import costs
from ..errors import LabError, Missing, SpecError
from ..files import read_json
from ..launchers import LAUNCHERS, Ready, resources
from ..launchers.failures import stall
from ..launchers.local import leases
from ..spec import CELL, Spec
from ..store import control, provenance, story
from ..store.failure import Failure
from ..store.finding import find, folders
from ..store.folder import ENDED, RunFolder
from ..store.labels import Labelled
from ..store.naming import title
from ..store.tail import Tail
from ..tables import keywords, pick, table
from .checks import Own, splits
from .progress import waiting

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn


LAUNCHER = LAUNCHERS["local"]
NONFINITE = "NonFinite"  # type of the failure of a run whose loss or weights became NaN or infinite
MOVED = ("strategy", "world", "device", "options", "timeout")  # what can change when an ended run goes on
STEERED = ("lr", "clip", "weight_decay")  # what `set` can change in a running job, and `resume` in an ended one
LOWER = 10.0  # times: by how much a learning rate that led to NaN is lowered
POLL = 0.02  # seconds between looks while waiting
HELD = 3  # runs that a remark names as those that hold devices


class Run(Labelled):
    """
    One run, live or ended, as its folder tells it.

    Attributes
    ----------
    id : str
        Name of its folder; sorts by time of launch.
    folder : pathlib.Path
        Where all of it is kept.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self.id, self.folder = folder.id, folder.path

    def __repr__(self) -> str:
        return f"<Run {self.id}: {self.name or title(self.spec)}, {self.state}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.folder == other.folder

    def __hash__(self) -> int:
        return hash(self.folder)

    def _ipython_display_(self) -> None:
        """In a notebook: the live view, where one is installed."""
        for view in metadata.entry_points(group="lepton_lab.view"):
            with contextlib.suppress(Missing):
                return view.load()(self)
        raise NotImplementedError  # IPython then shows the text

    @property
    def spec(self) -> Spec:
        """What it is asked to do, by now: whoever resumed it may have changed that."""
        return self._folder.spec

    @property
    def state(self) -> str:
        """queued, starting, running, paused, stopping; or ended: done, stopped, failed, interrupted."""
        return LAUNCHER.state(self._folder)

    @property
    def failure(self) -> Failure | None:
        """Why it failed: rank, type, message, where, step, others; None if it did not."""
        return self._folder.failure

    @property
    def seconds(self) -> float:
        """
        Seconds that it has worked, from the start of its processes on.

        Time in the queue, in pauses, and between an end and a resume does not count.
        """
        return self._folder.worked

    @property
    def remark(self) -> str:
        """
        Why it waits, takes no step, was stopped or interrupted, and what to do, in a sentence.

        "" where nothing is to be said.
        """
        state, reason = self.state, self.facts.get("reason") or ""
        if state == "queued" and reason:
            return reason + self._holders()
        if self._folder.gone:
            return "it was deleted"
        if state == "interrupted":
            gone = "its processes are gone (the machine restarted, or they were killed)"
            return f"{gone}; resume goes on from {self._last_good}"
        if state == "failed" and (remedy := self.remedy):
            given = ", ".join(f"{name}={value:g}" for name, value in remedy.items())
            return f"going on as it was would fail the same way; run.resume({given}) goes on from {self._last_good}"
        if state == "failed" and not self.resumable:
            return (
                "going on would fail the same way, since a run keeps the code, data and values that it was launched "
                "with; put it right, and launch another"
            )
        if state in ("starting", "running") and (stood := stall(self._folder)):
            return stood
        doubts = "; ".join(self.facts.get("doubts", {}).values())
        return (reason if state == "stopped" else "") or self.facts.get("skipped") or doubts

    @property
    def resumable(self) -> bool:
        """
        Whether `resume()`, with nothing changed, can lead on.

        Not for a run that is queued, at work, done or deleted, nor for one that can only fail the same way: its loss
        became NaN, its model does not fit its data, its code failed before the first step, or it failed twice alike.
        Its `remark` then says why, and its `remedy` what to change, where something is known to help.
        """
        failure = self.failure
        if failure is not None:
            return not (failure.certain or failure.type == NONFINITE or self._fails_alike)
        return self.state in ("paused", "stopped", "interrupted", "failed") and not self._folder.gone

    @property
    def remedy(self) -> dict[str, float]:
        """
        Fields with which `run.resume(**run.remedy)` may get past a failure: after NaN a tenth of the learning rate.

        Empty where nothing is known to help, such as after a first loss that was NaN before anything was learned.
        """
        failure = self.failure
        if failure is None or failure.type != NONFINITE or not failure.step or self._fails_alike:
            return {}
        rates = [row["lr"] for row in self.rows("note") if "lr" in row]
        return {"lr": float(f"{(rates[-1] if rates else self.spec.lr) / LOWER:.3g}")}

    @property
    def _fails_alike(self) -> bool:
        """Whether it failed as it had failed before it was resumed."""
        failure, before = self.failure, self.facts.get("failed_before")
        if failure is None or before is None:
            return False
        return (failure.type, failure.message, failure.step) == (before["type"], before["message"], before["step"])

    @property
    def _last_good(self) -> str:
        saved = self._folder.checkpoints()
        return f"step {saved[-1]}" if saved else "the start"

    def _holders(self) -> str:
        """Who has the devices that it waits for: the queue is this user's on this host, whatever LEPTON_LAB_HOME."""
        words, here = [], str(self.folder.parents[1])
        for label in leases.holders(Path(self.facts.get("queue", ""))):
            if "run" in label:
                where = "" if label["home"] == here else f" of LEPTON_LAB_HOME={label['home']}"
                words.append(f"run {label['run']}{where} (process {label['pid']})")
        more = f" and {len(words) - HELD} more" if len(words) > HELD else ""
        return f", held by {', '.join(words[:HELD])}{more}" if words else ""

    @property
    def facts(self) -> dict[str, Any]:
        """Small facts that became known on the way: steps, samples, shape, classes, threads, checkpoint."""
        return self._folder.facts

    @property
    def provenance(self) -> dict[str, Any]:
        """Versions, seed, device, threads, git revision and the command to repeat it; empty until ranks start."""
        found = read_json(self.folder / "provenance.json") or {}
        return {**found, "threads": self.facts.get("threads", found.get("threads"))} if found else {}

    @property
    def command(self) -> str:
        """The command line that repeats it."""
        return provenance.command(self.spec, self.id)

    def wait(self, timeout: float | None = None, progress: bool = True) -> str:
        """
        Block until it has ended, or for `timeout` seconds; returns the state then.

        A failed run raises nothing: see `failure`.

        Parameters
        ----------
        timeout
            Seconds; None waits for the end.
        progress
            Show progress on stderr, in a script that waits for the end: one line on a terminal, else a line an epoch.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        shown = progress and timeout is None and self.state not in ENDED
        with waiting(self) if shown else contextlib.nullcontext(str) as show:
            while (state := self.state) not in ENDED and (deadline is None or time.monotonic() < deadline):
                show(state)
                time.sleep(POLL)
            show(state)
        LAUNCHER.collect()
        return state

    def stop(self) -> None:
        """Save a checkpoint at the next step and end; an ended run is left as it is."""
        if self.state not in ENDED:
            LAUNCHER.signal(self.folder, "stop")

    def pause(self) -> None:
        """Stand still at the next step, with everything held in memory."""
        self._command("pause")

    def resume(self, **changes: Any) -> None:
        """
        Go on: at once if paused, else from the last checkpoint, as if never interrupted.

        Parameters
        ----------
        **changes
            For a run that has ended: `strategy`, `world`, `device` or `timeout` to go on with, and `options` of the
            strategy, which are put over those it had. Exact strategies compute the same; see their table. `lr`, `clip`
            and `weight_decay` hold from the step on from which it goes on, and are noted on the curve.

        Raises
        ------
        LabError
            If it is done, is still stopping, the disk is full, or its folder can't be written by this account.
        SpecError
            If a change is refused.
        """
        for name in changes:
            if name not in (known := (*MOVED, *STEERED)):
                raise SpecError(f"{name}={changes[name]!r}: only {', '.join(known)} can change when a run goes on")
        state = self.state
        if state == "done":
            raise LabError(f"run {self.id!r} is done: there is nothing to resume; launch another with more epochs")
        if state not in ENDED:
            if changes:
                raise LabError(f"run {self.id!r} is {state}: stop it first, to go on with {', '.join(changes)} changed")
            if control.stopping(self.folder):
                raise LabError(f"run {self.id!r} is stopping: wait for it with run.wait(), then resume")
            LAUNCHER.signal(self.folder, "resume")
            return
        spec = self._moved(changes)
        device = splits(spec, Own())
        lock = self._folder.lock(patience=5.0)  # its supervisor may still be on the way out
        if lock is None:
            raise LabError(f"run {self.id!r} is being resumed by another process")
        try:
            if self._folder.facts["state"] == "done":  # by another's hand, meanwhile
                os.close(lock)
                return
            resources.reserve(self.folder, spec.world)
            self._queue(spec, {name: getattr(spec, name) for name in STEERED if name in changes})
        except BaseException as error:
            resources.free(self.folder)
            os.close(lock)
            if isinstance(error, OSError):
                raise LabError(
                    f"run {self.id!r} can't be resumed: its folder {str(self.folder)!r} can't be written "
                    f"({why(error, self.folder)}); {remedy(error)}, then resume it again"
                ) from None
            raise
        LAUNCHER.start(Ready(self._folder, lock, device))

    def _queue(self, spec: Spec, steered: dict[str, float]) -> None:
        """Make its folder ready for another life under a spec; if that fails, it is left as it was."""
        before, facts = self.spec, self._folder.facts
        control.clear(self.folder)
        try:
            self._folder.rewrite(spec)
            self._folder.set_state(
                "queued",
                failure=None,
                failed_before=facts.get("failure"),
                steered={**facts.get("steered", {}), **steered},
                reason=None,
                evaluating=False,
            )
        except OSError:
            with contextlib.suppress(OSError):
                self._folder.rewrite(before)
            raise

    def _moved(self, changes: dict[str, Any]) -> Spec:
        """The spec with changes; options of a strategy that is left are dropped, those of model and data stay."""
        if not changes:
            return self.spec
        spec, given = self.spec, changes.get("options", {})
        old, new = spec.strategy, changes.get("strategy", spec.strategy)
        takes = {name: set(_options(name)) for name in (old, new)}
        holds = spec.known_options()
        for name, value in given.items() if isinstance(given, dict) else ():
            if name not in takes[new] and name in holds and value != holds[name]:
                raise SpecError(
                    f"options={{{name!r}: {value!r}}}: is no option of strategy={new!r}, and only those can change "
                    "when a run goes on; launch another run for it"
                )
        kept = {k: v for k, v in spec.options.items() if k not in takes[old] - takes[new]}
        return spec.replace(**{**changes, "options": {**kept, **given} if isinstance(given, dict) else given})

    def set(self, **values: float) -> None:
        """
        Change `lr`, `clip` or `weight_decay` from the next step on; noted on the curve.

        Raises
        ------
        SpecError
            If a value is refused.
        """
        for name in values:
            if name not in STEERED:
                raise SpecError(f"{name}={values[name]!r}: only {', '.join(STEERED)} can change in a running job")
        checked = self.spec.replace(**values)
        self._command("set", **{name: getattr(checked, name) for name in values})

    def checkpoint(self) -> None:
        """
        Save a checkpoint after the step at hand of a live run, beside those that `checkpoint_every` asks for.

        What an ended run saved last is in `model()`, and the step of it in `facts["checkpoint"]`.

        Raises
        ------
        LabError
            If it has ended.
        """
        self._folder.require()
        if self.state in ENDED:
            raise LabError(
                f"run {self.id!r} has ended ({self.state}) and takes no more steps to save; its last checkpoint is of "
                f"{self._last_good}: run.model() gives the model, run.resume() goes on where more is to be done"
            )
        self._command("checkpoint")

    def _command(self, name: str, **values: Any) -> None:
        if (state := self.state) in ENDED:
            raise LabError(f"run {self.id!r} has ended ({state}): {name} needs a live one")
        LAUNCHER.signal(self.folder, name, **values)

    def tail(self) -> Tail:
        """A reader of new events from the first one on; each `read()` returns those since the last."""
        return Tail(self.folder)

    def rows(self, kind: str | None = None) -> list[dict[str, Any]]:
        """
        Events in order of time, all or of one kind: state, train, eval, system, cost, note.

        Each has `kind`, `t` (unix seconds), `rank`, and most `step` (optimizer steps done), `epoch` and values such as
        `loss` and `accuracy` (fraction, 0 to 1); a train row is one rank's mean over its `samples` of that step;
        a cost row is what one rank alone knows of what `costs` tells.
        """
        return self._folder.rows(kind)

    def frame(self, kind: str | None = None) -> pd.DataFrame:
        """The rows as a pandas table."""
        import pandas as pd

        return pd.DataFrame(self.rows(kind))

    def model(self) -> nn.Module:
        """
        The trained module, on the CPU and in eval mode, from the last checkpoint; or what a chain made by now.

        Raises
        ------
        LabError
            If there is no checkpoint yet, or the run was deleted.
        """
        from ..store import trained

        self._folder.require()
        return trained.model(self._folder)

    def costs(self) -> list[dict[str, Any]]:
        """What a step costs each rank, as the latest steps recorded tell (see `costs.costs`); empty before the 13th."""
        return costs.costs(costs.recorded(self.folder))

    def timeline(self) -> list[dict[str, Any]]:
        """Who did what, and who sent what to whom, in the latest steps recorded (see `costs.timeline`)."""
        return costs.timeline(costs.recorded(self.folder))

    def summary(self) -> dict[str, Any]:
        """One line of a table of runs: who, what, how far (epochs from 1), how well; None where not known."""
        spec, facts, state = self.spec, self.facts, self.state
        latest = self._folder.latest()
        system = [self._folder.system(rank) for rank in range(spec.world)]
        steps, step = facts.get("steps"), max((row.get("step", 0) for row in latest), default=0)
        evals = {f"{r['split']}_{k}": r.get(k) for r in latest if r["kind"] == "eval" for k in ("loss", "accuracy")}
        known = {**system[0], **evals}
        rates = [row.get("samples_per_s") for row in system]
        return {
            "id": self.id,
            "name": self.name,
            "title": title(spec),
            "tags": self.tags,
            "note": self.note,
            "archived": self.archived,
            "state": state,
            "dataset": spec.dataset,
            "model": spec.model,
            "chain": chain_name(spec.compress),
            "optimizer": spec.optimizer,
            "lr": facts.get("base_lr", spec.lr),
            "strategy": spec.strategy,
            "world": spec.world,
            "step": step,
            "steps": steps,
            "epoch": story.epoch(step, steps, epochs(spec)) or None,
            "epochs": epochs(spec),
            **{name: known.get(name) for name in ("loss", "accuracy", "val_loss", "val_accuracy", "test_accuracy")},
            "samples_per_s": None if state in story.RESTING else story.speed(rates, facts.get("parts", 1)),
            "seconds_left": story.seconds_left(step, steps, known.get("steps_per_s")) if state == "running" else None,
            "created": self._folder.created,
            "seconds": self.seconds,
        }


def _options(strategy: str) -> dict[str, Any]:
    """Options of a strategy by its name; none of a user's own."""
    return {} if strategy.startswith(CELL) else keywords(pick(table("strategy"), strategy, "strategy"))


def attach(id: str | None = None) -> Run:
    """
    A run, or the latest: its whole curve, and control over it, from any process.

    Parameters
    ----------
    id
        Its id or its name, or the beginning of either where it fits one run alone.

    Raises
    ------
    LabError
        If there is no such run, or are several.
    """
    return Run(find(id))


def runs(tag: str | None = None, archived: bool | None = None) -> list[Run]:
    """
    The runs under LEPTON_LAB_HOME, newest first.

    Parameters
    ----------
    tag
        Only those that bear it.
    archived
        True, only those that were archived; False, only the others; None, all.
    """
    found = [Run(folder) for folder in folders()]
    return [run for run in found if (tag is None or tag in run.tags) and (archived is None or run.archived == archived)]
