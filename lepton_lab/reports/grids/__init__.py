"""Grids: a file of fields and axes becomes the specs of many runs, all of them checked before any starts."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from ...errors import LabError, SpecError, shown, unknown
from ...launchers import HERE, Launcher, written
from ...run.checks import glance, named
from ...spec import Spec
from ..index import label

KEYS = ("base", "axes", "seeds", "on")
MOST = 1000  # runs of a grid
EXAMPLE = "axes: {lr: [1e-3, 1e-2]}"


@dataclass(frozen=True)
class Cell:
    """One run of a grid."""

    spec: Spec
    fields: tuple[str, ...]
    """Fields that set it apart from the grid's other runs."""
    device: str
    """"cuda" or "cpu"."""
    exact: bool = False
    """Whether its label has all digits, since another's would be the same."""

    @property
    def values(self) -> dict[str, Any]:
        """What sets it apart."""
        return {name: getattr(self.spec, name) for name in self.fields}

    @property
    def label(self) -> str:
        """The same in a few words, such as `lr=0.001, seed=0`."""
        return label(self.values, self.exact)

    @property
    def digest(self) -> str:
        """Of all that the spec says but its name: the same for runs that compute the same."""
        content = {name: value for name, value in self.spec.to_dict().items() if name != "name"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Grid:
    """What a grid file asks for."""

    path: Path
    text: str
    """The file as it is."""
    name: str
    cells: tuple[Cell, ...]
    on: Launcher
    """Where its runs go."""


def read(path: str | os.PathLike[str]) -> Grid:
    """
    The grid in a YAML file: `base` has fields that all runs share, `axes` a list of values for each of some fields.

    `seeds` is short for an axis of the field `seed`. Each combination is a run; seeds change fastest. `on` says where
    they run: `local`, or a launcher with its settings, such as `{torchrun: {nodes: 2, hosts: [node1, node2]}}`.

    A SpecError has one sentence for each thing refused: a key or field that is unknown, an axis without values, a
    combination that comes twice or that Spec refuses, more ranks than this machine takes.
    """
    path = Path(path)
    text, values = _mapping(path)
    try:
        base, axes = _fields(values)
        on = written(values.get("on", HERE.name))
        return Grid(path, text, str(base.get("name") or path.stem), _cells(base, axes, on), on)
    except LabError as error:
        raise SpecError("\n".join(f"grid {path.name!r}: {line}" for line in str(error).splitlines())) from None


def _mapping(path: Path) -> tuple[str, dict[str, Any]]:
    """The file's text and its pairs; one that YAML would silently let the last of two equal keys win is refused."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            names = [key.value for key, _ in node.value]
            for name in (name for name in names if names.count(name) > 1):
                raise yaml.YAMLError(f"{name!r} comes twice")
            for key in (key for key, _ in node.value if key.value == "on"):
                key.tag = "tag:yaml.org,2002:str"  # which YAML takes for true
            return super().construct_mapping(node, deep)

    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.load(text, Loader)
    except OSError as error:
        raise SpecError(f"grid {str(path)!r} can't be read: {error.strerror}") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise SpecError(f"grid {str(path)!r} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise SpecError(f"grid {path.name!r} must be lines of `key: value` with {', '.join(KEYS)}, such as {EXAMPLE}")
    return text, {str(key): value for key, value in values.items()}


def _fields(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Base and axes by field, seeds among the axes."""
    for key in values:
        if key not in KEYS:
            raise SpecError(f"{key}: {unknown('key', key, KEYS)}")
    base, axes = (values.get(key) or {} for key in ("base", "axes"))
    for key, pairs in (("base", base), ("axes", axes)):
        if not isinstance(pairs, dict):
            raise SpecError(f"{key}={shown(pairs)}: must be pairs of field and value, such as {EXAMPLE}")
    if "seeds" in values:
        if "seed" in axes:
            raise SpecError("seeds and axes.seed: are the same; leave one of them out")
        axes = {**axes, "seed": values["seeds"]}
    for name, axis in axes.items():
        _axis(f"axes.{name}" if name != "seed" or "seeds" not in values else "seeds", name, axis)
        if name in base:
            raise SpecError(f"{name}: is in base and in axes; leave it in one of them")
    return base, axes


def _axis(place: str, name: str, axis: Any) -> None:
    """Refuse what is no axis."""
    if name == "name":
        raise SpecError(f"{place}: runs are named by what sets them apart; a name for all of them belongs into base")
    if name not in Spec.model_fields:
        raise SpecError(f"{place}: {unknown('field', str(name), Spec.model_fields)}")
    if not isinstance(axis, list):
        raise SpecError(f"{place}={shown(axis)}: must be a list of values, such as [{shown(axis)}]")
    if not axis:
        raise SpecError(f"{place}=[]: an axis needs at least one value; give it some, or leave it out")


def _cells(base: Mapping[str, Any], axes: Mapping[str, list[Any]], on: Launcher) -> tuple[Cell, ...]:
    """All combinations, each as a spec that can be launched there."""
    if (count := prod(map(len, axes.values()))) > MOST:
        raise SpecError(f"axes: make {count:,} runs; at most {MOST:,}, so take some values out")
    cells: dict[str, Cell] = {}
    refused: dict[str, str] = {}
    for values in product(*axes.values()):
        combination = dict(zip(axes, values, strict=True))
        try:
            cell = _cell(base, combination, on)
        except LabError as error:
            where = ", ".join(f"{name}={value}" for name, value in combination.items())
            for line in str(error).splitlines():
                refused.setdefault(line, where)
            continue
        if cell.digest in cells:
            raise SpecError(f"axes: {cell.label} comes twice; name each value once")
        cells[cell.digest] = cell
    if refused:
        raise SpecError("\n".join(f"{line}{_at(line, where)}" for line, where in refused.items()))
    alike = Counter(cell.label for cell in cells.values())
    return tuple(_called(replace(cell, exact=alike[cell.label] > 1)) for cell in cells.values())


def _cell(base: Mapping[str, Any], combination: Mapping[str, Any], on: Launcher) -> Cell:
    """The run of a combination; refused where it can't be run there."""
    spec = named(Spec(**{str(name): value for name, value in {**base, **combination}.items()}), {})
    allowed = glance(spec, on=on)
    return Cell(allowed.spec, tuple(combination), allowed.device)


def _called(cell: Cell) -> Cell:
    """A run with a name that says what sets it apart."""
    own, apart = cell.spec.name, cell.label if cell.fields else ""
    name = f"{own}: {apart}" if own and apart else own or apart
    longest = next(rule.max_length for rule in Spec.model_fields["name"].metadata if hasattr(rule, "max_length"))
    return replace(cell, spec=cell.spec.replace(name=name)) if len(name) <= longest else cell


def _at(line: str, where: str) -> str:
    """Which combination is meant, where the sentence concerns several of its fields."""
    return f" (at {where})" if where and "," in where and not where.startswith(line.split(":")[0]) else ""
