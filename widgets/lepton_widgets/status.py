"""What the head of a view says about a run: progress, speed, ranks, failure. Pure, without a widget."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from lepton_lab.chains import epochs
from lepton_lab.charts.series import begun
from lepton_lab.store import story
from lepton_lab.store.naming import title

TERMINAL = frozenset({"done", "stopped", "failed", "interrupted"})


class Status:
    """Newest figures of one run, fed with rows as they come.

    Parameters
    ----------
    run : Run
        Read for its spec, and in :meth:`head` for its state and failure.
    label : str, optional
        What the view calls it; its name otherwise, or data set and model.
    """

    def __init__(self, run: Any, label: str | None = None) -> None:
        self.run = run
        self._label = label
        self._remedy: tuple[Any, dict[str, float]] = None, {}
        self.world: int = run.spec.world
        self.steps: int | None = None
        self.step = 0
        self.lr: float | None = None
        self.base_lr: float = run.spec.lr
        self.ranks: dict[int, dict[str, Any]] = {rank: {"rank": rank, "step": 0} for rank in range(self.world)}
        self.epochs: int = epochs(run.spec)
        self.link = ""  # what of its chain is at hand, and of how many
        self.marks: list[dict[str, Any]] = []
        self.figures: dict[str, float] = {}
        self.parts = 1

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take over the rows of every kind."""
        for row in rows:
            take = getattr(self, f"_{row['kind']}", None)
            if take is not None:
                take(row)

    def _train(self, row: Mapping[str, Any]) -> None:
        rank, step = self.ranks.setdefault(row["rank"], {"rank": row["rank"]}), row["step"]
        rank["step"] = step
        if step <= self.step:
            return
        self.step, self.lr = step, row.get("lr", self.lr)

    def _eval(self, row: Mapping[str, Any]) -> None:
        for metric in ("loss", "accuracy"):
            if row.get(metric) is not None:
                self.figures[f"{row['split']}_{metric}"] = row[metric]

    def _system(self, row: Mapping[str, Any]) -> None:
        rank = self.ranks.setdefault(row["rank"], {"rank": row["rank"], "step": 0})
        for name in ("memory", "gpu_memory", "samples_per_s", "steps_per_s", "device", "threads"):
            if row.get(name) is not None:
                rank[name] = row[name]
        rank["waits"] = row.get("waits")

    def _cost(self, row: Mapping[str, Any]) -> None:
        for cost in self.run.costs():  # of the latest steps that all ranks have told of
            self.ranks.setdefault(cost["rank"], {"rank": cost["rank"], "step": 0})["cost"] = cost

    def _state(self, row: Mapping[str, Any]) -> None:
        self.steps, self.parts = row.get("steps", self.steps), row.get("parts", self.parts)

    def _note(self, row: Mapping[str, Any]) -> None:
        if "rewind" in row and row["rank"] == 0:
            self.step = row["rewind"]
            self.marks = [mark for mark in self.marks if mark["step"] <= self.step]
        if "lr" in row:
            self.base_lr = row["lr"]
        if link := begun(row):
            self.link = f"{link}, link {row['number']} of {row['links']}"
        elif row.get("link") == "control":
            self.link = "dense control" if "trains" in row["text"] else "measuring"
        elif "artifact" in row:
            self.link = ""
        command = row.get("command")
        text = link or (f"lr {row['lr']:g}" if "lr" in row else command)
        if (link or command) and row.get("step") is not None:
            self._mark(row["step"], text)

    def _mark(self, step: int, text: str) -> None:
        if self.marks and self.marks[-1]["step"] == step:  # one label tells both
            self.marks[-1] = {"step": step, "text": f"{self.marks[-1]['text']}, {text}"}
        else:
            self.marks.append({"step": step, "text": text})

    @property
    def epoch(self) -> int:
        """The epoch at hand, from 1; 0 before the first step."""
        return story.epoch(self.step, self.steps, self.epochs)

    @property
    def samples_per_s(self) -> float | None:
        """Training samples a second over all ranks, or None before it is known."""
        return story.speed((rank.get("samples_per_s") for rank in self.ranks.values()), self.parts)

    def head(self) -> dict[str, Any]:
        """Everything but the curves, as JSON."""
        run, spec, state = self.run, self.run.spec, self.run.state
        pace = self.ranks[0].get("steps_per_s") if state == "running" else None
        failure = run.failure if state == "failed" else None
        if failure != self._remedy[0]:  # read once: it needs the run's notes
            self._remedy = failure, run.remedy if failure else {}
        return {
            "id": run.id,
            "label": self._label or run.name or title(spec),
            "title": title(spec),
            "strategy": spec.strategy,
            "world": self.world,
            "state": state,
            "remark": run.remark,
            "resumable": run.resumable,
            "remedy": self._remedy[1],
            "epoch": self.epoch,
            "epochs": self.epochs,
            "link": self.link,
            "step": self.step,
            "steps": self.steps,
            "samples_per_s": None if state in story.RESTING else self.samples_per_s,
            "seconds_left": story.seconds_left(self.step, self.steps, pace),
            "seconds": run.seconds,
            "lr": self.lr,
            "base_lr": self.base_lr,
            "figures": dict(self.figures),
            "ranks": [_rank(self.ranks[rank], state, failure) for rank in sorted(self.ranks)],
            "marks": self.marks[-100:],
            "failure": asdict(failure) if failure else None,
        }

    def __str__(self) -> str:
        total = f" of {self.steps}" if self.steps else ""
        parts = [self.run.id, self.run.state, f"epoch {self.epoch} of {self.epochs}"]
        parts += [self.link] if self.link else []
        parts.append(f"step {self.step}{total}")
        parts += [f"{name.replace('_', ' ')} {value:.4g}" for name, value in self.figures.items()]
        return ", ".join(parts)


def _rank(facts: dict[str, Any], state: str, failure: Any) -> dict[str, Any]:
    if failure is not None:
        state = "failed" if facts["rank"] == failure.rank else "ended"
    return facts | {"state": state} | ({"samples_per_s": None} if state in story.RESTING else {})
