"""Names such as `images:photos/`: which kind opens which path, and where that path lies."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ...errors import LabError, SpecError, fitted, shown
from ...files import absolute, data_root
from ...tables import keywords
from ..base import Data, Sample
from ..sharded.places import expanded
from .files import files
from .looking import Look

Opener = Callable[..., Data]


class Opened:
    """
    A data set by path, as an entry of DATASETS is: called with `(root, seed, **options)`, it gives Data.

    Name, docstring and options are those of the kind's opener.

    Parameters
    ----------
    kind, path
        As the name has them.
    opener
        `(path, root, seed, **options) -> Data`. Its attribute `look`, `(path, **options) -> Look`, tells what there is
        without reading everything, and refuses what can't be used; without one the data are read. `kind` says what
        samples are, a name of `preparation.KINDS`, where their shape does not; `tasks` what they are for alone, or
        `path -> tasks`.
    """

    def __init__(self, kind: str, path: str, opener: Opener) -> None:
        functools.update_wrapper(self, opener, updated=())  # whose `look` is behind ours
        self.name, self.path, self._opener = f"{kind}:{path}", path, opener
        self.kind = getattr(opener, "kind", "")

    def __call__(self, root: Path, seed: int, **options: Any) -> Data:
        """The data; SpecError where nothing can be made of what lies there."""
        return self._opener(place(self.path, root), root, seed, **options)

    @property
    def tasks(self) -> Sequence[str]:
        """What it is for alone; nothing where that is not said, or what lies there can't be read."""
        told = getattr(self._opener, "tasks", ())
        if not callable(told):
            return cast("Sequence[str]", told)
        try:
            return cast("Sequence[str]", told(place(self.path, data_root())))
        except SpecError:  # which who opens it says
            return ()

    @property
    def sample(self) -> Sample:
        """What models are told of it, without options: see `outline`."""
        return self.outline({})

    def outline(self, options: Mapping[str, Any]) -> Sample:
        """
        The shape of one sample, the number of classes, and kinds of tokens, under those of the options that it takes.

        Raises
        ------
        SpecError
            If nothing can be made of what lies there, or nothing lies there.
        """
        known = keywords(self)
        own = {option: value for option, value in options.items() if option in known}
        return self.look(**taken(self.name, self, own)).sample

    def look(self, **options: Any) -> Look:
        """What there is, as far as that is seen without training; SpecError as of `outline`."""
        root = data_root()
        where = place(self.path, root)
        look = getattr(self._opener, "look", None)
        return look(where, **options) if look else Look.of(self.name, self._opener(where, root, 0, **options))


class Named(dict[str, Callable[..., Data]]):
    """
    Data sets by name; a name `KIND:PATH` of a known kind has an entry too, which is not listed.

    Parameters
    ----------
    named
        The listed ones.
    openers
        By kind.
    """

    def __init__(self, named: Mapping[str, Callable[..., Data]], openers: Mapping[str, Opener]) -> None:
        super().__init__(named)
        self.openers = openers

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and parted(name)[0] in self.openers)

    def __missing__(self, name: str) -> Opened:
        kind, path = parted(name)
        return Opened(kind, path, self.openers[kind])

    def get(self, name: str, default: Any = None) -> Any:  # dict's own asks no __missing__
        """The entry of a name, listed or by path."""
        return self[name] if name in self else default  # noqa: SIM401

    @property
    def forms(self) -> list[str]:
        """How names that are not listed are written: "images:PATH"."""
        return [f"{kind}:PATH" for kind in self.openers]


def taken(name: str, entry: Callable[..., Data], options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a data set as it takes them; SpecError of one that it does not."""
    rules = {option: (rule, f"dataset={name!r}") for option, rule in keywords(entry).items()}
    return fitted(options, rules, lambda option, value: f"options={{{option!r}: {shown(value)}}}", f"of {name}")


def parted(name: str) -> tuple[str, str]:
    """The kind and the path of a name; both "" of one that has no path."""
    kind, mark, path = name.partition(":")
    return (kind, path) if mark and path.strip() else ("", "")


def remote(path: str) -> bool:
    """Whether a path is an address, such as https://host/data.tar or s3://bucket/data."""
    return "://" in path


def place(path: str, root: Path) -> str:
    """
    Where a path leads, in full: from the working directory, or where nothing lies there from the root of data.

    An address stays as it is.
    """
    if remote(path):
        return path
    try:
        here = absolute(path, "dataset")
    except LabError as error:
        raise SpecError(str(error)) from None
    there = root / path
    return os.path.normpath(there if not _exists(here) and _exists(there) else here)


def _exists(path: Path) -> bool:
    """Whether something lies there; of a name with braces, the first that they stand for."""
    with contextlib.suppress(SpecError):  # a file may have braces in its name
        return path.exists() or Path(expanded(str(path))[0]).exists()
    return False


def record(name: str, openers: Mapping[str, Opener]) -> dict[str, Any] | None:
    """What provenance says of the files that a name leads to; None where it leads to none of this machine's."""
    kind, path = parted(name)
    if kind not in openers or remote(path):
        return None
    with contextlib.suppress(SpecError):  # gone since the launch, which the run itself tells
        return {"name": f"{kind}:{path}", **files(kind, place(path, data_root())).record()}
    return None


def settled(name: str, openers: Mapping[str, Opener]) -> str:
    """
    A data set's name as a run keeps it: a path in full.

    A Spec keeps what was written, so that its YAML holds on another machine; a run's record must lead to the same files
    from any working directory: for its ranks, a resume, a child and whoever repeats it.
    """
    kind, path = parted(name)
    return f"{kind}:{place(path, data_root())}" if kind in openers else name
