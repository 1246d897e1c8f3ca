"""The contract of a launcher; strategies, engine, store and views don't know which one started a run's ranks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ..spec import Spec
from ..store.folder import RunFolder
from ..store.objects.gathering import take_rest
from ..store.objects.saved import bring_home
from . import devices

if TYPE_CHECKING:
    from .supervision import Supervision


@dataclass(frozen=True)
class Ready:
    """A run that may start."""

    folder: RunFolder
    lock: int
    """File descriptor that holds the lock on its folder; the launcher's from its start on."""
    device: str
    """"cuda" or "cpu", as it was chosen for it."""
    beside: int = 1
    """Ranks that one call launches, its own too: they share the cores from their start."""


@dataclass(frozen=True)
class Launcher:
    """
    Where a run's ranks are to be, as a user says it: a frozen dataclass of what can be said, checked when it is made.

    How they are started and ended there is its `supervision`: start, state, signal, collect.
    """

    name: ClassVar[str]
    """By which the table and a run's folder know it."""
    queues: ClassVar[bool] = False
    """Whether runs wait for each other there, in a queue; else several of one call take turns."""

    def check(self, spec: Spec) -> None:
        """Refuse, with a SpecError, what ranks can't do there."""

    def device(self, spec: Spec) -> str:
        """ "cuda" or "cpu" for a spec there."""
        return devices.elsewhere(spec)

    def clear(self, folder: RunFolder) -> None:
        """End what is left there of a run whose supervisor was killed, before it goes on, wherever that is."""

    def ready(self, folder: RunFolder) -> None:
        """Have on this machine's disk what ranks go on from, also where it is on a store alone. LabError if not."""
        bring_home(folder.path)
        take_rest(folder)  # after it: what led to a checkpoint was sent before

    @property
    def facts(self) -> dict[str, Any]:
        """What a run's folder keeps of it, as JSON takes it."""
        return {"name": self.name, **asdict(self)}

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Self:
        """What `facts` told."""
        return cls(**{name: value for name, value in facts.items() if name != "name"})

    @staticmethod
    def supervision() -> type[Supervision]:
        """What supervises such a run; imported by this call alone, in the process that does so."""
        raise NotImplementedError
