"""What every node must know of a run, in a file of its folder; and the ways to tell each other through the store."""

from __future__ import annotations

import datetime
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...files import read_json, write_json

if TYPE_CHECKING:
    from torch.distributed import TCPStore

FILE = "nodes.json"
BEAT = 0.5  # seconds between two signs of life of a node
JOIN = 600  # seconds that the least number of nodes has to be there
PATIENCE = 20.0  # seconds for an answer of the store


@dataclass(frozen=True)
class Plan:
    """
    How the ranks of a run's present life find each other.

    Attributes
    ----------
    life
        Told apart from earlier lives of the run, whose agents may linger.
    address, port
        Of the store.
    timeout
        Seconds that a rank waits for another.
    cwd, modules
        Working directory and sys.path of the launching process.
    """

    life: str
    address: str
    port: int
    least: int
    most: int
    ranks: int
    """Of each node."""
    device: str
    timeout: float
    cwd: str
    modules: list[str]

    def write(self, folder: Path) -> None:
        """Have nodes find it."""
        write_json(folder / FILE, asdict(self))

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
        """A client of the store."""
        from torch.distributed import TCPStore

        patience = datetime.timedelta(seconds=PATIENCE)
        return TCPStore(self.address, self.port, is_master=False, wait_for_workers=False, timeout=patience)
