"""Values as a Spec holds them: frozen mappings and lists, what a line of YAML stands for, what to call one."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from .errors import SpecError

if TYPE_CHECKING:
    from inspect import Parameter


def _refuse(self: Any, *given: Any, **named: Any) -> NoReturn:
    raise SpecError("a Spec is frozen, and so are its options and its chain: make another with spec.replace(...)")


class FrozenDict(dict[str, Any]):
    """A dictionary that refuses a change; `{**it}`, `it | other` and `it.copy()` give a plain one."""

    __setitem__ = __delitem__ = __ior__ = update = setdefault = pop = popitem = clear = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:  # a copy or a pickle would set item after item
        return type(self), (dict(self),)


class FrozenList(list[Any]):
    """A list that refuses a change; `[*it]` and `it + other` give a plain one."""

    __setitem__ = __delitem__ = __iadd__ = __imul__ = append = extend = insert = _refuse
    remove = pop = clear = sort = reverse = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (list(self),)


def frozen(value: Any) -> Any:
    """A value whose mappings and lists, at any depth, refuse a change."""
    if isinstance(value, Mapping):
        return FrozenDict({name: frozen(item) for name, item in value.items()})
    return FrozenList(map(frozen, value)) if isinstance(value, (list, tuple)) else value


def parsed(text: str) -> Any:
    """
    The value of JSON text, or else of YAML; a ValueError if it is neither.

    YAML alone would take 1e-3 for text, and JSON's escapes of an emoji for two letters.
    """
    import yaml

    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(str(error)) from None


def value(text: str) -> Any:
    """A value as JSON where it is, else as text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def split(text: str) -> list[str]:
    """Parts between commas that stand in no bracket and no double quotes."""
    parts, depth = [""], 0
    for token in re.findall(r'"(?:\\.|[^"\\])*"|.', text, re.DOTALL):
        depth += (token in ("[", "{")) - (token in ("]", "}"))
        if token == "," and not depth:
            parts.append("")
        else:
            parts[-1] += token
    return parts


def brief(value: Any) -> str:
    """A value as names of runs have it: a float with at most 4 significant digits."""
    return str(float(f"{value:.4g}") if isinstance(value, float) else value)


def called(value: Any) -> str:
    """What to call an object that a user passed: its own name, else its class's."""
    while isinstance(value, tuple):  # (train, test), (x, y)
        value = value[0]
    return getattr(value, "__name__", None) or type(value).__name__


def taken(parameters: Iterable[Parameter], offered: Collection[str]) -> tuple[list[str], str]:
    """Which of the names `offered` a function's parameters ask for, and one that they need beside them, or ""."""
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    lacking = next((p.name for p in named if p.name not in offered and p.default is p.empty), "")
    return [p.name for p in named if p.name in offered], lacking


def evenly(count: int, taken: int) -> list[int]:
    """Which places of `count` are taken, such as of layers: evenly spaced, the first and the last among them."""
    return [round(place * (count - 1) / max(taken - 1, 1)) for place in range(taken)]
