"""What a user says of a Ray cluster: where it is, and what each rank takes of it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ...errors import SpecError, needs, visible, whole
from ...spec import Spec
from .. import devices
from ..base import Launcher
from .cluster import LOCAL, answers

if TYPE_CHECKING:
    from ..supervision import Supervision

ADDRESS = re.compile(r"([^\s:/]+|\[[0-9a-fA-F:]+\]):[1-9]\d{0,4}")


@dataclass(frozen=True)
class Ray(Launcher):
    """
    Have a run's ranks be actors of a Ray cluster: `lab.launch(spec, on=lab.Ray("head:6379"))`.

    Where the cluster has no room, the run is queued by Ray's scheduler. An actor or a node that is lost costs the steps
    since the last checkpoint: all ranks begin again from there, once there is room for them. This machine must be one
    of the cluster, and the run's folder one that its machines share, at the same path; so must the environment be.

    Parameters
    ----------
    address
        Host and port of the cluster's head, as `ray start` prints them; that in RAY_ADDRESS if not given. Without
        either, the run has a cluster of its own on this machine, on the loopback alone, and waits for the machine's
        devices as other runs do.
    cpus
        CPUs that each rank takes, and threads that it computes with; 1 or more. On GPUs it takes one of those, too.

    Raises
    ------
    SpecError
        If a value is refused.
    """

    name: ClassVar[str] = "ray"
    queues: ClassVar[bool] = True
    address: str = ""
    cpus: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.address, str):
            raise SpecError(f"address={self.address!r}: must be a text such as 'head:6379'")
        visible("address", self.address)
        whole("cpus", self.cpus, 1)
        self._check_address()

    @property
    def where(self) -> str:
        """Address of the cluster; "" for one of our own."""
        where = self.address or os.environ.get("RAY_ADDRESS", "")
        return "" if where == LOCAL else where

    def check(self, spec: Spec) -> None:
        """Refuse ranks that share memory, a machine without Ray, and an address at which nothing answers."""
        needs("lab.Ray", "ray")
        if spec.strategy == "hogwild":
            raise SpecError(
                "strategy='hogwild': its ranks share the memory of one process tree, which actors are not; take "
                "strategy='parameter_server'"
            )
        self._check_address()  # which RAY_ADDRESS may say by now
        if self.where:
            answers(self.where)

    def device(self, spec: Spec) -> str:
        """As of this machine, where the cluster is of our own."""
        return devices.elsewhere(spec) if self.where else devices.choose(spec)

    @property
    def facts(self) -> dict[str, Any]:
        """What the run's folder keeps of it: another process resumes it with another RAY_ADDRESS."""
        return {**super().facts, "address": self.where or LOCAL}

    def _check_address(self) -> None:
        """Refuse an address that is no host and port."""
        if (where := self.where) and ADDRESS.fullmatch(where) is None:
            client = "; ray:// is for programs outside of a cluster, and this machine must be one of its nodes"
            raise SpecError(
                f"address={where!r}: must be host and port of the head, such as 'head:6379', as `ray start` prints it"
                + client * where.startswith("ray://")
            )

    @staticmethod
    def supervision() -> type[Supervision]:
        """One that places actors."""
        from .supervisor import Actors

        return Actors
