"""Contenders: the specs that a list of strategies makes of one, and why some of them can't be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..charts import contestant
from ..errors import SpecError, shown
from ..run.checks import Own, splits
from ..run.steering import MOVED
from ..spec import Spec
from ..tables import pick, table


def contenders(
    spec: Spec, strategies: Iterable[Any] | None, own: Own | None = None
) -> tuple[list[tuple[Spec, str]], dict[str, str]]:
    """
    A spec under several strategies, as `race` takes them, for what the user brings.

    Returns
    -------
    tuple
        Spec and device of those that can do it here, in order; of the others, by name, why not, as `launch` says it.

    Raises
    ------
    SpecError
        If an entry is not what `race` takes, or its strategy is unknown.
    """
    able: list[tuple[Spec, str]] = []
    refused: dict[str, str] = {}
    for changed in [fields(spec, one) for one in entries(strategies)]:
        try:
            contender = spec.replace(**changed)
            able.append((contender, splits(contender, own or Own())))
        except SpecError as error:
            refused[contestant(spec.model_copy(update=changed))] = str(error)
    return able, refused


def entries(strategies: Iterable[Any] | None) -> list[Any]:
    """What was given as `strategies`, one by one; all there are where nothing was."""
    if isinstance(strategies, str | Mapping) or not isinstance(strategies, Iterable | None):
        raise SpecError(f"strategies={shown(strategies)}: must be a list, such as ['single', 'ddp']")
    return list(table("strategy") if strategies is None else strategies)


def fields(spec: Spec, one: Any) -> dict[str, Any]:
    """The Spec fields that an entry of `strategies` changes; options of the spec's own strategy stay with it."""
    if isinstance(one, str):
        one = {"strategy": one}
    elif isinstance(one, tuple) and len(one) == 2:
        one = {"strategy": one[0], "options": one[1]}
    if not (isinstance(one, Mapping) and isinstance(one.get("strategy"), str)):
        raise SpecError(f"strategies=[{one!r}]: must be names, pairs (name, options), or mappings with a 'strategy'")
    if not isinstance(one.get("options", {}), Mapping):
        raise SpecError(f"options={one['options']!r}: must be pairs of name and value")
    for name in one:
        if name not in MOVED:
            raise SpecError(f"strategies=[{dict(one)!r}]: {name!r} can't differ in a race, only {', '.join(MOVED)} can")
    pick(table("strategy"), one["strategy"], "strategy")
    options = spec.options_after(strategy=one["strategy"]) | dict(one.get("options", {}))
    world = 1 if one["strategy"] == "single" else spec.world
    return {"world": world, **one, "options": options}
