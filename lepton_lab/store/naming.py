"""What runs are called: one title for each, and what sets several apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..chains import chain_name
from ..spec import CELL, Spec
from ..values import brief

if TYPE_CHECKING:
    from ..run.handle import Run

LABEL = 44  # characters of a label, at most
UNSAID = ("name", "parent")
"""Fields that a label leaves out: a name stands for itself, and an id says nothing."""


def title(spec: Spec) -> str:
    """What a run without a name is called: `mlp on digits`, or `mlp on digits, prune 0.5`."""
    chain = chain_name(spec.compress)
    return f"{spec.model} on {spec.dataset}".replace(CELL, "") + (f", {chain}" if chain else "")


def differing(specs: Sequence[Spec]) -> list[dict[str, Any]]:
    """Of each spec the fields, options among them, in which not all are the same; one that it lacks is None."""
    flat = [{**spec.to_dict(), **{f"options.{name}": value for name, value in spec.options.items()}} for spec in specs]
    names = [name for name in dict.fromkeys(name for one in flat for name in one) if name not in ("options", *UNSAID)]
    apart = [name for name in names if any(one.get(name) != flat[0].get(name) for one in flat)]
    return [{name: one.get(name) for name in apart} for one in flat]


def labels(runs: Sequence[Run]) -> list[str]:
    """
    A short label for each run, all different: its name, else in what its spec differs, else its title.

    Where two are still the same, the end of the id follows.
    """
    named = [run.name for run in runs]
    apart = differing([run.spec for run in runs])
    found = []
    for name, run, fields in zip(named, runs, apart, strict=True):
        twin = not name or named.count(name) > 1
        told = sorted(fields.items(), key=lambda item: item[0] != "compress")  # which says the most
        parts = [_part(field, value) for field, value in told if value not in (None, [])] if twin else []
        found.append(_joined([*([name] if name else []), *parts]) or title(run.spec)[:LABEL])
    return [_told_apart(found, runs, i) for i in range(len(runs))]


def _told_apart(found: list[str], runs: Sequence[Run], i: int) -> str:
    twins = [run.id for label, run in zip(found, runs, strict=True) if label == found[i]]
    if len(twins) == 1:
        return found[i]
    end = runs[i].id[-4:]
    return f"{found[i]}, {end}" if [id[-4:] for id in twins].count(end) == 1 else runs[i].id


def _part(field: str, value: Any) -> str:
    if field == "compress":
        return chain_name(value)
    return f"{field.removeprefix('options.')}={brief(value).replace(CELL, '')}"


def _joined(parts: list[str]) -> str:
    """As many of the parts as a label has room for, the first always."""
    text = ""
    for part in parts:
        longer = f"{text}, {part}" if text else part[:LABEL]
        if len(longer) <= LABEL:
            text = longer
    return text
