"""What there is: each data set, and weights, with its kind, size and licence, and whether it is here."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import EXTRAS, SpecError, brings, shown, unknown
from ..files import data_root, sized
from ..host import memory_let
from ..preparation import told_of
from ..tables import table
from .files import commands, find, missing, source_of
from .pretrained import WEIGHTS
from .sources import SOURCES


def overview(table: Mapping[str, Callable[..., Any]], root: Path) -> list[dict[str, Any]]:
    """A record for each data set of a table, and for weights; nothing is read."""
    return [record(name, root, dataset) for name, dataset in table.items()] + [record(name, root) for name in WEIGHTS]


def record(name: str, root: Path, dataset: Any = None) -> dict[str, Any]:
    """What is known of a data set, or of weights, without reading it: as JSON takes it."""
    source = source_of(name) if name in SOURCES or dataset is None else None
    return {
        "name": name,
        "kind": told_of(dataset, {})[0] if dataset else "weights",
        "samples": getattr(dataset, "samples", 0),
        "bytes": source.size if source else 0,
        "licence": source.licence if source else getattr(dataset, "licence", "") or "made here",
        "here": not missing(name, root) if source else True,
    }


def details(name: str, root: Path, dataset: Any = None) -> dict[str, Any]:
    """All that `record` tells, and: what it is, where it lies, its digests, and how it may be had by hand."""
    about = record(name, root, dataset)
    about["about"] = _told(dataset) if dataset else source_of(name).about
    if name not in SOURCES and dataset is not None:
        return about
    source = source_of(name)
    paths = [path for file in source.files() if (path := find(name, root, file))]
    return about | {
        "folder": str(root / source.folder),
        "files": [str(path) for path in paths],
        "digests": digests(name),
        "urls": urls(name),
        "commands": commands(name),
        **({"read": source.read} if source.read else {}),
    }


def origin(name: str) -> dict[str, Any]:
    """Where a data set's files come from, for a run to keep: licence, digests, places; {} of what needs no files."""
    if name not in SOURCES:
        return {}
    return {
        "name": name,
        "licence": SOURCES[name].licence,
        "digests": digests(name),
        "from": [*urls(name), *commands(name)],
    }


def digests(name: str) -> dict[str, str]:
    """The published MD5 or SHA-256 of each file, or of the archive that holds it."""
    source = source_of(name)
    found = {file: digest for files in source.archives.values() for file, digest in files.items() if digest}
    found |= {archive.file: archive.digest for archive in source.others if archive.digest}
    return found | {tree: digest for archive in source.others for tree, digest in archive.trees.items()}


def urls(name: str) -> list[str]:
    """Mirrors of a data set, or of weights."""
    source = source_of(name)
    return [*source.mirrors, *(url for archive in source.others for url in archive.urls)]


def available(instead: Mapping[str, str], memory: Mapping[str, float] | None = None) -> set[str]:
    """
    Which of some data sets, weights and libraries are here; prints how to get the others, and fetches nothing.

    Parameters
    ----------
    instead
        Name of a data set, of weights, or of a library of an extra -> what is done without it, in words.
    memory
        Name -> GB (10^9 bytes) that all processes take together with it; where this machine, or container, has less,
        it does not count as here.

    Returns
    -------
    set of str
        The names of those that are here.

    Raises
    ------
    SpecError
        If a name is none of these, or `memory` has one that is not asked for.
    """
    root, most = data_root(), memory_let()
    ways = dict.fromkeys([*table("dataset"), *SOURCES, *WEIGHTS, *EXTRAS])
    lacking = {}
    if not isinstance(instead, Mapping):
        raise SpecError(f"instead={shown(instead)}: must be a dict, of names and what is done without each, in words")
    needed = {} if memory is None else memory
    if not isinstance(needed, Mapping):
        raise SpecError(f"memory={shown(memory)}: must be a dict, of names and the GB that each takes")
    for name, size in needed.items():
        if name not in instead:
            raise SpecError(f"memory: {name!r}: {unknown('name', str(name), instead, 'here')}")
        if isinstance(size, bool) or not isinstance(size, (int, float)) or not 0 <= size < math.inf:
            raise SpecError(f"memory: {name!r} takes {shown(size)}: must be a number of GB, 0 or more")
    large = {name for name, size in needed.items() if size * 1e9 > most}
    for name in instead:
        if name not in ways:
            raise SpecError(f"{name!r}: {unknown('data set, weights or library', str(name), ways)}")
        if name in EXTRAS:
            if command := brings(name):
                lacking[name] = f"`{command}` brings it"
        elif (name in SOURCES or name in WEIGHTS) and missing(name, root):
            lacking[name] = f"`lepton-lab data get {name}` brings it, {sized(source_of(name).size)}"
    for name in instead:
        if name in large:  # and no use to be brought
            room = f"it takes {needed[name]:g} GB of memory, and there are {most / 1e9:.1f} here"
            print(f"{name} is left out ({room}): {instead[name]}.")
        elif name in lacking:
            print(f"{name} is not here ({lacking[name]}): {instead[name]}.")
    return set(instead) - set(lacking) - large


def _told(dataset: Any) -> str:
    """A data set's docstring, but for what it takes and raises."""
    text = inspect.getdoc(dataset) or ""
    return re.split(r"\n\n\w+\n-+\n", text)[0]
