"""What a user says of the machines of a run: how many, which, and where they reach this one."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ...errors import SpecError, visible
from ...files import remote
from ...host import LOOPBACK
from ...spec import Spec
from ...store.folder import RunFolder
from ...tables import trait
from ..base import Launcher

if TYPE_CHECKING:
    from ..supervision import Supervision

NODES = re.compile(r"([1-9]\d*)(?::([1-9]\d*))?")


@dataclass(frozen=True)
class Torchrun(Launcher):
    """
    Have a run done by torchrun's elastic agents, one a machine: `lab.launch(spec, on=lab.Torchrun(...))`.

    The run's folder must be one that all machines share, at the same path, as must the environment be. Where
    LEPTON_LAB_HOME is an object store, that is all they need to share. `spec.world` is how many ranks there are with
    all nodes. Where one is lost, the others go on from the last checkpoint without it.

    Parameters
    ----------
    nodes
        How many machines: a number, or the least and the most as in "1:4".
    hosts
        Their names, as ssh takes them; "localhost" is this one. Without any the run says what command to give on each.
    address
        Name or address of this machine by which the others reach it; found if not given.
    python
        The interpreter on the machines; the path of this one's if not given.

    Raises
    ------
    SpecError
        If a value is refused.
    """

    name: ClassVar[str] = "torchrun"
    nodes: int | str = 1
    hosts: Sequence[str] = ()
    address: str = ""
    python: str = ""

    def __post_init__(self) -> None:
        match = NODES.fullmatch(str(self.nodes))
        if match is None or self.most < self.least:
            raise SpecError(f"nodes={self.nodes!r}: must be a number, or the least and the most as in '1:4'")
        for name in ("address", "python"):
            if not isinstance(value := getattr(self, name), str):
                raise SpecError(f"{name}={value!r}: must be a text")
            visible(name, value)
        names = self.hosts if isinstance(self.hosts, (list, tuple)) else [None]
        if not all(isinstance(host, str) and host and not host.startswith("-") for host in names):  # an option of ssh
            raise SpecError(f"hosts={self.hosts!r}: must be a list of names, such as ['node1', 'node2']")
        for host in self.hosts:
            visible("hosts", host)
        if self.hosts and not self.least <= len(self.hosts) <= self.most:
            raise SpecError(f"hosts: {len(self.hosts)} were given; nodes={self.nodes!r} takes {self._count}")
        if self._far and shutil.which("ssh") is None:
            raise SpecError(
                f"hosts=[{self._far[0]!r}]: there is no ssh here; install it, or leave hosts out and give each machine "
                "the command that the run says"
            )

    @property
    def least(self) -> int:
        """Nodes without which no step is done."""
        return int(str(self.nodes).partition(":")[0])

    @property
    def most(self) -> int:
        """Nodes that the run has where none is lost."""
        return int(str(self.nodes).rpartition(":")[2])

    @property
    def _count(self) -> str:
        return str(self.least) if self.least == self.most else f"{self.least} to {self.most}"

    @property
    def _far(self) -> list[str]:
        return [host for host in self.hosts if host not in LOOPBACK]

    def check(self, spec: Spec) -> None:
        """Refuse ranks that nodes can't share evenly, those that some nodes can't do, and ranks that share memory."""
        if spec.world % self.most:
            even = self.most * -(-spec.world // self.most)
            raise SpecError(f"world={spec.world} on {self.most} nodes: each has as many ranks; take world={even}")
        if trait("strategy", spec.strategy, "spreads") is False:
            raise SpecError(
                f"strategy={spec.strategy!r}: its ranks share the memory of one machine; take "
                "strategy='parameter_server'"
            )
        if self.address:
            _listens(self.address)
        for count in range(self.least, self.most):
            try:
                spec.replace(world=spec.world // self.most * count).check_strategy()
            except SpecError as error:
                raise SpecError(
                    f"nodes={self.nodes!r}: with {count} of them the run could not go on, since {error}"
                ) from None

    def ready(self, folder: RunFolder) -> None:
        """As of others, unless nodes have it from the store."""
        if not remote():
            super().ready(folder)

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Torchrun:
        """What `facts` tells."""
        least, most = facts["least"], facts["most"]
        nodes = least if least == most else f"{least}:{most}"
        return cls(nodes, facts["hosts"], facts["address"], facts["python"])

    @property
    def facts(self) -> dict[str, Any]:
        """What the run's folder keeps of it."""
        loopback = not self._far and bool(self.hosts)
        return {
            "name": self.name,
            "least": self.least,
            "most": self.most,
            "hosts": [*self.hosts],
            "address": self.address or ("127.0.0.1" if loopback else ""),
            "python": self.python,
        }

    @staticmethod
    def supervision() -> type[Supervision]:
        """One that keeps the rendezvous."""
        from .coordinator import Coordination

        return Coordination


def _listens(address: str) -> None:
    """Refuse an address at which this machine can't be reached."""
    why = "resolves to nothing"
    try:
        socket.getaddrinfo(address, None, socket.AF_INET)
        why = "is not of this machine"
        socket.create_server((address, 0)).close()
    except (OSError, UnicodeError):
        raise SpecError(
            f"address={address!r}: {why}; name an IPv4 address or name of this machine by which the others reach it, "
            "or leave it out to have it found"
        ) from None
