"""Lists of a family's entries with their options, in their one canonical form: chains of compressors, transforms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .errors import SpecError, fitted, shown, unknown
from .tables import keywords, table
from .values import parsed

Link = dict[str, dict[str, Any]]


class Words(NamedTuple):
    """How the sentences about a list call it."""

    field: str
    family: str
    one: str
    """What an item is called."""
    forms: str
    """How one may be written."""


LISTS = {
    "compress": Words(
        "compress",
        "compressor",
        "link",
        'a name, such as "quantize"; a pair, such as ("prune", 0.5); or {"prune": {"ratio": 0.5, "rounds": 2}}',
    ),
    "transforms": Words(
        "transforms",
        "transform",
        "transform",
        'a name, such as "flip"; a pair, such as ("crop", 4); or {"crop": {"padding": 4, "fill": "reflect"}}',
    ),
}
"""By field of Spec."""


def canonical(value: Any, words: Words) -> list[Link]:
    """
    A list in its one form: [{name: {option: value}}, ...], with the options that were given, checked and converted.

    It may come as a list of items, each in one of the forms of `words`; as one item; or as either in YAML or JSON text.
    An item or option that is refused is a SpecError.
    """
    refusal = f"{words.field}={{}}: must be a list of {words.one}s, each {words.forms}"
    try:
        items = parsed(value) if isinstance(value, str) else value
    except ValueError:
        raise SpecError(refusal.replace("{}", shown(value), 1)) from None
    if items is None:
        return []
    if isinstance(items, (str, Mapping)):
        items = [items]
    if not isinstance(items, (list, tuple)):
        raise SpecError(refusal.replace("{}", shown(items), 1))
    return [{name: _options(name, given, words)} for name, given in (_pair(item, words) for item in items)]


def links(items: list[Link]) -> list[tuple[str, dict[str, Any]]]:
    """Name and options of each item."""
    return [next(iter(item.items())) for item in items]


def _pair(item: Any, words: Words) -> tuple[str, Any]:
    """Name and options of an item, or the value of its first option."""
    if isinstance(item, str):
        item = (item, {})
    if isinstance(item, Mapping) and len(item) == 1:
        item = next(iter(item.items()))
    if not isinstance(item, (list, tuple)) or len(item) not in (1, 2) or not isinstance(item[0], str):
        raise SpecError(f"{words.field}: {shown(item)} is no {words.one}; a {words.one} is {words.forms}")
    name, value = (*item, {})[:2]
    if name not in (names := table(words.family)):
        raise SpecError(f"{words.field}={shown(name)}: {unknown(words.family, name, names)}")
    return name, value


def _options(name: str, value: Any, words: Words) -> dict[str, Any]:
    """An item's options, checked; a value that is no mapping is that of the first option."""
    known = keywords(table(words.family)[name])
    rules = {option: (rule, f"{words.family} {name!r}") for option, rule in known.items()}
    options = {} if value is None else value if isinstance(value, Mapping) else _first(name, value, [*rules], words)

    def show(option: str, value: Any) -> str:
        return f"{words.field}={{{name!r}: {{{option!r}: {shown(value)}}}}}"

    return fitted(options, rules, show, f"of {name}")


def _first(name: str, value: Any, options: list[str], words: Words) -> dict[str, Any]:
    if not options:
        raise SpecError(f"{words.field}={{{name!r}: {shown(value)}}}: {name} has no options; leave the value out")
    return {options[0]: value}
