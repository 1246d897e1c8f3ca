"""Actors of one placement group: all ranks of a run, for as long as none of them is lost."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from ...errors import LabError
from .. import failures
from . import actor

SPENT = failures.GRACE + 1.0  # seconds after which a rank that failed, and that nobody blames, counts as lost


class Gang:
    """
    Ranks that wait for room, begin and end together.

    Parameters
    ----------
    demand
        What each takes of the cluster, by Ray's names.
    """

    def __init__(self, demand: dict[str, float], world: int, name: str) -> None:
        self.demand = demand
        self.group = ray.util.placement_group([demand] * world, strategy="PACK", name=name)
        self.actors: list[Any] = []
        self.places: list[dict[str, Any]] = []
        """Where each rank is, once all are there."""
        self.lost = ""
        """Which rank was lost, and why, as a sentence."""
        self.begun = False
        self._asked: list[Any] = []
        self._working: dict[Any, int] = {}  # what comes when a rank has ended -> rank
        self._failed: float | None = None  # when the first rank ended with an error

    @property
    def placed(self) -> bool:
        """Whether there is room, which is kept from then on."""
        return bool(ray.util.placement_group_table(self.group)["state"] == "CREATED")

    @property
    def working(self) -> bool:
        """Whether a rank that began has not ended."""
        return bool(self._working)

    def fill(self, folder: Path, variables: dict[str, str]) -> None:
        """Make the actors, which takes some seconds; `settle` tells when they are there."""
        kind = ray.remote(actor.Rank)
        cpus, gpus = self.demand["CPU"], self.demand.get("GPU", 0)
        for number in range(len(self.group.bundle_specs)):
            bundle = PlacementGroupSchedulingStrategy(self.group, placement_group_bundle_index=number)
            options = {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": 0, "scheduling_strategy": bundle}
            self.actors.append(kind.options(**options).remote(number, variables))
        self._asked = [each.place.remote(str(folder)) for each in self.actors]

    def settle(self, seconds: float) -> bool:
        """Wait for all actors to be there, for some seconds; whether they are, or one is lost."""
        ready, _ = ray.wait(self._asked, num_returns=len(self._asked), timeout=seconds)
        for asked in ready:
            self._take(asked, self._asked.index(asked))
        if not self.lost and len(ready) == len(self._asked):
            self.places = ray.get(self._asked)
        return bool(self.lost or self.places)

    def begin(self, *arguments: Any) -> None:
        """Have all of them work."""
        self.begun = True
        self._working = {each.work.remote(*arguments): number for number, each in enumerate(self.actors)}

    def look(self, seconds: float) -> None:
        """Wait for one to end, for some seconds, and see whether any is lost."""
        if not self._working:
            time.sleep(seconds)
        for ended in ray.wait([*self._working], timeout=seconds)[0] if self._working else ():
            if self._take(ended, self._working.pop(ended)):
                self._failed = self._failed or time.monotonic()
        if self._failed is not None and time.monotonic() > self._failed + SPENT:
            self.lost = self.lost or "a rank lost its connection to another"

    def tell(self, rank: int, number: int) -> None:
        """Send the process of a rank that works a signal."""
        where, free = self.places[rank], {"num_cpus": 0, "max_retries": 0}
        there = NodeAffinitySchedulingStrategy(where["node"], soft=False)
        ray.remote(actor.tell).options(scheduling_strategy=there, **free).remote(where["pid"], number)

    def end(self) -> None:
        """End them all by force, and give back their room."""
        for each in self.actors:
            ray.kill(each)
        ray.util.remove_placement_group(self.group)

    def _take(self, ended: Any, rank: int) -> Any:
        """What an actor returned; None if it is lost, which is noted. LabError if it could not begin."""
        try:
            return ray.get(ended)
        except RayTaskError as error:
            cause = error.cause
            raise LabError(f"rank {rank} can't begin on its node: {type(cause).__name__}: {cause}") from None
        except RayActorError as error:
            words = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            self.lost = self.lost or f"rank {rank} was lost ({words.rstrip('.')})"
            return None
