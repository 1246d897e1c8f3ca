"""What the head of a view says about a run: progress, speed, ranks, failure. Pure, without a widget."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lepton_lab.store import pace
from lepton_lab.store.naming import title
from lepton_lab.store.nodes import named, nodes
from lepton_lab.store.notes import begun
from lepton_lab.store.story import Story

from . import media


class Status:
    """What the head of a view says of one run, from its story.

    Parameters
    ----------
    run : Run
        Read for its spec, and in :meth:`head` for its state and failure.
    label : str, optional
        What the view calls it; its name otherwise, or data set and model.
    story : Story, optional
        What the run did; told by whoever holds it.
    """

    def __init__(self, run: Any, label: str | None = None, story: Story | None = None) -> None:
        self.run, self.story = run, story or Story.of(run.spec)
        self._label = label
        self._remedy: tuple[Any, dict[str, float]] = None, {}
        self._costs: tuple[int, dict[int, Any]] = 0, {}  # how often ranks had told theirs, and what they told

    @property
    def link(self) -> str:
        """What of its chain is at hand, and of how many links."""
        for row in reversed(self.story.notes):
            if link := begun(row):
                return f"{link}, link {row['number']} of {row['links']}"
            if row.get("link") == "control":
                return "dense control" if "trains" in row["text"] else "measuring"
            if "artifact" in row:
                return ""
        return ""

    @property
    def marks(self) -> list[dict[str, Any]]:
        """Steps at which something was done to the run, and what, see ``Story.marks``."""
        return [{"step": step, "text": text} for step, text in self.story.marks.items()]

    def _ranks(self, world: int, state: str, failure: Any) -> list[dict[str, Any]]:
        """The ranks that it has now."""
        if self.story.costs != self._costs[0]:  # of the latest steps that all ranks have told of
            self._costs = self.story.costs, {cost["rank"]: cost for cost in self.run.costs()}
        ranks, elsewhere = [], bool(self.run.facts.get("launcher"))
        for number in range(world):
            facts: dict[str, Any] = {"rank": number, "step": 0, "state": state}
            if (rank := self.story.ranks.get(number)) is not None:
                facts |= {"step": rank.step, **rank.facts}
                facts |= {} if elsewhere else {"host": None}
            if failure is not None:
                facts["state"] = "failed" if number == failure.rank else "ended"
            if state in pace.RESTING:
                facts["samples_per_s"] = None
            if number in self._costs[1]:
                facts["cost"] = self._costs[1][number]
            ranks.append(facts)
        return ranks

    def head(self) -> dict[str, Any]:
        """Everything but the curves, as JSON."""
        run, spec, state, story = self.run, self.run.spec, self.run.state, self.story
        failure = run.failure if state == "failed" else None
        if failure != self._remedy[0]:  # read once: it needs the run's notes
            self._remedy = failure, run.remedy if failure else {}
        return {
            "id": run.id,
            "label": self._label or run.name or title(spec),
            "title": title(spec),
            "strategy": spec.strategy,
            "world": spec.world,
            "place": (run.facts.get("launcher") or {}).get("name", ""),
            "nodes": nodes(run.facts, story.present),
            "precision": run.facts.get("precision", "") if spec.precision == "auto" else "",
            "state": state,
            "remark": run.remark,
            "resumable": run.resumable,
            "remedy": self._remedy[1],
            "epoch": story.epoch,
            "epochs": story.epochs,
            "link": self.link,
            "step": story.step,
            "steps": story.steps,
            "samples_per_s": None if state in pace.RESTING else story.speed,
            "seconds_left": story.seconds_left if state == "running" else None,
            "seconds": run.seconds,
            "lr": story.ranks[0].lr if 0 in story.ranks else None,
            "base_lr": spec.lr if story.lr is None else story.lr,
            "figures": story.figures,
            "ranks": self._ranks(spec.world, state, failure),
            "marks": self.marks[-100:],
            "media": media.listed(story),
            "dropped": sum(rank.facts.get("dropped", 0) for rank in story.ranks.values()),
            "failure": asdict(failure) if failure else None,
        }

    def __str__(self) -> str:
        story, machines = self.story, named(nodes(self.run.facts, self.story.present))
        total = f" of {story.steps}" if story.steps else ""
        parts = [self.run.id, self.run.state, f"epoch {story.epoch} of {story.epochs}"]
        parts += [text for text in (self.link, machines) if text]
        parts.append(f"step {story.step}{total}")
        parts += [f"{name.replace('_', ' ')} {value:.4g}" for name, value in story.figures.items()]
        return ", ".join(parts)
