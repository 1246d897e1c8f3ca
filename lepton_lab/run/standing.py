"""How a run stands: its state, why it is in it, whether it can go on, and with what changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import launchers
from ..launchers.failures import stall
from ..launchers.local import leases
from ..spec import Spec
from ..store.failure import Failure
from ..store.folder import RunFolder
from ..store.nodes import nodes
from ..store.objects import link

NONFINITE = "NonFinite"  # type of the failure of a run whose loss or weights became NaN or infinite
LOWER = 10.0  # times: by how much a learning rate that led to NaN is lowered
HELD = 3  # runs that a remark names as those that hold devices


class Standing:
    """What a run's folder, its queue and its ranks' last words come to."""

    store: RunFolder
    id: str
    folder: Path

    @property
    def spec(self) -> Spec:
        """What it is asked to do, by now: whoever resumed it may have changed that."""
        return self.store.spec

    @property
    def facts(self) -> dict[str, Any]:
        """Small facts that became known on the way: steps, samples, shape, classes, threads, checkpoint."""
        return self.store.facts

    @property
    def state(self) -> str:
        """queued, starting, running, paused, stopping; or ended: done, stopped, failed, interrupted."""
        return launchers.state(self.store)

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """
        The machines of a run that is on others: `host`, `state` (there, lost, or left once it has ended), `ranks`.

        [] where it is on the machine that launched it.
        """
        facts = self.facts
        return nodes(facts, self.store.glance().present if facts.get("launcher") else {})

    @property
    def failure(self) -> Failure | None:
        """Why it failed: rank, type, message, where, step, others; None if it did not."""
        return self.store.failure

    @property
    def remark(self) -> str:
        """
        Why it waits, takes no step, was stopped or interrupted, and what to do, in a sentence.

        "" where nothing is to be said.
        """
        if late := link.late(self.folder):
            return late
        state, reason = self.state, self.facts.get("reason") or ""
        if state == "queued" and reason:
            return reason + self._holders()
        if state in ("starting", "running") and reason:  # waits for nodes
            return str(reason)
        if self.store.gone:
            return "it was deleted"
        if state == "interrupted":
            cause = "its processes are gone (the machine restarted, or they were killed)"
            return f"{cause}; resume goes on from {self._last_good}"
        if state == "failed" and (remedy := self.remedy):
            changes = ", ".join(f"{name}={value:g}" for name, value in remedy.items())
            return f"going on as it was would fail the same way; run.resume({changes}) goes on from {self._last_good}"
        if state == "failed" and not self.resumable:
            return (
                "going on would fail the same way, since a run keeps the code, data and values that it was launched "
                "with; put it right, and launch another"
            )
        if state in ("starting", "running") and (stalled := stall(self.store)):
            return stalled
        doubts = "; ".join(self.facts.get("doubts", {}).values())
        return (reason if state in ("stopped", "done") else "") or self.facts.get("skipped") or doubts

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
        return self.state in ("paused", "stopped", "interrupted", "failed") and not self.store.gone

    @property
    def remedy(self) -> dict[str, float]:
        """
        Fields with which `run.resume(**run.remedy)` may get past a failure: after NaN a tenth of the learning rate.

        Empty where nothing is known to help, such as after a first loss that was NaN before anything was learned.
        """
        failure = self.failure
        if failure is None or failure.type != NONFINITE or not failure.step or self._fails_alike:
            return {}
        rate = self.store.story().lr or self.spec.lr
        return {"lr": float(f"{rate / LOWER:.3g}")}

    @property
    def _fails_alike(self) -> bool:
        """Whether it failed as it had failed before it was resumed."""
        failure, before = self.failure, self.facts.get("failed_before")
        if failure is None or before is None:
            return False
        return (failure.type, failure.message, failure.step) == (before["type"], before["message"], before["step"])

    @property
    def _last_good(self) -> str:
        saved = self.store.checkpoints()
        return f"step {saved[-1]}" if saved else "the start"

    def _holders(self) -> str:
        """Who has the devices that it waits for: the queue is this user's on this host, whatever LEPTON_LAB_HOME."""
        if not (queue := self.facts.get("queue")):
            return ""
        words, here = [], str(self.folder.parents[1])
        for label in leases.holders(Path(queue)):
            if "run" in label:
                where = "" if label["home"] == here else f" of LEPTON_LAB_HOME={label['home']}"
                words.append(f"run {label['run']}{where} (process {label['pid']})")
        more = f" and {len(words) - HELD} more" if len(words) > HELD else ""
        held = f", held by {', '.join(words[:HELD])}{more}" if words else ""
        ahead = leases.ahead(Path(queue), {"run": self.id, "home": here})
        return held + (f"; {ahead} in the queue before it" if ahead else "")
