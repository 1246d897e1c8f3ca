"""Contenders: what a list of strategies, as `race` and `advise` take it, changes in a spec."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import SpecError, shown
from ..run.steering import MOVED
from ..spec import Spec
from ..tables import pick, table


def entries(strategies: Iterable[Any] | None) -> list[Any]:
    """The entries of `strategies`, as `race` takes them; all that there are for None."""
    if isinstance(strategies, str | Mapping) or not isinstance(strategies, Iterable | None):
        raise SpecError(f"strategies={shown(strategies)}: must be a list, such as ['single', 'ddp']")
    return list(table("strategy") if strategies is None else strategies)


def fields(spec: Spec, entry: Any) -> dict[str, Any]:
    """The Spec fields that an entry of `strategies` changes; options of the spec's own strategy stay with it."""
    if isinstance(entry, str):
        entry = {"strategy": entry}
    elif isinstance(entry, tuple) and len(entry) == 2:
        entry = {"strategy": entry[0], "options": entry[1]}
    if not (isinstance(entry, Mapping) and isinstance(entry.get("strategy"), str)):
        raise SpecError(f"strategies=[{entry!r}]: must be names, pairs (name, options), or mappings with a 'strategy'")
    if not isinstance(entry.get("options", {}), Mapping):
        raise SpecError(f"options={entry['options']!r}: must be pairs of name and value")
    if names := [name for name in entry if name not in MOVED]:
        rule = f"{names[0]!r} can't differ in a race, only {', '.join(MOVED)} can"
        raise SpecError(f"strategies=[{dict(entry)!r}]: {rule}")
    pick(table("strategy"), entry["strategy"], "strategy")
    options = spec.options_after(strategy=entry["strategy"]) | dict(entry.get("options", {}))
    world = 1 if entry["strategy"] == "single" else spec.world
    return {"world": world, **entry, "options": options}
