"""Parameters of a notebook: what papermill injects, or text that YAML made of a number, becomes what is annotated."""

from __future__ import annotations

import ast
import contextlib
import os
from collections.abc import Iterable, Mapping
from types import NoneType, SimpleNamespace, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from . import watched
from .errors import FINITE, SpecError, must, nearest, shown, unknown
from .links import LISTS, canonical
from .spec import CELL, Spec
from .tables import TABLES, listed, pick, table
from .values import parsed

PROFILE = "LEPTON_LAB_PROFILE"
PROFILES = ("full", "smoke", "tiny")
INJECTED = "# Parameters"
"""The first line of the cell that papermill puts after the one that is tagged `parameters`."""
COLLECTIONS = (list, tuple, dict, set)


def parameters(
    namespace: dict[str, Any], smoke: Mapping[str, Any] | None = None, tiny: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """
    Check a notebook's parameters: call it as ``lab.parameters(globals())`` in the cell after the tagged one.

    A parameter is a variable that is annotated, such as ``lr: float = 1e-3  # learning rate``. Text is taken for the
    type that is annotated ("1e-3", "2", "true", "[0, 1]"), and what bears the name of a Spec field has to be within its
    bounds. What fields ask of one another is checked where the notebook makes its Spec.

    Parameters
    ----------
    namespace
        The notebook's ``globals()``; the checked values are put back into it.
    smoke
        Values in place of the defaults where the environment has LEPTON_LAB_PROFILE=smoke; what papermill injects wins
        over both.
    tiny
        Values in place of those of `smoke` where it has LEPTON_LAB_PROFILE=tiny, in which a notebook only shows that
        its cells run, within 20 seconds.

    Returns
    -------
    dict
        The checked values by name.

    Raises
    ------
    SpecError
        One sentence for each parameter that is unknown or ill-typed; the namespace is left as it was.
    """
    annotated = SimpleNamespace(__annotations__=dict(namespace.get("__annotations__", {})))
    hints = get_type_hints(annotated, namespace, include_extras=True)
    hints = {name: hint for name, hint in hints.items() if not name.startswith("_")}
    injected = _injected(namespace.get("_ih", ()))
    profile = _profile()
    small = {} if profile == "full" else {**(smoke or {}), **((tiny or {}) if profile == "tiny" else {})}
    values = {**{name: namespace[name] for name in hints if name in namespace}, **small}
    values |= {name: namespace[name] for name in injected if name in namespace}
    checked, refused = {}, []
    for name in dict.fromkeys([*hints, *values]):
        try:
            checked[name] = _checked(name, values, hints)
        except SpecError as error:
            refused.append(str(error))
    if refused:
        raise SpecError("\n".join(refused))
    if shrunk := ", ".join(f"{name}={shown(checked[name])}" for name in small if name not in injected):
        print(f"{PROFILE}={profile}: {shrunk}. Set other values in a cell below this one.")
    namespace.update(checked)
    return checked


def _profile() -> str:
    """The profile that the environment names."""
    name = os.environ.get(PROFILE) or PROFILES[0]
    if name not in PROFILES:
        raise SpecError(f"{PROFILE}={name!r}: must be {' or '.join(PROFILES)}{nearest(name, PROFILES)}")
    return name


def _injected(cells: Iterable[str]) -> list[str]:
    """Names that the latest cell of papermill's assigns; nothing else is in such a cell."""
    names: list[str] = []
    for source in cells:
        if source.split("\n", 1)[0].strip() == INJECTED:
            try:
                lines = ast.parse(source).body
            except SyntaxError:  # a cell of the user's own, who saw its error
                continue
            targets = [line.targets[0] for line in lines if isinstance(line, ast.Assign)]
            assigned = [target.id for target in targets if isinstance(target, ast.Name)]
            if len(assigned) == len(lines):
                names = assigned
    return names


def _checked(name: str, values: Mapping[str, Any], hints: Mapping[str, Any]) -> Any:
    """One parameter as its annotation, and the Spec field of its name, take it."""
    if name not in hints:
        raise SpecError(f"{name}={shown(values[name])}: {unknown('parameter', name, hints)}")
    if name not in values:
        raise SpecError(f"{name}: has no default, so it must be given: papermill NOTEBOOK OUT -p {name} VALUE")
    field = Spec.model_fields.get(name)
    if name == "metrics" and isinstance(values[name], str):
        values = {**values, name: listed("metric", values[name])}
    meaning = (field.description or "").rstrip(".") if field else "a parameter of this notebook"
    value = _fitted(name, values[name], FieldInfo.from_annotation(hints[name]), meaning)
    if field is None:
        return value
    if name in LISTS:
        return canonical(value or [], LISTS[name])
    if name == "stop_early":
        return watched.canonical(value)
    if name == "metrics":
        return listed("metric", value or [])
    value = _fitted(name, value, field, meaning)
    if name in TABLES and not str(value).startswith(CELL):
        pick(table(name), value, name)
    return value


def _fitted(name: str, value: Any, rule: FieldInfo, meaning: str) -> Any:
    """A value as a type takes it, by pydantic's rules but that true is no number."""
    plain = value
    if isinstance(value, str) and (get_origin(rule.annotation) or rule.annotation) in COLLECTIONS:
        with contextlib.suppress(ValueError):  # text that is neither JSON nor YAML stays as it is
            plain = parsed(value)
    if isinstance(plain, bool) and rule.annotation in (int, float):
        plain = str(plain)
    kind: Any = Annotated[(rule.annotation, *rule.metadata)] if rule.metadata else rule.annotation
    try:
        return TypeAdapter(kind, config=FINITE).validate_python(plain)
    except ValidationError as error:
        errors = error.errors()
    if get_origin(rule.annotation) in (Union, UnionType):
        kinds = dict.fromkeys(must(each, rule).removeprefix("must be ") for each in errors)
        kinds |= {"None": None} if NoneType in get_args(rule.annotation) else {}
        raise SpecError(f"{name}={shown(value)}: must be {' or '.join(kinds)} ({meaning})")
    first = errors[0]
    place = "".join(f"[{part!r}]" for part in first["loc"])
    what = first["input"] if place else value
    hint = f"; `papermill -r {name} TEXT` keeps text as it is" if first["type"] == "string_type" else ""
    raise SpecError(f"{name}{place}={shown(what)}: {must(first, rule)} ({meaning}{hint})")
