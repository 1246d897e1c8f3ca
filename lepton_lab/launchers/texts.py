"""A launcher as text, for command lines, YAML and parameters of a notebook: `slurm:gpu,time=60`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any

from ..errors import SpecError, shown
from ..values import parsed, split, value
from .base import Launcher

GRAMMAR = "NAME[:SETTING,...], each KEY=VALUE, or first the VALUE of its first"


def settings(kind: type[Launcher], text: str, rest: str) -> dict[str, Any]:
    """
    The settings that a text gives after the launcher's name, such as `head:6379,cpus=4` of `ray`.

    Each is KEY=VALUE; the first may be the value alone of the launcher's first setting. What may be a list or pairs is
    taken as YAML where it begins with a bracket, and as JSON where it is that; a setting that is a text stays one.
    """
    takes = {setting.name: setting for setting in fields(kind)}
    if rest and not takes:
        raise SpecError(f"on={shown(text)}: {kind.name!r} has no settings")
    given: dict[str, Any] = {}
    for i, part in enumerate(split(rest) if rest else ()):
        name, equals, words = part.partition("=")
        if not equals and i == 0:
            name, words = next(iter(takes)), part
        elif not (equals and name.strip()):
            raise SpecError(f"on={shown(text)}: {part!r} must be KEY=VALUE, such as {_example(kind)}")
        if name.strip() in given:
            raise SpecError(f"on={shown(text)}: {name.strip()!r} comes twice")
        given[name.strip()] = _value(text, words.strip(), takes.get(name.strip()))
    return given


def text(on: Launcher) -> str:
    """The text that gives this launcher, with the settings that are not their defaults; "" of this machine."""
    given = {each: _written(getattr(on, each.name)) for each in fields(on)}
    parts = [f"{each.name}={text}" for each, text in given.items() if text != _written_default(each)]
    return on.name + ":" * bool(parts) + ",".join(parts) if on.facts else ""


def _value(text: str, words: str, setting: Field[Any] | None) -> Any:
    if setting is not None and setting.type == "str":
        return value(words) if words.startswith('"') else words
    if not words.startswith(("[", "{")):
        return value(words)
    try:
        return parsed(words)
    except ValueError:
        raise SpecError(f"on={shown(text)}: {words!r} is no list, as [a, b], and no pairs, as {{a: 1}}") from None


def _written(item: Any) -> str:
    if isinstance(item, str):  # in quotes where a bare one would be read as something else
        return json.dumps(item) if item != item.strip() or any(each in item for each in ',[]{}"=') else item
    return json.dumps(dict(item) if isinstance(item, Mapping) else [*item] if isinstance(item, (list, tuple)) else item)


def _written_default(setting: Field[Any]) -> str | None:
    """As `_written`; None of a setting that has no default."""
    default = _default(setting)
    return None if default is MISSING else _written(default)


def _default(setting: Field[Any]) -> Any:
    return setting.default if setting.default_factory is MISSING else setting.default_factory()


def _example(kind: type[Launcher]) -> str:
    return f"{kind.name}:{fields(kind)[0].name}=..."
