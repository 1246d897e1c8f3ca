"""
LAUNCHERS: what starts a run's ranks and ends them. `rank` is what is started; `local` is this machine.

Adding one: a module or package here with the functions of `base.Launcher`, and a line in the table.
"""

from __future__ import annotations

from . import local
from .base import Launcher, Ready

__all__ = ["LAUNCHERS", "Launcher", "Ready"]

LAUNCHERS: dict[str, Launcher] = {"local": local}
