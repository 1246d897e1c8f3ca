"""What a person asks of a run: to stop, pause, go on, change a value, save."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from .. import launchers
from ..errors import LabError, SpecError, whole
from ..files import remedy, why
from ..launchers import Launcher, Ready, asked, resources
from ..spec import Spec
from ..store import control
from ..store.control import STEERED
from ..store.folder import ENDED
from ..store.objects.following import claim
from ..tables import entry_options
from .checks import shipped_task, splits
from .own import Own
from .standing import Standing

MOVED = ("strategy", "world", "device", "options", "timeout")  # what can change when an ended run goes on


def _changeable(changes: dict[str, Any]) -> None:
    """Refuse what can't change in a run: the order of its samples depends on the rest, and what it has done by now."""
    for name in changes:
        if name not in (changeable := (*MOVED, *STEERED)):
            raise SpecError(f"{name}={changes[name]!r}: only {', '.join(changeable)} can change when a run goes on")


class Steered(Standing):
    """Commands to a run; they go through its folder, and take effect on all ranks at the same step."""

    def stop(self) -> None:
        """Save a checkpoint at the next step and end; an ended run is left as it is."""
        if self.state not in ENDED:
            launchers.signal(self.folder, "stop")

    def pause(self) -> None:
        """Stand still at the next step, with everything held in memory."""
        self._command("pause")

    def resume(self, on: str | Launcher | None = None, **changes: Any) -> None:
        """
        Go on: at once if paused, else from the last checkpoint, as if never interrupted.

        Parameters
        ----------
        on
            For a run that has ended: other machines to go on with, or "local", as `launch` takes it; those that it was
            on if not given.
        **changes
            For a run that has ended: `strategy`, `world`, `device` or `timeout` to go on with, and `options` of the
            strategy, which are put over those it had. Exact strategies compute the same; see their table. `lr`, `clip`
            and `weight_decay` hold from the step on from which it goes on, and are noted on the curve. All else stays:
            where it stands is counted in epochs and batches.

        Raises
        ------
        LabError
            If it is done, is still stopping, the disk is full, or its folder can't be written by this account.
        SpecError
            If a change is refused.
        """
        _changeable(changes)
        state = self.state
        if state == "done":
            more = "compress anew" if self.spec.compress else "run.extend(epochs=...) trains it for more epochs"
            raise LabError(f"run {self.id!r} is done: there is nothing to resume; {more}")
        if state not in ENDED:
            if names := [*changes, *(["on"] if on is not None else [])]:
                raise LabError(f"run {self.id!r} is {state}: stop it first, to go on with {', '.join(names)} changed")
            if control.stopping(self.folder):
                raise LabError(f"run {self.id!r} is stopping: wait for it with run.wait(), then resume")
            launchers.signal(self.folder, "resume")
            return
        self._go_on(self._moved(changes), changes, launchers.of(self.facts) if on is None else asked(on))

    def extend(self, epochs: int, **changes: Any) -> None:
        """
        Train a run that is done for more epochs, in the same folder and from where it ended, and test it anew.

        Its learning rate is then that of a run that was to have so many epochs in all from the start: a constant one
        stays, one that had fallen is higher again. What `stop_early` counts begins anew. All is noted on the curve.

        Parameters
        ----------
        epochs
            How many more, 1 or more; of a run that ended early, after those that it had.
        **changes
            As `resume` takes them, such as `lr`.

        Raises
        ------
        LabError
            If it is not done, it compresses, or its folder can't be written by this account.
        SpecError
            If a value is refused.
        """
        whole("epochs", epochs, 1)
        _changeable(changes)
        if (state := self.state) != "done":
            remedy = "run.resume() goes on with it" if state in ENDED else "wait for its end with run.wait()"
            raise LabError(f"run {self.id!r} is {state}, and more epochs are for one that is done: {remedy}")
        if self.spec.compress:
            raise LabError(
                f"run {self.id!r} compresses, and its chain is done: compress its parent anew, with epochs=..."
            )
        total = self.store.glance().epoch + epochs
        spec = self._moved({**changes, "epochs": total})
        self._go_on(spec, changes, launchers.of(self.facts), {"epochs": total, "more": epochs})

    def _go_on(self, spec: Spec, changes: dict[str, Any], on: Launcher, extended: dict[str, int] | None = None) -> None:
        """Start its ranks again, from the last checkpoint and under a spec; `extended` says by how many epochs."""
        device = splits(spec, Own(task=shipped_task(self.store)), on, like=self.store)
        claim(self.folder)
        lock = self.store.lock(patience=5.0)  # its supervisor may still be on the way out
        if lock is None:
            raise LabError(f"run {self.id!r} is being resumed by another process")
        try:
            if (self.store.facts["state"] == "done") != bool(extended):  # by another's hand, meanwhile
                os.close(lock)
                return
            resources.reserve(self.folder, spec.world)
            launchers.of(self.facts).clear(self.store)
            on.ready(self.store)
            steered = {name: getattr(spec, name) for name in STEERED if name in changes}
            self._queue(spec, steered, on, extended)
        except BaseException as error:
            resources.free(self.folder)
            os.close(lock)
            if isinstance(error, OSError):
                raise LabError(
                    f"run {self.id!r} can't be resumed: its folder {str(self.folder)!r} can't be written "
                    f"({why(error, self.folder)}); {remedy(error)}, then resume it again"
                ) from None
            raise
        launchers.start(Ready(self.store, lock, device))

    def _queue(self, spec: Spec, steered: dict[str, float], on: Launcher, extended: dict[str, int] | None) -> None:
        """Make its folder ready for another life under a spec; if that fails, it is left as it was."""
        before, facts = self.spec, self.store.facts
        control.clear(self.folder)
        try:
            self.store.rewrite(spec)
            self.store.set_state(
                "queued",
                failure=None,
                launcher=on.facts or None,
                failed_before=facts.get("failure"),
                steered={**facts.get("steered", {}), **steered},
                extended=extended or facts.get("extended"),
                reason=None,
                evaluating=False,
            )
        except OSError:
            with contextlib.suppress(OSError):
                self.store.rewrite(before)
            raise

    def _moved(self, changes: dict[str, Any]) -> Spec:
        """The spec with changes; options of a strategy that is left are dropped, those of model and data stay."""
        if not changes:
            return self.spec
        spec, wanted = self.spec, changes.get("options", {})
        new = changes.get("strategy", spec.strategy)
        takes, holds = entry_options("strategy", new), spec.known_options()
        for name, value in wanted.items() if isinstance(wanted, dict) else ():
            if name not in takes and name in holds and value != holds[name]:
                raise SpecError(
                    f"options={{{name!r}: {value!r}}}: is no option of strategy={new!r}, and only those can change "
                    "when a run goes on; launch another run for it"
                )
        options = spec.options_after(strategy=new)
        return spec.replace(**{**changes, "options": {**options, **wanted} if isinstance(wanted, dict) else wanted})

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
        self.store.require()
        if self.state in ENDED:
            raise LabError(
                f"run {self.id!r} has ended ({self.state}) and takes no more steps to save; its last checkpoint is of "
                f"{self._last_good}: run.model() gives the model, run.resume() goes on where more is to be done"
            )
        self._command("checkpoint")

    def _command(self, name: str, **values: Any) -> None:
        if (state := self.state) in ENDED:
            raise LabError(f"run {self.id!r} has ended ({state}): {name} needs a live one")
        launchers.signal(self.folder, name, **values)
