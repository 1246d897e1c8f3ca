"""What every node must know of a run, in a file of its folder; and the ways to tell each other through the store."""

from __future__ import annotations

import datetime
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import LabError
from ...files import read_json, write_json
from .. import devices
from ..remote import Life, Unfit, refuse

if TYPE_CHECKING:
    from torch.distributed import TCPStore

FILE = "nodes.json"
BEAT = 0.5  # seconds between two signs of life of a node
JOIN = 600  # seconds that the least number of nodes has to be there
SAVED = 30.0  # seconds that ranks at work have to save before a node that comes has them begin again
PATIENCE = 20.0  # seconds for an answer of the store
_served: list[TCPStore] = []


@dataclass(frozen=True, kw_only=True)
class Plan(Life):
    """
    How the ranks of a run's present life find each other.

    Attributes
    ----------
    address, port
        Of the store.
    least, most
        Nodes.
    ranks
        Of each node.
    store
        Address of the object store that nodes have the run from; "" where they share its folder.
    """

    address: str
    port: int
    least: int
    most: int
    ranks: int
    store: str = ""

    def write(self, folder: Path) -> None:
        """Have nodes find it."""
        write_json(folder / FILE, asdict(self))

    @staticmethod
    def forget(folder: Path) -> None:
        """Have nodes find none."""
        (folder / FILE).unlink(missing_ok=True)

    def refuse(self) -> None:
        """Refuse, with an `Unfit`, ranks that can't be on this machine."""
        refuse(self)
        if self.device == "cuda" and (count := len(devices.gpus())) < self.ranks:
            raise Unfit(
                f"{socket.gethostname()} shows {count} GPUs, and each node has {self.ranks} ranks: take a smaller "
                "world, device='cpu', or other machines"
            )

    @classmethod
    def read(cls, folder: Path) -> Plan | None:
        """What the coordinator wrote; None where it has not yet."""
        values = read_json(folder / FILE)
        return cls(**values) if values else None

    def reached(self) -> str:
        """The address of this machine on the way to the coordinator."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((self.address, self.port))
            return str(probe.getsockname()[0])

    def connect(self) -> TCPStore:
        """A client of the store. LabError if it can't be reached."""
        from torch.distributed import TCPStore

        patience = datetime.timedelta(seconds=PATIENCE)
        try:
            return TCPStore(self.address, self.port, is_master=False, wait_for_workers=False, timeout=patience)
        except RuntimeError as error:
            raise LabError(
                f"{self.address}:{self.port}, where the nodes of the run meet, can't be reached from here: see whether "
                "the run is live and no firewall stands between, or launch it with another address=... "
                f"({str(error).splitlines()[0]})"
            ) from None


def served(address: str, port: int = 0) -> TCPStore:
    """
    A store that listens at one address, where torch's own would at all, and at some port if none is given.

    It stays until the process ends: to take one down can last minutes where the connection to a node was cut.
    """
    from torch.distributed import TCPStore

    listening = socket.create_server((address, port))
    port = listening.getsockname()[1]
    store = TCPStore(address, port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach())
    _served.append(store)
    return store
