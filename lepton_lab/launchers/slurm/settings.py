"""What a user says of a run's job to Slurm: where, how long, how many nodes, and what each has."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ...errors import SpecError, needs, visible, whole
from ...spec import Spec
from ...store.folder import RunFolder
from ..base import Launcher
from ..torchrun.settings import Torchrun
from . import commands

if TYPE_CHECKING:
    from ..supervision import Supervision

CLUSTERS = ("slurm", "local")
TEXTS = ("partition", "account", "qos", "address")


@dataclass(frozen=True)
class Slurm(Launcher):
    """
    Have a run done by a job of Slurm: `lab.launch(spec, on=lab.Slurm(partition="gpu", time=60, nodes=2))`.

    The run's folder must be one that this machine and the nodes share, at the same path; so must the environment be.
    Near the end of its time, or where Slurm takes the nodes back and says so, the run saves a checkpoint, its job is
    queued again, and goes on from there. Needs the extra `slurm`.

    Parameters
    ----------
    partition, account, qos
        As sbatch takes them; Slurm's own choice if not given.
    time
        Minutes that a job may take, at least 1. A run may need many jobs.
    nodes
        How many machines, each with as many ranks.
    cpus
        Cores for each rank.
    memory
        GB for each node; Slurm's own choice if 0.
    setup
        Lines of shell to run first on the job's first node, such as "module load cuda".
    options
        More options of sbatch, such as {"constraint": "a100", "exclusive": True}.
    address
        Name or address of this machine by which the nodes reach it; found if not given.
    cluster
        "slurm", or "local" to try a job on this machine without Slurm.

    Raises
    ------
    SpecError
        If a value is refused, by the Lab or by Slurm.
    """

    name: ClassVar[str] = "slurm"
    queues: ClassVar[bool] = True

    partition: str = ""
    time: int = 60
    nodes: int = 1
    account: str = ""
    qos: str = ""
    cpus: int = 1
    memory: int = 0
    setup: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    address: str = ""
    cluster: str = "slurm"

    def __post_init__(self) -> None:
        for name, least in {"time": 1, "nodes": 1, "cpus": 1, "memory": 0}.items():
            whole(name, getattr(self, name), least)
        for name in TEXTS:
            if not isinstance(value := getattr(self, name), str):
                raise SpecError(f"{name}={value!r}: must be a text")
            visible(name, value)
        if self.cluster not in CLUSTERS:
            raise SpecError(f"cluster={self.cluster!r}: must be 'slurm' or 'local'")
        if not isinstance(self.setup, (list, tuple)) or not all(isinstance(line, str) for line in self.setup):
            raise SpecError(f"setup={self.setup!r}: must be a list of lines, such as ['module load cuda']")
        pairs = self.options.items() if isinstance(self.options, Mapping) else [(None, None)]
        if not all(isinstance(option, str) and isinstance(value, (str, int, float)) for option, value in pairs):
            raise SpecError(
                f"options={self.options!r}: must be pairs of name and value, such as {{'constraint': 'a100'}}"
            )
        for name, texts in {"setup": self.setup, "options": [*self.options, *self.options.values()]}.items():
            for text in texts:
                visible(name, str(text), but="\n\t" if name == "setup" else "")

    def check(self, spec: Spec) -> None:
        """Refuse what nodes can't do, and what Slurm does not take, which it is asked."""
        Torchrun(nodes=self.nodes, address=self.address).check(spec)
        needs("lab.Slurm", "submitit")
        if self.cluster == "local":
            return
        if shutil.which("sbatch") is None:
            raise SpecError(
                "on=lab.Slurm(...): there is no sbatch here; launch on a machine that submits jobs to Slurm, or with "
                "cluster='local' to try one without"
            )
        asked = commands.asked(self.facts, spec.world // self.nodes, self.device(spec))
        if refused := commands.refused({**asked, **self.options}):
            raise SpecError(f"on=lab.Slurm(...): {refused}")

    def clear(self, folder: RunFolder) -> None:
        """Cancel its job, which may wait in the queue still."""
        if left := folder.facts.get("job"):
            commands.cancel(left)
            folder.note(job=None)

    @property
    def facts(self) -> dict[str, Any]:
        """What the run's folder keeps of it."""
        return {**super().facts, "setup": [*self.setup], "options": {**self.options}}

    @staticmethod
    def supervision() -> type[Supervision]:
        """One that keeps a job."""
        from .supervisor import Queued

        return Queued
