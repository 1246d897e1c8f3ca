"""This machine, of which nothing need be said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ...spec import Spec
from .. import devices
from ..base import Launcher

if TYPE_CHECKING:
    from ..supervision import Supervision


@dataclass(frozen=True)
class Local(Launcher):
    """Have a run done by processes of this machine."""

    name: ClassVar[str] = "local"
    queues: ClassVar[bool] = True

    def device(self, spec: Spec) -> str:
        """What this machine has for a spec. SpecError if that is too little."""
        device = devices.choose(spec)
        devices.start_method()
        return device

    @property
    def facts(self) -> dict[str, Any]:
        """None: a run is here where its folder says nothing else."""
        return {}

    @staticmethod
    def supervision() -> type[Supervision]:
        """One that forks the ranks."""
        from .supervisor import Forks

        return Forks
