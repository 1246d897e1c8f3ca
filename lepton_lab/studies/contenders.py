"""Contenders: the specs that a list of strategies makes of one, and why some of them can't run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..charts.series import contestant
from ..errors import SpecError, shown
from ..run.checks import Own, splits
from ..run.steering import MOVED
from ..spec import Spec
from ..tables import pick, table


def contenders(spec: Spec, strategies: Iterable[Any] | None, own: Own) -> tuple[list[tuple[Spec, str]], dict[str, str]]:
    """
    Spec and device of each strategy that can do a spec here, in order; of the others, by name, why not.

    Raises
    ------
    SpecError
        If an entry of `strategies` is not what `race` takes, or its strategy is unknown.
    """
    able: list[tuple[Spec, str]] = []
    refused: dict[str, str] = {}
    for changes in [fields(spec, entry) for entry in entries(strategies)]:
        try:
            contender = spec.replace(**changes)
            able.append((contender, splits(contender, own)))
        except SpecError as error:
            refused[contestant(spec.model_copy(update=changes))] = str(error)
    return able, refused


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
