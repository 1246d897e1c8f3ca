"""
LAUNCHERS: what starts a run's ranks and ends them: on this machine, or elsewhere.

Every run has a supervisor, a process on the machine that launched it: `start` hands it runs, and what a person asks of
one goes through its folder (`signal`), as does how it stands (`state`). So these are the same for all launchers, and
nobody above them knows which it is. `supervision` is what such a process does, `rank` what is started, `remote` what
ranks share that are on other machines; `local` is this machine.

Adding one: in a folder of its own a `base.Launcher`, which is what a user says of it, and a `supervision.Supervision`
with `start`, `state`, `signal` and `collect`, which is how its ranks are started, watched, ended and cleared away. Then
a line in the table, and its name among the public ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ..errors import SpecError, shown, unknown
from ..tables import pick
from . import texts
from .base import Launcher, Ready
from .local import collect, signal, start, state
from .local.settings import Local
from .ray.settings import Ray
from .slurm.settings import Slurm
from .torchrun.settings import Torchrun

__all__ = ["HERE", "LAUNCHERS", "Launcher", "Ready", "asked", "collect", "of", "signal", "start", "state", "written"]

LAUNCHERS: dict[str, type[Launcher]] = {"local": Local, "torchrun": Torchrun, "slurm": Slurm, "ray": Ray}
HERE = Local()
EXAMPLE = "{torchrun: {nodes: 2}}"


def asked(on: Any) -> Launcher:
    """The launcher that a user asks for: itself, or as text, such as `ray:head:6379`. SpecError if it is none."""
    if isinstance(on, Launcher):
        return on
    if not isinstance(on, str):  # an array would be compared by element
        others = [f"lab.{kind.__name__}(...)" for kind in LAUNCHERS.values() if kind is not Local]
        raise SpecError(f"on={on!r}: must be {' or '.join([repr(HERE.name), *others])}")
    name, _, rest = on.strip().partition(":")
    kind = _kind(name.strip())
    return _made(kind, texts.settings(kind, on, rest), on)


def written(value: Any) -> Launcher:
    """The launcher that a file asks for: as text, or its name with its settings. SpecError if it is none."""
    if isinstance(value, str):
        return asked(value)
    name, settings = next(iter(value.items())) if isinstance(value, Mapping) and len(value) == 1 else ("", None)
    if not (isinstance(name, str) and isinstance(settings, Mapping)):
        raise SpecError(f"on={shown(value)}: must be 'local', or a launcher with its settings, such as {EXAMPLE}")
    return _made(_kind(name), settings, value)


def _kind(name: str) -> type[Launcher]:
    if name not in LAUNCHERS:
        raise SpecError(f"on={shown(name)}: {unknown('launcher', name, LAUNCHERS)}")
    return LAUNCHERS[name]


def _made(kind: type[Launcher], settings: Mapping[str, Any], value: Any) -> Launcher:
    """A launcher of settings, as they stand in what a user wrote."""
    takes = [setting.name for setting in fields(kind)]
    if strange := [setting for setting in settings if setting not in takes]:
        rule = unknown("setting", str(strange[0]), takes, f"of {kind.name}")
        raise SpecError(f"{strange[0]}={shown(settings[strange[0]])}: {rule}")
    try:
        return kind(**settings)
    except TypeError:  # one that has no default
        raise SpecError(f"on={shown(value)}: lab.{kind.__name__} needs more of {', '.join(takes)}") from None


def of(facts: dict[str, Any]) -> Launcher:
    """The launcher of a run whose folder has these facts."""
    settings = facts.get("launcher")
    return pick(LAUNCHERS, settings["name"], "launcher").of(settings) if settings else HERE
