"""The runs under the root: all of them, and the one that an id or a name means."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ..errors import LabError
from ..files import cache, home, locked, remote
from .folder import RunFolder
from .objects import link, starting
from .objects.following import refresh

SHOWN = 5  # runs listed in a sentence


def folders() -> list[RunFolder]:
    """All run folders under `home()/runs`, newest first; those that this version can't read are left out."""
    if address := remote():
        refresh(address)
        if any(link.waits(path) for path in (home() / "runs").glob("[!.]*")):
            starting.begin()
    return _folders(home() / "runs")


def _folders(root: Path) -> list[RunFolder]:
    readable = []
    for path in sorted(root.glob("[!.]*"), reverse=True):
        with contextlib.suppress(LabError, OSError, ValueError, KeyError, TypeError):
            readable.append(RunFolder(path))
    return sorted(readable, key=lambda folder: folder.created, reverse=True)


def find(id: str | None = None) -> RunFolder:
    """
    The run folder of an id or a name, or of the beginning of either where it fits one run alone; None is the latest.

    Raises
    ------
    LabError
        If there is none, or are several; the sentence names the nearest, or those that are meant.
    """
    root, address = home() / "runs", remote()
    if isinstance(id, str) and "://" in id:
        address, id = addressed(id)
        root = cache(address) / "runs"
    if isinstance(id, str) and id and Path(id).name == id:
        with contextlib.suppress(OSError):  # a name longer than any file has
            if (root / id).is_dir():
                if address and not locked(root / id / "lock"):
                    refresh(address, id)
                return RunFolder(root / id)
    if address:
        refresh(address)
    candidates = _folders(root)
    if id is None:
        if not candidates:
            raise LabError(f"there are no runs yet under {str(root)!r}: start one with lab.launch(lab.Spec())")
        return candidates[0]
    matches = _matches(str(id), candidates)
    if len(matches) == 1:
        return matches[0]
    if matches:
        listed = ", ".join(" ".join(_names(folder)) for folder in matches[:SHOWN])
        rest = f", and {len(matches) - SHOWN} more" if len(matches) > SHOWN else ""
        raise LabError(f"run {id!r} may be any of {len(matches)}, newest first: {listed}{rest}; give more of an id")
    import difflib

    near = difflib.get_close_matches(str(id), [name for folder in candidates for name in _names(folder)], 1, 0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    others = f"`lepton-lab list` shows the {len(candidates)} there are" if candidates else "there are no runs yet"
    raise LabError(f"run {id!r} does not exist under {str(root)!r}; {hint}{others}")


def addressed(text: str) -> tuple[str, str | None]:
    """The store and the run of an address: of s3://bucket/prefix/runs/ID, or of s3://bucket/prefix for its latest."""
    address, _, id = text.rstrip("/").rpartition("/runs/")
    return (address, id) if address else (id, None)


def _matches(text: str, candidates: list[RunFolder]) -> list[RunFolder]:
    """The runs of a name; else those whose id or name begins so."""
    named = [folder for folder in candidates if text and text in _names(folder)[1:]]
    return named or [folder for folder in candidates if text and any(name.startswith(text) for name in _names(folder))]


def _names(folder: RunFolder) -> list[str]:
    """What a run may be called by."""
    return [folder.id, *filter(None, [folder.labels.get("name", folder.spec.name)])]
