"""The families' tables, found by name, and what their entries take."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from .errors import SpecError, shown, unknown
from .values import parsed

# The tables stand above this module, and Spec must check names against them: they are found by name when first
# needed, so that nothing here imports upwards.
TABLES = {
    "dataset": "datasets.DATASETS",
    "model": "models.MODELS",
    "task": "tasks.TASKS",
    "optimizer": "optimizers.OPTIMIZERS",
    "schedule": "optimizers.SCHEDULES",
    "strategy": "strategies.STRATEGIES",
}
LISTED = {
    "transform": "transforms.TRANSFORMS",
    "compressor": "compressors.COMPRESSORS",
    "metric": "metrics.METRICS",
}
"""Families of which a field lists several: `transforms`, `compress` and `metrics`."""


def table(field: str) -> dict[str, Any]:
    """The table of a family by its Spec field: `table("model")` is MODELS."""
    module, name = (TABLES | LISTED)[field].split(".")
    return getattr(importlib.import_module(f".{module}", __package__), name)


def weights(name: str) -> Path:
    """The folder of weights that others trained, see `lepton_lab.weights`."""
    folder: Path = importlib.import_module(".datasets.weights", __package__).weights(name)
    return folder


def trait(field: str, name: str, what: str) -> Any:
    """What an entry of a family says of itself, as an attribute; None where it says nothing, or is a user's own."""
    return getattr(table(field).get(name), what, None)


def meant(task: str, dataset: str) -> str:
    """A task's name: of "auto" that of the first task that a data set of the table says it is for, if it says one."""
    return next(iter(trait("dataset", dataset, "tasks") or ()), task) if task == "auto" else task


def does(model: str, task: str) -> bool:
    """Whether a model of the table is for a task: says so, or says of no task that it is for it, and any will do."""
    tasks = trait("model", model, "tasks")
    return task in tasks if tasks else trait("task", task, "table_models") is not False


def pick(table: Mapping[str, Any], name: str, field: str) -> Any:
    """The entry of a table; an unknown name is a SpecError that lists the known ones and the nearest."""
    if name not in table:
        raise SpecError(f"{field}={name!r}: {unknown(field, name, [*table, *forms(table)])}")
    return table[name]


def forms(table: Mapping[str, Any]) -> list[str]:
    """How names are written that a table knows beside those that it lists: "images:PATH" of data sets."""
    return list(getattr(table, "forms", ()))


def everything(field: str) -> list[Callable[..., Any]]:
    """The entries of a family, and those that its table has beside the listed ones."""
    return [*table(field).values(), *getattr(table(field), "openers", {}).values()]


def listed(family: str, names: Any) -> list[str]:
    """Names of a family's entries, each once, of a list or of text with commas between; SpecError of an unknown one."""
    if isinstance(names, str):
        with contextlib.suppress(ValueError):
            names = parsed(names) if names.lstrip().startswith("[") else names.split(",")
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise SpecError(f"{family}s={shown(names)}: must be names of {family}s, such as {list(table(family))[:2]}")
    wanted = dict.fromkeys(name.strip() if isinstance(name, str) else name for name in names)
    for name in wanted:
        if name and (not isinstance(name, str) or name not in table(family)):
            raise SpecError(f"{family}s={shown(name)}: {unknown(family, str(name), table(family))}")
    return [name for name in wanted if name]


def entries(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a spec's fields choose of the tables: family and name, metrics last; less fields that are not there."""
    named = [(field, fields[field]) for field in TABLES if field in fields]
    return named + [("metric", name) for name in fields.get("metrics", ())]


def keywords(entry: Callable[..., Any]) -> dict[str, FieldInfo]:
    """
    Keyword-only arguments of a table's entry: its options, with default, type, range and meaning.

    The range is declared in the signature: ``dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0``; the meaning stands
    in the docstring's section Parameters, of a class in its own or an inherited one.
    """
    maker = entry.__init__ if isinstance(entry, type) else entry  # type: ignore[misc]  # where a class has its options
    names = vars(sys.modules[maker.__module__])
    options = {}
    about = meanings(entry)
    for p in inspect.signature(entry).parameters.values():
        if p.kind is p.KEYWORD_ONLY:
            # Only these: other annotations may name types that are imported for checkers alone.
            kind = eval(p.annotation, names) if isinstance(p.annotation, str) else p.annotation
            rule = FieldInfo.from_annotated_attribute(type(p.default) if kind is p.empty else kind, p.default)
            rule.description = about.get(p.name, "")
            options[p.name] = rule
    return options


def entry_options(field: str, name: str) -> dict[str, FieldInfo]:
    """Options of an entry, by the field and the name that choose it; none of a user's own."""
    entry = table(field).get(name)
    return keywords(entry) if entry else {}


@lru_cache(maxsize=256)
def meanings(entry: Callable[..., Any]) -> dict[str, str]:
    """What a docstring's section Parameters says, by name."""
    found: dict[str, str] = {}
    for documented in reversed(entry.__mro__) if isinstance(entry, type) else [entry]:
        text = inspect.cleandoc(documented.__doc__ or "")
        section = re.search(r"^Parameters\n-+\n(.*?)(?=\n\n\S|\Z)", text, re.DOTALL | re.MULTILINE)
        for names, meaning in re.findall(r"^(\S.*)\n((?:    .*\n?|\n)+)", section[1] if section else "", re.MULTILINE):
            found |= dict.fromkeys(names.split(", "), " ".join(meaning.split()))
    return found
