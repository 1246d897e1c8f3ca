"""
LAUNCHERS: what starts a run's ranks and ends them. `rank` is what is started; `local` is this machine.

Adding one: a module or package here with the functions of `base.Launcher`, and a line in the table.
"""

from __future__ import annotations

from typing import Any

from ..errors import SpecError
from . import local, torchrun
from .base import Launcher, Ready
from .torchrun.settings import Torchrun

__all__ = ["LAUNCHERS", "Launcher", "Ready", "asked"]

LAUNCHERS: dict[str, Launcher] = {"local": local, "torchrun": torchrun}


def asked(on: Any) -> Torchrun | None:
    """Other machines that a user asks for; None for this one. SpecError if it is neither."""
    if on == "local":
        return None
    if not isinstance(on, Torchrun):
        raise SpecError(f"on={on!r}: must be 'local' or lab.Torchrun(...)")
    return on
