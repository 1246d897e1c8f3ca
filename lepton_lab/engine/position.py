"""Where training stands, what part of a run is trained, and how what was done after a checkpoint is voided."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..objectives import Objective
from ..store.control import Control
from ..store.folder import RunFolder
from ..store.log import Journal, Log


@dataclass
class Progress:
    """Where training stands; with a checkpoint of it, it goes on as if never interrupted."""

    lr: float
    clip: float
    weight_decay: float
    step: int = 0
    epoch: int = 0
    position: int = 0
    """Steps done in the epoch."""
    sums: list[float] = field(default_factory=list)
    """The epoch's figures x samples of this rank so far, in the order of `metrics.steps`, and its samples."""
    totals: list[float] = field(default_factory=list)
    """The same over all ranks, as of the last checkpoint."""
    best: float | None = None
    """The best figure so far of what `keep_best` names, and the step of it."""
    best_step: int = 0
    reached: float | None = None
    """The best figure so far of what `stop_early` names, and evaluations since that were no better."""
    waited: int = 0


@dataclass(frozen=True)
class Part:
    """What is trained at a time: the whole run, or, where it compresses, the epochs after one link of its chain."""

    epochs: int
    step: int = 0
    """Optimizer steps of the run before it."""
    epoch: int = 0
    """Epochs of the run before it."""
    steps: int = 0
    """Optimizer steps of the whole run, or 0 where that is this part."""
    objective: Objective | None = None
    """What is minimised in place of the loss, which then is for evaluation alone."""
    control: Control | None = None
    """What takes the run's commands, if it is there already."""


def rewind(folder: RunFolder, log: Log, step: int, where: str = "") -> None:
    """
    Void what was done after `step`, from which a run goes on; every rank calls it.

    Rank 0 does so for the ranks beyond the present world, too, when the run had more of them.
    """
    text, world = f"goes on from step {step}{where}", folder.spec.world
    log.write("note", rewind=step, world=world, text=text)
    if log.own:
        log.own.resume(step)
    if log.rank:
        return
    for path in (folder.path / "events").glob("rank*.jsonl"):
        if (rank := int(path.stem.removeprefix("rank"))) >= world:
            journal = Journal(path, rank)
            journal.write("note", rewind=step, world=world, text=f"{text} without this rank")
            journal.close()
