"""One rank as an actor of a Ray cluster. It imports little until its variables are set, which libraries read once."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from ...host import cores, version

ALIKE = ("lepton-lab", "torch")


class Rank:
    """
    An actor that is one rank of a run.

    Parameters
    ----------
    number
        Which rank.
    variables
        Of the environment, put over those of its node.
    """

    def __init__(self, number: int, variables: dict[str, str]) -> None:
        self.number = number
        os.environ.update(variables, RANK=str(number))

    def place(self, folder: str) -> dict[str, Any]:
        """Where it is, and what must be alike on all nodes."""
        import ray

        return {
            "host": socket.gethostname(),
            "address": ray.util.get_node_ip_address(),
            "node": ray.get_runtime_context().get_node_id(),
            "pid": os.getpid(),
            "folder": (Path(folder) / "spec.json").is_file(),
            "versions": versions(),
        }

    def work(self, folder: str, life: dict[str, Any], world: int, cpus: int) -> int:
        """Train until the run's end; returns 0, or another number after an error, which it reported in the folder."""
        import ray

        from ...store.folder import RunFolder
        from .. import remote

        sharing = max(1, cores() // cpus)
        address = ray.util.get_node_ip_address()
        return remote.work(RunFolder(Path(folder), world), remote.Life(**life), self.number, 0, sharing, address)


def versions() -> dict[str, str]:
    """Of what must be alike where ranks work together."""
    return {name: version(name) or "another" for name in ALIKE}


def tell(pid: int, number: int) -> None:
    """On an actor's node: send its process a signal."""
    os.kill(pid, number)
